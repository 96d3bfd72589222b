"""The TCP sessions of this host for the command: JSON lines over a Unix socket in the agent's data folder.

::

    command                                      agent
    {"process":"curl","limit":50}            ->
                                             <-  {"sessions":2}       or {"error":"..."}
                                             <-  {"id":"1f00c2ab94",...}
                                             <-  {"id":"77e0a1b2c3",...}

One question a connection. Sessions stay on their host, and are told to root and to the agent's own user only
(SO_PEERCRED, unix(7)): who talks to whom is nobody else's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Annotated, BinaryIO, Final, TypeVar

import msgspec

from agent.errors import FolderError, LocalAnswerError, LocalError, LocalRefusedError, SessionUnknownError
from analytics.errors import UNREADABLE
from analytics.measurement import Session

log: Final = logging.getLogger("pathgrade.agent.local")

SOCKET_NAME: Final = "agent.sock"
MOST: Final = 5_000
"""Sessions in one answer."""
ALL: Final = 1_000_000
"""More than an agent keeps: what is looked for may be any of them."""
MAX_REQUEST: Final = 4 * 1024
MAX_LINE: Final = 64 * 1024
"""A session is 1.5 kB; escapes in a program's path make it six times longer at most."""
AT_ONCE: Final = 4
"""Answers in the making: each holds its sessions in memory until the asker took them."""
TALK_S: Final = 10.0
"""For a whole conversation: an asker that neither asks nor takes its answer is dropped."""
PER_WRITE: Final = 64
"""Sessions to a write, so that a slow asker does not make the agent keep the whole answer as bytes too."""

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid

Sessions = Callable[[str | None, str | None, int], list[Session]]
"""(process, remote, limit) -> sessions, newest first, as ``Watch.sessions``."""
T = TypeVar("T")


class Ask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which sessions are asked for; all of it must fit."""

    process: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    but: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    """Not of this process."""
    remote: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    id: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """How the id begins."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = MOST


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """First line of an answer: how many sessions follow, or why none do."""

    sessions: int = 0
    error: str = ""
    refused: bool = False


@asynccontextmanager
async def serve(path: Path, sessions: Sessions, *, talk_s: float = TALK_S) -> AsyncIterator[None]:
    """Answer at ``path`` until left. What stands there is replaced: the agent's lock says it is stale.

    Raises ``FolderError`` where the socket cannot be made.
    """
    listener = _bind(path)
    desk = _Desk(sessions, uid=os.geteuid(), talk_s=talk_s)
    server = await asyncio.start_unix_server(desk.talk, sock=listener, limit=MAX_REQUEST)
    try:
        yield
    finally:
        server.close()
        await desk.close()
        _unlink(path)


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):  # the next agent replaces it
        path.unlink()


def ask(
    path: Path,
    *,
    process: str | None = None,
    remote: str | None = None,
    limit: int = MOST,
    but: str | None = None,
    prefix: str | None = None,
) -> list[Session]:
    """Ask the agent at ``path`` for sessions, newest first; blocks, at most ``TALK_S``.

    Raises ``LocalError`` where no agent answers, ``LocalRefusedError`` where it does not answer this user and
    ``LocalAnswerError`` where it does not take the question or is of another version.
    """
    question = Ask(process=process, remote=remote, limit=limit, but=but, id=prefix or "")
    with _connected(path) as connection, connection.makefile("rb") as answer:
        with suppress(BrokenPipeError):  # it may have refused already, and said so
            connection.sendall(msgspec.json.encode(question) + b"\n")
        head = _line(answer, Head, path)
        if head.error:
            refused = LocalRefusedError if head.refused else LocalAnswerError
            raise refused(f"ask the agent at {path}: {head.error}", remedy=_REMEDIES[refused])
        return [_line(answer, Session, path) for _ in range(head.sessions)]


def find(path: Path, prefix: str) -> Session:
    """Ask for the one session whose id begins so. Raises ``SessionUnknownError`` and what ``ask`` raises."""
    found = ask(path, prefix=prefix.lower(), limit=_FEW)
    if len(found) == 1:
        return found[0]
    if not found:
        raise SessionUnknownError(
            f"no session has an id that begins with {prefix!r}",
            remedy="list them with: pathgrade flows --once\nlook sooner: closed ones are kept for minutes",
        )
    ids = ", ".join(session.id for session in found)
    raise SessionUnknownError(f"{prefix!r} begins several ids", remedy=f"one of: {ids}")


_FEW: Final = 10
"""Ids named where a prefix fits several."""

