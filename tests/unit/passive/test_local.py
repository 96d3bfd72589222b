"""The socket that this host's sessions are asked for at: who is answered, with what, and who is not."""

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from agent import local
from agent.errors import (
    FolderError,
    LocalAnswerError,
    LocalError,
    LocalRefusedError,
    SessionUnknownError,
)
from analytics.measurement import Session
from tests.unit.analytics.tcp_sessions import session

PROCESSES = ("curl", "pathgrade", "Orthanc")
KEPT = [
    session(id=f"{number:02x}00c2ab94", process=PROCESSES[number % 3], remote_address=f"192.0.2.{number}")
    for number in range(200)
]


class Watch:
    """Gives what is kept, and remembers what it was asked."""

    def __init__(self, kept: list[Session] = KEPT) -> None:
        self.kept = kept
        self.asked: list[tuple[str | None, str | None, int]] = []

    def sessions(self, process: str | None, remote: str | None, limit: int) -> list[Session]:
        self.asked.append((process, remote, limit))
        fitting = (
            one
            for one in self.kept
            if process in (None, one.process) and remote in (None, one.remote_address)
        )
        return list(fitting)[:limit]


def served(path: Path, talk: Callable[[], Any], sessions: local.Sessions, **options: float) -> Any:
    """Run ``talk`` in a thread while the socket is served."""

    async def serve() -> Any:
        async with local.serve(path, sessions, **options):
            return await asyncio.to_thread(talk)

    return asyncio.run(serve())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / local.SOCKET_NAME


def said(path: Path, question: bytes) -> bytes:
    """Send bytes as they are; everything that comes back."""
    with closing(socket.socket(socket.AF_UNIX)) as raw:
        raw.settimeout(30)
        raw.connect(str(path))
        with suppress(BrokenPipeError):  # it refuses without waiting for a question
            raw.sendall(question)
            raw.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: raw.recv(65_536), b""))


def test_sessions_come_as_they_are(path: Path) -> None:
    assert served(path, lambda: local.ask(path), Watch().sessions) == KEPT


def test_what_is_asked_for(path: Path) -> None:
    watch = Watch()
    found = served(path, lambda: local.ask(path, process="curl", remote="192.0.2.3", limit=7), watch.sessions)

    assert found == [KEPT[3]]
    assert watch.asked[0] == ("curl", "192.0.2.3", 7)


def test_sessions_left_out_make_room_for_others(path: Path) -> None:
    found = served(path, lambda: local.ask(path, but="pathgrade", limit=100), Watch().sessions)

    assert found == [one for one in KEPT if one.process != "pathgrade"][:100]


def test_one_is_found_by_how_its_id_begins(path: Path) -> None:
    def talk() -> list[Session]:
        return [local.find(path, prefix) for prefix in ("c7", "C700", KEPT[-1].id)]

    assert served(path, talk, Watch().sessions) == [KEPT[-1]] * 3


@pytest.mark.parametrize(
    ("prefix", "message", "remedy"),
    [
        ("ff", "no session has an id that begins with 'ff'", "list them with: pathgrade flows --once"),
        ("c", "'c' begins several ids", "one of: c000c2ab94, c100c2ab94, c200c2ab94"),
    ],
)
def test_no_session_or_several(path: Path, prefix: str, message: str, remedy: str) -> None:
    with pytest.raises(SessionUnknownError) as caught:
        served(path, lambda: local.find(path, prefix), Watch().sessions)

    assert str(caught.value) == message
    assert caught.value.remedy.startswith(remedy)


def test_the_file_is_the_owners_only_and_goes_with_the_agent(path: Path) -> None:
    mode = served(path, path.stat, Watch().sessions).st_mode

    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_agent_left_is_replaced(path: Path) -> None:
    for left in (path, path.with_name(path.name + ".new")):
        with closing(socket.socket(socket.AF_UNIX)) as killed:
            killed.bind(str(left))

    assert served(path, lambda: local.ask(path, limit=1), Watch().sessions) == KEPT[:1]


def test_a_folder_that_cannot_hold_a_socket(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)  # sun_path holds 108 bytes
    long.mkdir()
    for folder in (tmp_path / "missing", long):
        with pytest.raises(FolderError, match=rf"^listen at {folder}"):
            served(folder / local.SOCKET_NAME, lambda: None, Watch().sessions)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (b"\x00\xff\n", "not a question: "),
        (b"[]\n", "not a question: Expected `object`, got `array`"),
        (b"", "not a question: Input data was truncated"),
        (b'{"limit":0}\n', "not a question: Expected `int` >= 1 - at `$.limit`"),
        (b'{"shell":"x"}\n', "not a question: Object contains unknown field `shell`"),
        (b'{"process":"' + b"x" * 65 + b'"}\n', "not a question: Expected `str` of length <= 64"),
        (b"[" * 50_000 + b"\n", "not a question: longer than 4096 bytes"),
        (b"[" * 50_000, "not a question: longer than 4096 bytes"),
    ],
    ids=["bytes", "array", "nothing", "limit", "field", "name", "long", "endless"],
)
def test_rubbish_gets_one_error_and_the_next_one_an_answer(path: Path, question: bytes, answer: str) -> None:
    def talk() -> tuple[bytes, list[Session]]:
        return said(path, question), local.ask(path, limit=2)

    refused, found = served(path, talk, Watch().sessions)
    assert refused.startswith(b'{"error":"' + answer.encode())
    assert refused.count(b"\n") == 1
    assert found == KEPT[:2]


