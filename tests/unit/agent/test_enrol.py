"""Whom an agent takes for its server, and how it keeps its certificate: on loopback, against impostors."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import credential, enrol, renewal, tls
from agent.credential import FILE_NAME, Credential
from agent.errors import (
    AgentError,
    CredentialRefusedError,
    EnrolmentError,
    FolderError,
    IdentityError,
    ServerSilentError,
    ServerUnprovenError,
)
from agent.identity import FILE_NAME as IDENTITY
from agent.identity import create, load_or_create
from analytics.channel import EnrolToken, present, tls_1_3
from server import authority
from server.app import serving
from server.authority import Authority
from server.grants import Signer
from server.settings import Settings
from server.state import create_token, revoke_agent
from tests.unit.agent.lives import _renews_as_often_as_a_short_life_asks, short_lived  # noqa: F401  # a fixture
from tests.unit.agent.test_run import fill


def impostor(place: Any) -> Settings:
    """A whole server of somebody else, where the agent looks for its own."""
    return Settings.load(
        data=place.folder / "impostor",
        agents=f"127.0.0.1:{place.port}",
        report="127.0.0.1:0",
        stun=["127.0.0.1:0"],
        settle_s=0.05,
    )


def test_a_token_goes_to_no_other_server_than_the_one_that_made_it(place: Any, life_of: Any) -> None:
    """The man in the middle would even take it: he made a seat for it."""

    async def scenario() -> None:
        token = EnrolToken.parse(place.token())
        eve = impostor(place)
        create_token(eve.data, 1, 60)
        async with serving(eve) as running:
            with pytest.raises(ServerUnprovenError, match="not the one that made the token") as caught:
                await life_of(place.config(token=str(token)))
            assert caught.value.remedy
            assert running.core.status().agents_enrolled == 0
        assert not (place.folder / "pacs" / FILE_NAME).exists()

    asyncio.run(scenario())


def test_an_enrolled_agent_tells_another_server_nothing_counts_it_and_waits_for_its_own(
    place: Any, agent_of: Any, until: Any, online: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    token = place.token()

    async def scenario() -> None:
        async with place.serving() as server, agent_of(place.config(token=token)) as life:
            await until(lambda: online(server, "pacs"), life)
        fill(place.folder, 1)
        async with agent_of(place.config()) as life:
            async with serving(impostor(place)) as eve:
                await until(lambda: caplog.text.count("certificate verify failed") >= 2, life)
                assert eve.core.status().rows["flows"] == 0
                assert not eve.core.status().agents_online
            async with place.serving() as server:
                await until(lambda: online(server, "pacs"), life)
                await until(lambda: server.core.status().rows["flows"] == 1, life)
        assert "not uploading" in caplog.text
        assert "not connected" in caplog.text

    asyncio.run(scenario())


def test_a_certificate_is_renewed_while_it_works_and_the_connection_stays(
    place: Any, agent_of: Any, until: Any, online: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with short_lived(place, LIFE_S) as server, agent_of(place.config(token=place.token())) as life:
            await until(lambda: online(server, "pacs"), life)
            await until(lambda: caplog.text.count("certificate renewed") >= 2, life)
            fill(place.folder, 1)
            assert online(server, "pacs")
        assert caplog.text.count("connected server=") == 1
        kept = credential.read(place.config())
        assert isinstance(kept, Credential)
        assert kept.life_s == LIFE_S

    asyncio.run(scenario())


LIFE_S = 4


def test_after_a_long_time_off_it_comes_back_without_a_token(
    place: Any, agent_of: Any, until: Any, online: Any
) -> None:
    async def scenario() -> None:
        async with short_lived(place, LIFE_S) as server, agent_of(place.config(token=place.token())) as life:
            await until(lambda: online(server, "pacs"), life)
        await asyncio.sleep(LIFE_S + 1)
        async with place.serving() as server, agent_of(place.config()) as life:
            await until(lambda: online(server, "pacs"), life)

    asyncio.run(scenario())


def test_without_its_server_it_is_at_work_all_the_same_however_old_its_certificate(
    place: Any, agent_of: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What it sees meanwhile waits in the outbox: it is not the server's fault where a laptop is."""
    own, identity = Authority.open(place.folder), load_or_create(place.folder / "pacs", "pacs")
    certificate = own.agent_certificate(
        "default", "pacs", identity.public_key, life=timedelta(seconds=1), now=datetime.now(UTC)
    )
    kept(place, authority=own.der, certificate=certificate)
    fill(place.folder, 1)
    outbox = place.folder / "pacs" / "outbox"

    async def scenario() -> None:
        async with agent_of(place.config()) as life:
            await until(lambda: "certificate not renewed" in caplog.text, life)
            assert len([*outbox.iterdir()]) == 1
        assert "not connected" not in caplog.text

    asyncio.run(scenario())


