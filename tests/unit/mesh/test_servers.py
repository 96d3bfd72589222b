"""Which server serves which rung, and why one gave no address."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from agent.errors import RungError
from agent.identity import load_or_create
from agent.mesh import ice, servers
from agent.mesh.servers import Means
from agent.mesh.stamps import StampingLoop
from analytics.measurement import Rung
from analytics.wire import IceServer


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        return runner.run(main)


@pytest.mark.parametrize(
    ("url", "rung"),
    [
        ("stun:192.0.2.1:3478", None),
        ("turn:192.0.2.1:3478?transport=udp", Rung.RELAY_UDP),
        ("turn:192.0.2.1:3478", Rung.RELAY_UDP),
        ("turn:192.0.2.1:3478?transport=tcp", Rung.RELAY_TCP),
        ("turns:turn.example:443?transport=tcp", Rung.RELAY_TLS),
    ],
)
def test_a_url_serves_one_rung(url: str, rung: Rung | None) -> None:
    assert servers.relay_rung(url) is rung


def test_a_relay_over_tls_is_reached_by_name_and_verified() -> None:
    means = Means([IceServer(url="turns:turn.example:443", username="u", credential="p")])
    given = run(servers.options(Rung.RELAY_TLS, means))
    assert given["turn_server"] == ("turn.example", 443)
    assert given["turn_ssl"].verify_mode is ssl.CERT_REQUIRED
    assert given["turn_ssl"].check_hostname


def test_why_a_server_is_not_asked_is_what_its_rung_says() -> None:
    whys = {Rung.RELAY_UDP: "cannot resolve turn.example: timeout", None: "[policy] does not name it"}
    means = Means([], ["127.0.0.1"], not_asked=whys)
    for rung, why in ((Rung.RELAY_UDP, whys[Rung.RELAY_UDP]), (Rung.SRFLX, whys[None]), (Rung.RELAY_TCP, "")):
        attempt = run(_closed(rung, means))
        assert attempt.trouble == why
    assert run(_closed(Rung.LAN, means)).candidates  # those of the host need no server


async def _closed(rung: Rung, means: Means) -> ice.Attempt:
    attempt = await ice.Attempt.open(rung, controlling=True, means=means)
    await attempt.close()
    return attempt


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_an_authority_that_does_not_read_is_one_error_with_its_file(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RungError, match=r"cannot read turn_ca .*ca\.crt"):
        servers.tls_context(path)


def gathered(rung: Rung, url: str, turn_ca: Path | None = None) -> ice.Attempt:
    async def main() -> ice.Attempt:
        means = Means([IceServer(url=url, username="u", credential="p")], ["127.0.0.1"], turn_ca)
        attempt = await ice.Attempt.open(rung, controlling=True, means=means)
        await attempt.close()
        return attempt

    attempt: ice.Attempt = run(main())
    assert attempt.empty
    assert attempt.offer(rung).trouble == attempt.trouble
    return attempt


def test_why_a_relay_gave_no_address_is_told(tmp_path: Path) -> None:
    refused = gathered(Rung.RELAY_TCP, "turn:127.0.0.1:9?transport=tcp")
    assert refused.trouble == "Connection refused"
    assert gathered(Rung.RELAY_UDP, "turn:127.0.0.1:9?transport=udp").trouble == "no answer in 1.5 s"
    missing = tmp_path / "ca.crt"
    assert "cannot read turn_ca" in gathered(Rung.RELAY_TLS, "turns:127.0.0.1:9", missing).trouble


def test_a_rung_without_a_server_has_nothing_to_offer() -> None:
    assert gathered(Rung.RELAY_TLS, "turn:127.0.0.1:9").trouble == ""


def test_a_certificate_of_nobody_we_trust_is_refused_by_name(tmp_path: Path) -> None:
    load_or_create(tmp_path, "somebody")

    async def main() -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "identity.pem")
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        means = Means([IceServer(url=f"turns:127.0.0.1:{port}", username="u", credential="p")], ["127.0.0.1"])
        attempt = await ice.Attempt.open(Rung.RELAY_TLS, controlling=True, means=means)
        await attempt.close()
        server.close()
        return attempt.trouble

    assert run(main()).startswith("its certificate is not trusted: ")


class Refusing(asyncio.DatagramProtocol):
    """A TURN server that answers the allocations it is asked for with these errors, the last one for ever."""

    def __init__(self, *errors: tuple[int, str]) -> None:
        self.asked_from: list[int] = []
        self._errors = errors

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        asked = ice.stun.parse_message(data)
        self.asked_from.append(addr[1])
        error = self._errors[min(len(self.asked_from), len(self._errors)) - 1]
        refusal = ice.stun.Message(asked.message_method, ice.stun.Class.ERROR, asked.transaction_id)
        refusal.attributes["ERROR-CODE"] = error
        self._transport.sendto(bytes(refusal), addr)


@pytest.mark.parametrize(
    ("errors", "asks"),
    [
        ([(437, "Allocation Mismatch")], 3),
        ([(437, "Allocation Mismatch"), (486, "Allocation Quota Reached")], 2),
        ([(486, "Allocation Quota Reached")], 1),
    ],
)
def test_where_the_port_is_taken_a_relay_is_asked_from_others(
    errors: list[tuple[int, str]], asks: int
) -> None:
    async def main() -> tuple[list[int], str]:
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(
            lambda: Refusing(*errors), local_addr=("127.0.0.1", 0)
        )
        url = f"turn:127.0.0.1:{transport.get_extra_info('sockname')[1]}?transport=udp"
        means = Means([IceServer(url=url, username="u", credential="p")], ["127.0.0.1"])
        attempt = await ice.Attempt.open(Rung.RELAY_UDP, controlling=True, means=means)
        await attempt.close()
        transport.close()
        return server.asked_from, attempt.trouble

    ports, trouble = run(main())
    assert len(ports) == len(set(ports)) == asks
    assert str(errors[-1][0]) in trouble