def test_many_ask_at_once(path: Path) -> None:
    async def talk() -> list[list[Session]]:
        async with local.serve(path, Watch(KEPT * 5).sessions):
            asks = [asyncio.to_thread(local.ask, path, limit=number + 1) for number in range(40)]
            return await asyncio.gather(*asks)

    assert [len(found) for found in asyncio.run(talk())] == list(range(1, 41))


def test_an_asker_that_says_nothing_is_dropped(path: Path) -> None:
    def talk() -> bytes:
        with closing(socket.socket(socket.AF_UNIX)) as silent:
            silent.settimeout(30)
            silent.connect(str(path))
            return silent.recv(1)

    assert served(path, talk, Watch().sessions, talk_s=0.05) == b""


def test_an_asker_that_takes_no_answer_does_not_keep_the_agent(path: Path) -> None:
    async def talk() -> None:
        with closing(socket.socket(socket.AF_UNIX)) as stuck:
            async with local.serve(path, Watch(KEPT * 20).sessions):
                stuck.connect(str(path))
                stuck.sendall(b"{}\n")
                assert await asyncio.to_thread(local.ask, path, limit=1) == KEPT[:1]

    asyncio.run(asyncio.wait_for(talk(), 30))
    assert not path.exists()


def test_a_source_that_fails_is_said_and_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails(*_: object) -> list[Session]:
        raise RuntimeError("no snapshot")

    with pytest.raises(LocalAnswerError, match="could not read its sessions; its log says why"):
        served(path, lambda: local.ask(path), fails)
    assert "sessions could not be told" in caplog.text


def test_no_agent(path: Path) -> None:
    with pytest.raises(LocalError, match=f"^no agent of this host answers at {path}: No such file") as caught:
        local.ask(path)

    assert caught.value.remedy.splitlines() == [
        "start it with: pathgrade agent run --config FILE; passive must not be off",
        "name its data folder with --data or PATHGRADE_AGENT_DATA",
        "ask the server instead: pathgrade flows --agent NAME, or --url URL",
    ]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "it broke off"),
        (b'{"sessions":2}\n', "it broke off"),
        (b'{"sessions":1}\n{"id":', "it broke off"),
        (b'{"sessions":1}\n{"id":"1f"}\n', "Object missing required field"),
        (b"HTTP/1.1 400\r\n", "JSON is malformed"),
    ],
)
def test_an_answer_that_is_none(path: Path, answer: bytes, why: str) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    async def talk() -> None:
        async with await asyncio.start_unix_server(other, path):
            await asyncio.to_thread(local.ask, path)

    with pytest.raises(LocalAnswerError, match=why):
        asyncio.run(talk())


def test_the_kernel_says_who_asks(path: Path) -> None:
    async def talk() -> list[int]:
        uids: list[int] = []

        async def asked(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            uids.append(local._uid_of(writer))
            writer.close()

        async with await asyncio.start_unix_server(asked, path):
            await asyncio.to_thread(said, path, b"")
        return uids

    assert asyncio.run(talk()) == [os.getuid()]


@pytest.mark.parametrize(
    ("uid", "answered"), [(0, True), (61_184, True), (1000, False), (65_534, False), (-1, False)]
)
def test_only_root_and_the_agents_user_are_answered(uid: int, answered: bool) -> None:
    desk = local._Desk(Watch().sessions, uid=61_184, talk_s=1)
    first = b"".join(desk._parts(b"{}\n", uid)).splitlines()[0]

    refusal = f'{{"error":"uid {uid} is not root, nor the agent\'s user","refused":true}}'
    assert first.decode() == ('{"sessions":200}' if answered else refusal)


def test_a_refusal_is_said_as_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_uid_of", lambda _: 1000 if os.getuid() != 1000 else 1001)
    with pytest.raises(LocalRefusedError, match="is not root, nor the agent's user") as caught:
        served(path, lambda: local.ask(path), Watch().sessions)

    assert caught.value.remedy == "ask as root, or as the user the agent runs as"
    assert caught.value.exit_code == 77
