"""Another authority in the place of the server's: real agents and a real server on loopback."""

import asyncio
import logging
import sqlite3
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import credential, enrol, renewal, run, tls
from agent.credential import Credential
from agent.errors import AuthorityMovedError, ServerUnprovenError
from agent.identity import create, load_or_create
from agent.passive.source import Passive
from agent.renewal import LEAST_S
from analytics.channel import present, tls_1_3
from analytics.clock import now_us
from analytics.wire import MOST_FORMER, AuthorityReply, ChallengeReply, EnrolRequest, renewal_claim
from server import authority as authorities
from server import former, private_file, rotation
from server.agent_tls import listener_context
from server.api.audits import AuditAsk
from server.authority import Authority, linked
from server.errors import DemandError, StateError, StateLockedError
from server.former import Former
from server.grants import Signer
from server.renewal import is_by
from server.state import FILE_NAME, Enrolled, State, create_token
from tests.unit.agent.lives import _renews_as_often_as_a_short_life_asks, short_lived  # noqa: F401  # a fixture
from tests.unit.server.enrolling import enrolment

LIFE_S = 2


def kept(place: Any, name: str) -> Credential:
    found = credential.read(place.config(name))
    assert isinstance(found, Credential)
    return found


def known_by(place: Any, name: str) -> bytes | None:
    found = credential.read(place.config(name))
    return found.authority if isinstance(found, Credential) else None