def test_a_certificate_that_the_server_holds_for_over_is_renewed_whatever_this_clock_says(
    place: Any, agent_of: Any, until: Any, online: Any
) -> None:
    async def scenario() -> None:
        async with short_lived(place, LIFE_S) as server, agent_of(place.config(token=place.token())) as life:
            await until(lambda: online(server, "pacs"), life)
        path = place.folder / "pacs" / FILE_NAME
        kept = msgspec.json.decode(path.read_bytes(), type=Credential)
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(kept, life_s=10**6)))
        await asyncio.sleep(LIFE_S + 1)
        async with place.serving() as server, agent_of(place.config()) as life:
            await until(lambda: online(server, "pacs"), life)

    asyncio.run(scenario())


def test_a_revoked_agent_ends_and_says_why(
    place: Any, life_of: Any, until: Any, online: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with place.serving() as server:
            life = asyncio.create_task(life_of(place.config(token=place.token())))
            await until(lambda: online(server, "pacs"), life)
            await asyncio.to_thread(revoke_agent, place.data, "pacs", by="me")
            for ending, words in ((life, "revoked"), (life_of(place.config()), "no token")):
                with pytest.raises(EnrolmentError, match=words):
                    await asyncio.wait_for(ending, 30)
        assert "agent 'pacs' was revoked" in caplog.text

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (ServerSilentError("away"), True),
        (EnrolmentError("HTTP 403"), True),
        (CredentialRefusedError("no"), False),
    ],
)
def test_a_credential_is_forgotten_only_where_the_server_says_that_it_is_none(
    place: Any, monkeypatch: pytest.MonkeyPatch, error: AgentError, stays: bool
) -> None:
    """What a proxy or a server of another time says is no such word."""

    async def renewed(known: Credential, identity: Any) -> Credential:
        raise error

    kept(place)
    monkeypatch.setattr(renewal, "renewed", renewed)
    asyncio.run(renewal.ask_again(place.config(), create("pacs")))
    assert (credential.read(place.config()) is not None) is stays


@asynccontextmanager
async def answering(port: int, answer: bytes) -> AsyncIterator[None]:
    """Somebody over TLS who says the same whatever is asked."""
    context = tls_1_3(ssl.PROTOCOL_TLS_SERVER)
    present(context, authority.create().server_chain(now=datetime.now(UTC)))

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with suppress(OSError):
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answered, "127.0.0.1", port, ssl=context):
        yield


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: https://login.test/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        OK + b"Content-Length: 7\r\n\r\n<html/>",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 7\r\n\r\n<html/>",
        OK + b"\r\n" + b" " * 100_000,
        b"SSH-2.0\r\n\r\n",
    ],
    ids=["redirect", "forbidden", "page", "no gzip", "much", "no HTTP"],
)
def test_what_a_guests_network_answers_is_for_later(place: Any, answer: bytes) -> None:
    async def scenario() -> None:
        async with answering(place.port, answer):
            with pytest.raises(ServerSilentError) as caught:
                await enrol._authority(f"https://127.0.0.1:{place.port}")
            assert not isinstance(caught.value, ServerUnprovenError)

    asyncio.run(scenario())


def test_what_is_no_certificate_is_for_later_and_another_authority_is_not() -> None:
    own, other = authority.create(), authority.create()
    tls.check_pin(own.der, own.pin)
    with pytest.raises(ServerSilentError, match="does not read") as caught:
        tls.check_pin(b"x", own.pin)
    assert not isinstance(caught.value, ServerUnprovenError)
    with pytest.raises(ServerUnprovenError, match="its authority is another"):
        tls.check_pin(other.der, own.pin)