_REMEDIES: Final[dict[type[LocalError], str]] = {
    LocalError: "start it with: pathgrade agent run --config FILE; passive must not be off\n"
    "name its data folder with --data or PATHGRADE_AGENT_DATA\n"
    "ask the server instead: pathgrade flows --agent NAME, or --url URL",
    LocalRefusedError: "ask as root, or as the user the agent runs as",
    LocalAnswerError: "check that command and agent are of one version",
}


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    """Connect; every failure of the connection, later ones too, is said as what it means here."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TALK_S)
        try:
            connection.connect(str(path))
            yield connection
        except OSError as error:
            kind = LocalRefusedError if isinstance(error, PermissionError) else LocalError
            raise kind(
                f"no agent of this host answers at {path}: {error.strerror or error}", remedy=_REMEDIES[kind]
            ) from error


def _line(answer: BinaryIO, kind: type[T], path: Path) -> T:
    line = answer.readline(MAX_LINE)
    try:
        return msgspec.json.decode(line, type=kind)
    except UNREADABLE as error:
        what = error if line.endswith(b"\n") else "it broke off"
        raise LocalAnswerError(
            f"the answer of the agent at {path} cannot be read: {what}", remedy=_REMEDIES[LocalAnswerError]
        ) from error


def _bind(path: Path) -> socket.socket:
    """Make the socket file. It takes its name when its mode is set; nobody can connect before it listens."""
    new = path.with_name(path.name + ".new")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        new.unlink(missing_ok=True)
        listener.bind(str(new))
        new.chmod(0o600)
        new.replace(path)
    except OSError as error:
        listener.close()
        raise FolderError(
            f"listen at {path}: {error.strerror or error}",
            remedy="set data to a folder that the agent's user can write, with a path of at most 90 bytes",
        ) from error
    return listener


class _Desk:
    """Answers askers, a few at once."""

    def __init__(self, sessions: Sessions, *, uid: int, talk_s: float) -> None:
        self._sessions = sessions
        self._talk_s = talk_s
        self._served = (0, uid)
        self._room = asyncio.Semaphore(AT_ONCE)
        self._talks: set[asyncio.Task[None] | None] = set()

    async def close(self) -> None:
        """Break off what is being said."""
        talks = [talk for talk in self._talks if talk is not None]
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one question and answer it. An asker that is gone or stuck is no fault of the agent."""
        talk = asyncio.current_task()
        self._talks.add(talk)
        try:
            async with asyncio.timeout(self._talk_s):
                await self._answer(await _read(reader), writer)
            writer.close()
        except (TimeoutError, OSError):
            writer.transport.abort()  # with what was not taken
        finally:
            self._talks.discard(talk)

    async def _answer(self, question: bytes, writer: asyncio.StreamWriter) -> None:
        async with self._room:
            for part in self._parts(question, _uid_of(writer)):
                writer.write(part)
                await writer.drain()

    def _parts(self, question: bytes, uid: int) -> Iterator[bytes]:
        """Decide an answer, and write it piece by piece."""
        if uid not in self._served:
            return iter([_lines([Head(error=f"uid {uid} is not root, nor the agent's user", refused=True)])])
        try:
            return _written(self._found(_understood(question)))
        except UNREADABLE as error:
            return iter([_lines([Head(error=f"not a question: {error}")])])
        except Exception:  # the agent must not end, nor the asker wait, whatever the kernel tells
            log.exception("sessions could not be told")
            return iter([_lines([Head(error="the agent could not read its sessions; its log says why")])])

    def _found(self, asked: Ask) -> list[Session]:
        """Look among the newest first; among all where too few of those fit."""
        found: list[Session] = []
        for most in (asked.limit, ALL):
            told = self._sessions(asked.process, asked.remote, most)
            found = [one for one in told if one.process != asked.but and one.id.startswith(asked.id)]
            if len(found) >= asked.limit or len(told) < most:
                break
        return found[: asked.limit]


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Read a question; what is too long or broken off is given as far as it came."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError:
        return b" " * (MAX_REQUEST + 1)


def _understood(question: bytes) -> Ask:
    """Read a question. Raises ``UNREADABLE``."""
    if len(question) > MAX_REQUEST:
        raise msgspec.DecodeError(f"longer than {MAX_REQUEST} bytes")
    return msgspec.json.decode(question, type=Ask)


def _uid_of(writer: asyncio.StreamWriter) -> int:
    """Who asks, as the kernel saw it when they connected."""
    asker = writer.get_extra_info("socket")
    packed = asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(packed)[1])


def _written(found: Sequence[Session]) -> Iterator[bytes]:
    yield _lines([Head(sessions=len(found))])
    for first in range(0, len(found), PER_WRITE):
        yield _lines(found[first : first + PER_WRITE])


def _lines(told: Sequence[msgspec.Struct]) -> bytes:
    return msgspec.json.Encoder().encode_lines(told)
