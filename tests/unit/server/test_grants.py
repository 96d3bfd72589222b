"""What the server signs, and whose word it takes for a binding."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.identity import Identity, create
from analytics import wire
from analytics.channel import EnrolToken
from analytics.trust import Grant, ServerTime, fingerprint_bytes, unseal
from server.agent_rows import Agent
from server.errors import NameTakenError, StateError, TokenError
from server.grants import FILE_NAME, Signer
from server.state import State, create_token
from tests.unit.server.enrolling import enrolment
from tests.unit.server.test_signalling import hear, raw, say

Run = Callable[[Callable[[Any], Any]], None]

A, B, EVE = create("a"), create("b"), create("b")


def agent_of(identity: Identity) -> Agent:
    return Agent(
        tenant="default",
        name=identity.name,
        site="here",
        label="",
        services=(),
        fingerprint=identity.fingerprint,
        token_hash="",
        enrolled_us=0,
        seen_us=0,
        identity_key=identity.public_key,
    )


def test_the_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    assert Signer.open(tmp_path).public_key == Signer.open(tmp_path).public_key
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("damage", [b"", b"nonsense", "a certificate's key"])
def test_a_damaged_key_is_one_clear_error(tmp_path: Path, damage: bytes | str) -> None:
    from cryptography.hazmat.primitives import serialization

    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    other = A.key.private_bytes(serialization.Encoding.PEM, pkcs8, plain)
    (tmp_path / FILE_NAME).write_bytes(other if isinstance(damage, str) else damage)
    with pytest.raises(StateError, match="damaged") as caught:
        Signer.open(tmp_path)
    assert "backup" in caught.value.remedy


def test_a_grant_names_both_ends_and_lasts_as_long_as_the_test() -> None:
    now = {"wall": 1_000_000, "monotonic": 5_000}
    signer = Signer(
        Ed25519PrivateKey.generate(),
        wall_us=lambda: now["wall"],
        monotonic_ns=lambda: now["monotonic"],
        draw=bytes,
    )
    now["wall"] = 9_999_999_999_999  # a clock that is stepped moves no grant
    now["monotonic"] += 2_000_000_000
    given: dict[str, Any] = {
        "test": "t",
        "cycle": 7,
        "lasts_us": 65_000_000,
        "plan": wire.ProbePlan(),
        "most_s": 60,
    }
    sealed = signer.grant(src=agent_of(A), dst=agent_of(B), **given)
    grant = Grant.decode(unseal(sealed, signer.public_key))
    assert (grant.tenant, grant.test, grant.cycle, grant.src, grant.dst) == ("default", "t", 7, "a", "b")
    assert grant.src_fingerprint == fingerprint_bytes(A.fingerprint)
    assert grant.dst_fingerprint == fingerprint_bytes(B.fingerprint)
    assert (grant.issued_us, grant.expires_us) == (3_000_000, 68_000_000)
    assert (grant.most_probes, grant.most_s, grant.src_site, grant.dst_site) == (300, 60, "here", "here")


def test_time_is_signed_for_a_challenge_only() -> None:
    signer = Signer(Ed25519PrivateKey.generate())
    time = ServerTime.decode(unseal(signer.time(bytes(range(16))), signer.public_key))
    assert time.challenge == bytes(range(16))
    assert signer.time(b"") == signer.time(b"short") == b""


def hello(identity: Identity, **changes: Any) -> wire.Hello:
    given: dict[str, Any] = {
        "version": "1",
        "boot": "b",
        "challenge": bytes(16),
        "binding": identity.binding("default", now_s=0),
    }
    return wire.Hello(**(given | changes))


def test_orders_carry_the_grant_and_the_peers_own_binding(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        enrolled = {one.name: await site.enrol(one.name, one.name, identity=one) for one in (A, B)}
        server_key = enrolled["a"].reply.server_key
        async with raw(site, enrolled["a"]) as a, raw(site, enrolled["b"]) as b:
            for socket, identity in ((a, A), (b, B)):
                await say(socket, hello(identity))
                welcome = await hear(socket)
                assert isinstance(welcome, wire.Welcome)
                assert ServerTime.decode(unseal(welcome.time, server_key)).challenge == bytes(16)
            orders = [await hear(a), await hear(b)]
        assert all(isinstance(order, wire.TestOrder) for order in orders)
        assert orders[0].grant == orders[1].grant
        assert wire.decode_from_server(wire.encode(orders[0])) == orders[0]
        grant = Grant.decode(unseal(orders[0].grant, server_key))
        assert {grant.src, grant.dst} == {"a", "b"}
        assert (orders[0].peer_identity_key, orders[1].peer_identity_key) == (B.public_key, A.public_key)
        assert orders[0].peer_binding == B.binding("default", now_s=0)

    with_server(scenario)


@pytest.mark.parametrize(
    "changes",
    [
        {"binding": EVE.binding("default", now_s=0)},
        {"binding": A.binding("default", now_s=0)},
        {"binding": B.binding("elsewhere", now_s=0)},
        {"binding": b"x" * 200},
    ],
    ids=["by another key", "of another agent", "of another tenant", "noise"],
)
def test_a_binding_that_does_not_hold_is_not_passed_on(with_server: Run, changes: dict[str, Any]) -> None:
    async def scenario(site: Any) -> None:
        enrolled = {one.name: await site.enrol(one.name, one.name, identity=one) for one in (A, B)}
        async with raw(site, enrolled["a"]) as a, raw(site, enrolled["b"]) as b:
            await say(a, hello(A))
            await say(b, hello(B, **changes))
            assert isinstance(await hear(a), wire.Welcome)
            assert isinstance(await hear(b), wire.Welcome)
            notice = await hear(b)
            assert isinstance(notice, wire.Notice)
            assert notice.code == "binding"
            order = await hear(a)
            assert isinstance(order, wire.TestOrder)
            assert order.peer_binding == b""

    with_server(scenario)


def test_an_identity_key_must_be_proven_to_enrol(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        import base64

        for key, signature in ((EVE.public_key, b""), (EVE.public_key, bytes(64)), (b"short", bytes(64))):
            token = await asyncio.to_thread(create_token, site.settings.data, 1, 60)
            asked = enrolment(token, "b", identity=B) | {
                "identity_key": base64.b64encode(key).decode(),
                "identity_signature": base64.b64encode(signature).decode(),
            }
            answer = await site.agents.post("/v1/enrol", json=asked)
            assert answer.status_code == 400
            assert "identity" in answer.json()["detail"]

    with_server(scenario)


def request(token: str, identity: Identity) -> wire.EnrolRequest:
    return wire.EnrolRequest(
        token=EnrolToken.parse(token).secret,
        name=identity.name,
        site="here",
        certificate=b"",
        signature=b"",
        identity_key=identity.public_key,
        identity_signature=b"",
    )


def test_a_name_belongs_to_an_identity_key_and_its_certificate_may_change(tmp_path: Path) -> None:
    def enrol(state: State, wanted: wire.EnrolRequest, fingerprint: str) -> None:
        state.enrol(wanted, fingerprint=fingerprint, at_us=1, origin="192.0.2.1")

    with closing(State.open(tmp_path)) as state:
        token = create_token(tmp_path, 5, 60)
        enrol(state, request(token, B), B.fingerprint)
        enrol(state, request(token, B), EVE.fingerprint)
        with pytest.raises(NameTakenError):
            enrol(state, request(token, EVE), B.fingerprint)
        with pytest.raises(NameTakenError):
            enrol(state, request(token, EVE), EVE.fingerprint)
    with closing(State.open(tmp_path)) as state:
        assert [agent.identity_key for agent in state.agents("default")] == [B.public_key]


def test_an_agent_of_before_identity_keys_comes_back_with_its_certificate_and_a_key(tmp_path: Path) -> None:
    def enrol(state: State, wanted: Identity, fingerprint: str) -> Agent:
        again = request(create_token(tmp_path, 1, 60), wanted)
        return state.enrol(again, fingerprint=fingerprint, at_us=1, origin="192.0.2.1")

    with closing(State.open(tmp_path)) as state:
        enrol(state, B, B.fingerprint)
    with closing(sqlite3.connect(tmp_path / "state.sqlite")) as database:
        database.execute("DROP TABLE identities")
        database.commit()
    with closing(State.open(tmp_path)) as state:
        assert state.agents("default")[0].identity_key == b""
        with pytest.raises(NameTakenError):
            enrol(state, B, EVE.fingerprint)
        assert enrol(state, B, B.fingerprint).identity_key == B.public_key


def test_a_reinstalled_agent_is_taken_with_a_token_that_replaces_it(tmp_path: Path) -> None:
    with closing(State.open(tmp_path)) as state:
        token = create_token(tmp_path, 2, 60)
        state.enrol(request(token, B), fingerprint=B.fingerprint, at_us=1, origin="192.0.2.1")
        with pytest.raises(NameTakenError) as caught:
            state.enrol(request(token, EVE), fingerprint=EVE.fingerprint, at_us=1, origin="192.0.2.1")
        assert "--replaces b" in caught.value.remedy
        renewing = create_token(tmp_path, 1, 60, replaces="b")
        with pytest.raises(TokenError, match="for 'b' only"):
            state.enrol(request(renewing, A), fingerprint=A.fingerprint, at_us=1, origin="192.0.2.1")
        state.enrol(request(renewing, EVE), fingerprint=EVE.fingerprint, at_us=2, origin="192.0.2.1")
        assert [agent.identity_key for agent in state.agents("default")] == [EVE.public_key]
        # Its answer may have been lost: once more with the same keys, but with no others.
        state.enrol(request(renewing, EVE), fingerprint=EVE.fingerprint, at_us=3, origin="192.0.2.1")
        with pytest.raises(NameTakenError):
            state.enrol(request(renewing, B), fingerprint=B.fingerprint, at_us=4, origin="192.0.2.1")
