"""Another authority in the place of the server's: real agents and a real server on loopback."""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import credential, enrol, tls
from agent.credential import Credential
from agent.errors import ServerUnprovenError
from agent.identity import create, load_or_create
from analytics.channel import present, tls_1_3
from analytics.wire import MOST_FORMER, AuthorityReply
from server import authority as authorities
from server import former, private_file, rotation
from server.agent_tls import listener_context
from server.api.audits import AuditAsk
from server.app import serving
from server.authority import Authority, linked
from server.errors import DemandError, StateError, StateLockedError
from server.former import Former
from server.grants import Signer
from server.settings import Settings
from server.state import Enrolled, State

LIFE_S = 2


def short_lived(place: Any) -> Any:
    settings = Settings.load(
        data=place.data,
        agents=f"127.0.0.1:{place.port}",
        report="127.0.0.1:0",
        stun=["127.0.0.1:0"],
        settle_s=0.05,
    )
    return serving(settings.model_copy(update={"certificate_s": LIFE_S}))


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
            async with short_lived(place) as server:
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
            async with short_lived(place) as server:
                await until(lambda: online(server, "pacs"), life)
                await until(lambda: known_by(place, "pacs") == new, life)
                await until(lambda: online(server, "pacs"), life)
                async with agent_of(config["late"]) as late, agent_of(config["home"]) as home:
                    await until(lambda: known_by(place, "late") == known_by(place, "home") == new, late)
                    await asyncio.sleep(LIFE_S)
                    await until(lambda: online(server, "home") and online(server, "late"), home)
            assert rotation.told(place.data, LIFE_S).waiting == ["default/gone"]
            with pytest.raises(DemandError, match="default/gone"):
                rotation.drop(place.data, LIFE_S)
            rotation.drop(place.data, LIFE_S, anyway=True)
            async with short_lived(place) as server:
                await until(lambda: online(server, "pacs"), life)
                assert known_by(place, "gone") == old
                with pytest.raises(ServerUnprovenError):
                    await enrol.renewed(kept(place, "gone"), load_or_create(place.folder / "gone", "gone"))
        assert "beginning anew" in caplog.text
        assert made.former == [rotation._pin(Former(certificate=old, link=b"", replaced_us=0))]

    asyncio.run(scenario())
    rows = _audit(place.data)
    assert [row.detail.split()[0] for row in rows] == ["dropped", "rotated"]
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
    known = Credential(
        server=f"https://127.0.0.1:{place.port}",  # where nobody is
        agent="pacs",
        tenant="default",
        server_key=ours.public_key,
        authority=old.der,
        certificate=b"",
        got_s=0,
        life_s=1,
    )
    for signer, why in ((eve, "not vouched for"), (ours, "ConnectError")):
        caplog.clear()
        told = AuthorityReply(certificate=new.der, signature=signer.authority(new.der))
        assert asyncio.run(enrol._moved(known, told)) == old.der
        assert why in caplog.text
    same = AuthorityReply(certificate=old.der, signature=b"")
    assert asyncio.run(enrol._moved(known, same)) == old.der


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
    rotation.drop(tmp_path, 60)
    alone = listener_context(Authority.open(tmp_path), Counter[str]())
    assert [shakes_hands(alone, tls.proven(one.der)) for one in every] == [False] * MOST_FORMER + [True]
    with pytest.raises(DemandError, match="no authority of before"):
        rotation.drop(tmp_path, 60)


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
    assert _audit(tmp_path) == []
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


def test_who_was_connected_a_certificates_life_after_the_rotation_has_moved() -> None:
    def agent(name: str, seen_s: int, **more: Any) -> Enrolled:
        us = {"enrolled_us": 0, "seen_us": seen_s * 1_000_000}
        return Enrolled(tenant="default", name=name, site="here", **us, **more)

    agents = [agent("a", 99), agent("b", 159), agent("c", 160), agent("d", 10, revoked_us=1)]
    before = (Former(certificate=b"", link=b"", replaced_us=100_000_000),)
    assert rotation.waiting_of(agents, before, 60) == ["default/a", "default/b"]
    assert rotation.waiting_of(agents, (), 60) == []
