"""TURN credentials, as coturn's use-auth-secret checks them."""

import base64
import hashlib
import hmac

from analytics.measurement import Rung
from server.turn import Relays, credential


def test_a_credential_is_what_coturn_computes() -> None:
    username, password = credential("north", "pacs", 1_900_000_000)
    assert username == "1900000000:pacs"
    expected = hmac.new(b"north", b"1900000000:pacs", hashlib.sha1).digest()
    assert base64.b64decode(password) == expected


def test_a_url_without_a_transport_is_offered_over_both() -> None:
    relays = Relays(("turn:192.0.2.1:3478", "turn:192.0.2.2:443?transport=tcp"), "north")
    assert [server.url for server in relays.ice_servers("pacs", 0)] == [
        "turn:192.0.2.1:3478?transport=udp",
        "turn:192.0.2.1:3478?transport=tcp",
        "turn:192.0.2.2:443?transport=tcp",
    ]


def test_without_a_relay_the_ladder_has_direct_rungs_only() -> None:
    assert not any(rung.relayed for rung in Relays().rungs())
    assert Relays().ice_servers("pacs", 0) == []
    assert Relays(("turn:192.0.2.1:3478",), "north").rungs()[-2:] == [Rung.RELAY_UDP, Rung.RELAY_TCP]


def test_a_turn_server_over_tls_is_a_rung_of_its_own() -> None:
    relays = Relays(("turns:turn.example:443",), "north")
    assert [server.url for server in relays.ice_servers("pacs", 0)] == [
        "turns:turn.example:443?transport=tcp"
    ]
    assert relays.rungs()[3:] == [Rung.RELAY_TLS]
    both = Relays(("turns:turn.example:443?transport=tcp", "turn:turn.example:3478"), "north")
    assert both.rungs()[3:] == [Rung.RELAY_UDP, Rung.RELAY_TCP, Rung.RELAY_TLS]