@pytest.mark.parametrize(
    ("days", "is_own", "unproven"), [(400, True, False), (-400, True, False), (0, False, True)]
)
def test_a_clock_that_is_off_makes_no_other_server(days: int, is_own: bool, unproven: bool) -> None:
    own = authority.create()
    by = own if is_own else authority.create()
    there = tls_1_3(ssl.PROTOCOL_TLS_SERVER)
    present(there, by.server_chain(now=datetime.now(UTC) + timedelta(days=days)))
    to, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = tls.proven(own.der).wrap_bio(back, to), there.wrap_bio(to, back, server_side=True)
    for side in (client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        client.do_handshake()
    assert tls.is_unproven(caught.value) is unproven


# --- of before ------------------------------------------------------------------------------------------


def of_before(place: Any, server_key: bytes) -> None:
    """Leave what an agent with a bearer secret left, and what its server knew of it."""
    data = place.folder / "pacs"
    identity = load_or_create(data, "pacs")
    known = {
        "version": 1,
        "server": f"http://127.0.0.1:{place.port}",
        "agent": "pacs",
        "tenant": "default",
        "secret": "x" * 43,
        "server_key": msgspec.to_builtins(server_key),
    }
    (data / FILE_NAME).write_text(json.dumps(known))
    (data / FILE_NAME).chmod(0o600)

    async def enrolled() -> None:
        async with place.serving():
            await enrol._enrol(place.config(token=place.token()), identity)

    asyncio.run(enrolled())


def test_an_agent_of_before_that_knows_the_servers_key_needs_no_token(
    place: Any, agent_of: Any, until: Any, online: Any
) -> None:
    place.token()
    of_before(place, Signer.open(place.data).public_key)

    async def scenario() -> None:
        async with place.serving() as server, agent_of(place.config()) as life:
            await until(lambda: online(server, "pacs"), life)
        assert "secret" not in json.loads((place.folder / "pacs" / FILE_NAME).read_text())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [(b"", EnrolmentError, "no token"), (bytes(range(32)), ServerUnprovenError, "not vouched for")],
)
def test_an_agent_of_before_that_knows_another_or_none_is_one_clear_error(
    place: Any, life_of: Any, key: bytes, error: type[Exception], words: str
) -> None:
    place.token()
    of_before(place, key)

    async def scenario() -> None:
        async with place.serving():
            with pytest.raises(error, match=words) as caught:
                await life_of(place.config())
            assert caught.value.remedy  # type: ignore[attr-defined]  # of every AgentError

    asyncio.run(scenario())


# --- what is kept -----------------------------------------------------------------------------------------


def kept(place: Any, **changes: Any) -> Credential:
    data = place.folder / "pacs"
    data.mkdir(exist_ok=True)
    made = Credential(
        server=f"https://127.0.0.1:{place.port}",
        agent="pacs",
        tenant="default",
        server_key=bytes(32),
        authority=b"",
        certificate=b"",
        got_s=1_000,
        life_s=100,
    )
    made = msgspec.structs.replace(made, **changes)
    (data / FILE_NAME).write_bytes(msgspec.json.encode(made))
    (data / FILE_NAME).chmod(0o600)
    return made


@pytest.mark.parametrize(
    ("now_s", "due"),
    [(1_000, False), (1_049, False), (1_050, True), (1_101, True), (899, True), (950, False)],
)
def test_a_certificate_is_due_at_half_of_its_life_and_when_the_clock_was_set_back(
    place: Any, now_s: float, due: bool
) -> None:
    assert kept(place).is_due(now_s) is due


@pytest.mark.parametrize("name", [FILE_NAME, IDENTITY])
def test_files_that_others_may_use_are_refused(place: Any, name: str) -> None:
    kept(place)
    load_or_create(place.folder / "pacs", "pacs")
    (place.folder / "pacs" / name).chmod(0o640)
    look: Callable[[], object] = {
        FILE_NAME: lambda: credential.read(place.config()),
        IDENTITY: lambda: load_or_create(place.folder / "pacs", "pacs"),
    }[name]
    with pytest.raises((FolderError, IdentityError), match="others than its owner") as caught:
        look()
    assert "chmod 600" in caught.value.remedy


def test_a_certificate_over_another_key_is_one_clear_error(place: Any, tmp_path: Path) -> None:
    own = Authority.open(tmp_path)
    certificate = own.agent_certificate(
        "default", "pacs", create("pacs").public_key, life=timedelta(days=1), now=datetime.now(UTC)
    )
    with pytest.raises(FolderError, match=r"not over the key in identity\.pem"):
        kept(place, authority=own.der, certificate=certificate).context(create("pacs").identity_key)