def test_agents_move_by_themselves_and_those_that_were_off_and_tokens_of_before_do_too(
    place: Any, agent_of: Any, until: Any, online: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tokens = {name: place.token() for name in ("pacs", "home", "late", "gone")}
    config = {name: place.config(name, token=token) for name, token in tokens.items()}

    async def scenario() -> None:
        async with agent_of(config["pacs"]) as life:  # it is there all the time
            async with short_lived(place, LIFE_S) as server:
                async with agent_of(config["home"]) as home, agent_of(config["gone"]) as gone:
                    await until(lambda: online(server, "home"), home)
                    await until(lambda: online(server, "gone"), gone)
                await until(lambda: online(server, "pacs"), life)
                with pytest.raises(StateLockedError, match="another pathgrade server holds it"):
                    rotation.rotate(place.data)
            old = kept(place, "home").authority
            made = rotation.rotate(place.data)
            new = Authority.open(place.data).der
            assert new != old
            async with short_lived(place, LIFE_S) as server:
                await until(lambda: online(server, "pacs"), life)
                await until(lambda: known_by(place, "pacs") == new, life)
                await until(lambda: online(server, "pacs"), life)
                async with agent_of(config["late"]) as late, agent_of(config["home"]) as home:
                    await until(lambda: known_by(place, "late"), late)
                    assert known_by(place, "late") == new  # from the beginning, though its token is of before
                    await until(lambda: known_by(place, "home") == new, home)
                    await until(lambda: rotation.told(place.data).waiting == ["default/gone"], home)
            with pytest.raises(DemandError, match="default/gone"):
                rotation.drop(place.data)
            rotation.drop(place.data, anyway=True)
            async with short_lived(place, LIFE_S) as server:
                await until(lambda: online(server, "pacs"), life)
                assert known_by(place, "gone") == old
                with pytest.raises(ServerUnprovenError):
                    await enrol.renewed(kept(place, "gone"), load_or_create(place.folder / "gone", "gone"))
        assert "beginning anew" in caplog.text
        assert made.former == [rotation._pin(Former(certificate=old, link=b"", replaced_us=0))]

    asyncio.run(scenario())
    rows = _audit(place.data)
    said = ["dropped", "intends to drop", "rotated", "intends to rotate"]
    assert [row.detail.partition(" pin")[0] for row in rows] == said
    assert rows[0].detail.endswith("waiting=1")


def _audit(data: Path) -> list[Any]:
    state = State.open(data)
    try:
        return state.audits.look("default", AuditAsk(action="authority"))
    finally:
        state.close()


# --- who may move an agent --------------------------------------------------------------------------------


def test_who_stole_the_old_key_moves_no_agent_nor_does_a_server_that_does_not_answer(
    place: Any, caplog: pytest.LogCaptureFixture
) -> None:
    old, new, ours, eve = authorities.create(), authorities.create(), _signer(1), _signer(2)
    known = _known(old, ours, server=f"https://127.0.0.1:{place.port}")  # where nobody is
    for signer, why in ((eve, "not vouched for"), (ours, "ConnectError")):
        caplog.clear()
        told = AuthorityReply(certificate=new.der, number=1, signature=signer.authority(new.der, 1))
        assert asyncio.run(enrol._moved(known, told)) == known
        assert why in caplog.text


def test_what_the_server_once_said_of_an_authority_does_not_lead_back_to_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also where somebody has the keys of both, and so would hold whatever is asked."""
    first, second, ours = authorities.create(), authorities.create(), _signer(1)

    def told(one: Authority, number: int) -> AuthorityReply:
        return AuthorityReply(certificate=one.der, number=number, signature=ours.authority(one.der, number))

    known = _known(second, ours, authority_number=1)
    for number in (0, 1):
        caplog.clear()
        assert asyncio.run(enrol._moved(known, told(first, number))) == known
        assert f"its number is {number}" in caplog.text
    forged = msgspec.structs.replace(told(first, 0), number=2)
    assert asyncio.run(enrol._moved(known, forged)) == known
    # What it is told of its own, the number is taken from.
    anew = _known(second, ours, authority_number=0)
    assert asyncio.run(enrol._moved(anew, told(second, 1))) == known


def test_what_comes_in_the_authoritys_place_is_taken_from_the_proven_server_alone(
    place: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who stands between may repeat what the server's key signed of an authority whose key he has."""
    config, ask = place.config(token=place.token()), enrol._authority
    before, seen = authorities.create(), []

    async def repeated(server: str) -> AuthorityReply:
        true = await ask(server)
        old = Signer.open(place.data).authority(before.der, 7)
        seen.append(true)
        return AuthorityReply(certificate=before.der, number=7, signature=old, former=[true.certificate])

    async def scenario() -> Credential:
        monkeypatch.setattr(enrol, "_authority", repeated)
        async with place.serving():
            return await enrol.enrolled(config, load_or_create(place.folder / "pacs", "pacs"))

    found = asyncio.run(scenario())
    assert (found.authority, found.authority_number) == (seen[0].certificate, 0)
    assert "is not taken" not in caplog.text


def _known(authority: Authority, signer: Signer, **more: Any) -> Credential:
    values: dict[str, Any] = {
        "server": "https://127.0.0.1:1",
        "agent": "pacs",
        "tenant": "default",
        "server_key": signer.public_key,
        "authority": authority.der,
        "certificate": b"",
        "got_s": 0,
        "life_s": 1,
    }
    return Credential(**values | more)


def _signer(number: int) -> Signer:
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


def test_a_token_of_before_names_one_of_before_and_anothers_none() -> None:
    now, before, other = authorities.create(), authorities.create(), authorities.create()
    told = AuthorityReply(certificate=now.der, signature=b"", former=[before.der])
    assert enrol._named(told, now.pin) == now.der
    assert enrol._named(told, before.pin) == before.der
    with pytest.raises(ServerUnprovenError):
        enrol._named(told, other.pin)


# --- links ------------------------------------------------------------------------------------------------


def shakes_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    to, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    near, far = client.wrap_bio(back, to), server.wrap_bio(to, back, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return True


def rotated(data: Path, times: int) -> list[Authority]:
    """All that there were, the first first."""
    State.open(data).close()
    found = [Authority.open(data)]
    for _ in range(times):
        rotation.rotate(data)
        found.append(Authority.open(data))
    return found


def test_after_several_rotations_whoever_knows_any_of_them_is_at_home(tmp_path: Path) -> None:
    every = rotated(tmp_path, MOST_FORMER)
    now = every[-1]
    assert [one.certificate for one in now.former] == [one.der for one in every[-2::-1]]
    listener = listener_context(now, refused := Counter[str]())
    assert all(shakes_hands(listener, tls.proven(one.der)) for one in every)
    assert not shakes_hands(listener, tls.proven(authorities.create().der))
    identity = create("pacs")
    for by in every:  # and their certificates are taken
        shown = by.agent_certificate(
            "default", "pacs", identity.public_key, life=timedelta(days=1), now=datetime.now(UTC)
        )
        client = tls.proven(every[0].der)
        identity.identity_key.present(client, shown)
        assert shakes_hands(listener, client)
    assert sum(refused.values()) <= 1
    with pytest.raises(DemandError, match="4 authorities of before"):
        rotation.rotate(tmp_path)
    rotation.drop(tmp_path)
    alone = listener_context(Authority.open(tmp_path), Counter[str]())
    assert [shakes_hands(alone, tls.proven(one.der)) for one in every] == [False] * MOST_FORMER + [True]
    with pytest.raises(DemandError, match="no authority of before"):
        rotation.drop(tmp_path)


def test_who_holds_the_key_of_before_alone_is_not_the_server(tmp_path: Path) -> None:
    """Until it is dropped a former key still serves agents that have not moved; those that have, never."""
    first, now = rotated(tmp_path, 1)
    thief = tls_1_3(ssl.PROTOCOL_TLS_SERVER)
    present(thief, first.server_chain(now=datetime.now(UTC)))
    assert not shakes_hands(thief, tls.proven(now.der))


@pytest.mark.parametrize("killed", ["before the new authority", "and another was put in place"])
def test_a_rotation_that_was_killed_or_another_authority_by_hand_leave_a_server_that_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    (first,) = rotated(tmp_path, 0)
    with monkeypatch.context() as broken:
        broken.setattr(private_file, "replace", _killed_at("authority.pem"))
        with pytest.raises(KeyboardInterrupt):
            rotation.rotate(tmp_path)
    if killed.startswith("and"):
        (tmp_path / "authority.pem").unlink()
    again = Authority.open(tmp_path)
    assert (again.der == first.der, again.former) == (killed.startswith("before"), ())
    assert [row.detail.split()[0] for row in _audit(tmp_path)] == ["intends"]
    rotation.rotate(tmp_path)
    assert [one.certificate for one in Authority.open(tmp_path).former] == [again.der]


def _killed_at(name: str) -> Callable[..., None]:
    written = private_file.replace

    def replaced(path: Path, content: bytes, *, remedy: str) -> None:
        if path.name == name:
            raise KeyboardInterrupt
        written(path, content, remedy=remedy)

    return replaced


def test_a_damaged_file_is_one_error_with_a_remedy(tmp_path: Path) -> None:
    first, now = rotated(tmp_path, 1)
    other = authorities.create()
    path = tmp_path / former.FILE_NAME
    wrong = [
        b"[",
        b"[1]",
        msgspec.json.encode([Former(certificate=b"x", link=b"y", replaced_us=0)]),
        msgspec.json.encode([Former(certificate=first.der, link=linked(now, other), replaced_us=0)]),
        msgspec.json.encode(
            [now.former[0], Former(certificate=other.der, link=linked(now, other), replaced_us=0)]
        ),
    ]
    for content in wrong:
        path.write_bytes(content)
        with pytest.raises(StateError, match="damaged") as caught:
            Authority.open(tmp_path)
        assert "restore it from a backup" in caught.value.remedy
    path.write_bytes(b"[]")
    path.chmod(0o644)
    with pytest.raises(StateError, match="others than its owner"):
        Authority.open(tmp_path)


# --- who has moved ----------------------------------------------------------------------------------------


def test_who_did_not_say_that_it_takes_the_present_authority_may_know_another() -> None:
    def agent(name: str, takes: str, **more: Any) -> Enrolled:
        us = {"enrolled_us": 0, "seen_us": 2**60}
        return Enrolled(tenant="default", name=name, site="here", takes=takes, **us, **more)

    agents = [agent("told-only", ""), agent("before", "A"), agent("moved", "B")]
    agents.append(agent("revoked", "", revoked_us=1))
    assert rotation.waiting_of(agents, "B") == ["default/told-only", "default/before"]


def test_an_agent_that_says_nothing_or_enrols_again_is_not_taken_for_moved(tmp_path: Path) -> None:
    rotated(tmp_path, 0)
    identity = create("pacs")
    token = create_token(tmp_path, 1, 60)
    asked = msgspec.convert(enrolment(token, "pacs", identity=identity), EnrolRequest)
    rotation.rotate(tmp_path)
    pin = Authority.open(tmp_path).pin
    state = State.open(tmp_path)

    def waiting() -> list[str]:
        return rotation.told(tmp_path).waiting

    try:
        agent = state.enrol(asked, fingerprint="AA", at_us=now_us(), origin="here")
        assert waiting() == ["default/pacs"]
        state.takes(replace(agent, identity_key=b"another's"), pin)
        assert waiting() == ["default/pacs"]
        state.takes(agent, pin)
        assert waiting() == []
        state.takes(agent, "")
        assert waiting() == ["default/pacs"]
        state.takes(agent, pin)
        state.enrol(asked, fingerprint="AA", at_us=now_us(), origin="here")
        assert waiting() == ["default/pacs"]
    finally:
        state.close()
    with pytest.raises(DemandError, match="1 agents may know"):
        rotation.drop(tmp_path)


def test_a_server_that_would_not_understand_is_not_told_which_authority_is_known() -> None:
    own = authorities.create()
    known, identity = _known(own, _signer(1)), create("pacs")
    asked = enrol._proof(known, identity, ChallengeReply(challenge=b"c"))
    assert b"knows" not in msgspec.json.encode(asked)
    told = enrol._proof(known, identity, ChallengeReply(challenge=b"c", hears_known=True))
    assert told.knows == own.pin
    claim = renewal_claim("default", "pacs", b"c", own.pin)
    assert is_by(identity.public_key, told.signature, claim)


def test_numbers_go_up_also_after_a_drop(tmp_path: Path) -> None:
    def number() -> int:
        state = State.open(tmp_path)
        try:
            return state.authority_number(Authority.open(tmp_path))
        finally:
            state.close()

    rotated(tmp_path, 0)
    found = [number()]
    for step in (rotation.rotate, rotation.drop, rotation.rotate, rotation.rotate):
        step(tmp_path)
        found.append(number())
    assert found == [0, 1, 1, 2, 3]


def test_a_folder_of_an_earlier_version_is_upgraded_first(tmp_path: Path) -> None:
    rotated(tmp_path, 0)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database, database:
        database.execute("UPDATE state_version SET version = 2")
    rotation.rotate(tmp_path)
    rotation.drop(tmp_path)


def test_a_folder_that_cannot_be_opened_is_let_go_of(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 100)
    for _ in range(2):
        with pytest.raises(StateError, match="not a database"):
            rotation.rotate(tmp_path)


def test_where_the_last_row_cannot_be_written_it_says_that_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = rotated(tmp_path, 0)
    note = rotation._note

    def full(engine: Any, by: str, detail: str, at_us: int) -> None:
        if not detail.startswith("intends"):
            raise StateError("use it: disk full", remedy="make room")
        note(engine, by, detail, at_us)

    monkeypatch.setattr(rotation, "_note", full)
    with pytest.raises(StateError, match=r"rotated pin=.*the audit row that says so is missing") as caught:
        rotation.rotate(tmp_path)
    assert "do not repeat it" in caught.value.remedy
    assert Authority.open(tmp_path).der != first.der


# --- a server that means harm -----------------------------------------------------------------------------


def test_however_short_the_life_a_server_gives_renewals_are_ten_seconds_apart(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = _known(authorities.create(), _signer(1))
    slept: list[float] = []

    async def sleep(wait_s: float) -> None:
        slept.append(wait_s)
        if len(slept) == 3:
            raise asyncio.CancelledError

    async def renewed(*_: Any) -> Credential:
        return known

    monkeypatch.setattr(renewal, "LEAST_S", LEAST_S)
    monkeypatch.setattr(renewal, "asyncio", SimpleNamespace(sleep=sleep, Event=asyncio.Event))
    monkeypatch.setattr(renewal, "renewed", renewed)
    monkeypatch.setattr(Credential, "shown_in", lambda *_: None)
    monkeypatch.setattr(credential, "keep", lambda *_: None)
    one = renewal.Renewal(place.config(), create("pacs"), known, ssl.create_default_context())
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(one.run())
    assert slept == [10.0] * 3


def test_a_server_that_moves_again_and_again_is_met_ever_less_often(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def backoff_s(attempt: int) -> float:
        tried.append(attempt)
        if len(tried) == 3:
            raise asyncio.CancelledError
        return 0.0

    @asynccontextmanager
    async def opened(*_: Any, **__: Any) -> AsyncIterator[Any]:
        yield SimpleNamespace(identity=None)

    async def moved(*_: Any) -> Credential:
        raise AuthorityMovedError("again")

    monkeypatch.setattr(run, "backoff_s", backoff_s)
    monkeypatch.setattr(run, "opened_host", opened)
    monkeypatch.setattr(run, "enrolled", moved)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run.live(place.config(), Passive(None, "off")))
    assert tried == [0, 1, 2]
