"""The load of ``scripts/bench web``, in a process of its own: agents that send, people who read.

``python -m benches.web_load FILE`` reads what to do from the JSON file, and prints what came of it as JSON.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any, Final

from analytics import channel
from benches import web_fleet

ROWS: Final = 999
FIRST_NUMBER: Final = 1 << 20
READING_S: Final = 1.0
"""A person looks at a page for so long before the next click, give or take a half."""


@dataclass(slots=True)
class Door:
    """One kept connection of HTTP/1.1; opened again where the server closed it."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def ask(self, head: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """Send a request; returns status, headers and body as it came."""
        for fresh in (False, True):
            if self.writer is None or fresh:
                self.close()
                self.reader, self.writer = await asyncio.open_connection(self.host, self.port, ssl=self.tls)
            try:
                return await self._asked(head, body)
            except (asyncio.IncompleteReadError, ConnectionError):
                if fresh:
                    raise
        raise AssertionError("unreachable")

    async def _asked(self, head: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        assert self.reader is not None
        assert self.writer is not None
        told = f"{head}\r\nHost: {self.host}:{self.port}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(told.encode() + body)
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name
        }
        if headers.get("transfer-encoding") == "chunked":
            content = await self._chunks()
        else:
            content = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(first.split(" ")[1]), headers, content

    async def _chunks(self) -> bytes:
        assert self.reader is not None
        found = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            found.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return b"".join(found)

    def close(self) -> None:
        """Close it."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


@dataclass(slots=True)
class Seen:
    """What came of it."""

    ms: dict[str, list[float]] = field(default_factory=dict)
    bytes_sent: dict[str, int] = field(default_factory=dict)  # largest body of each kind, as sent
    statuses: dict[str, list[int]] = field(default_factory=dict)
    batches: int = 0
    refused: int = 0
    sending_s: float = 0.0
    answered_ms: list[float] = field(default_factory=list)  # how long each batch waited for its answer
    late: int = 0  # batches that had to wait for their turn, as the one before was not answered


@dataclass(frozen=True, slots=True)
class Post:
    """A batch, ready to be sent."""

    agent: str
    body: bytes


def posts(told: dict[str, Any]) -> list[Post]:
    """All batches of the run: what agents do to make one is no load of the server's."""
    if not told["rows_per_s"]:
        return []
    made = cycle(web_fleet.bodies(told["names"], told["senders"]))
    count = 1 + told["seconds"] * told["rows_per_s"] // ROWS
    return [
        Post(one.agent, one.numbered(number))
        for number, one in zip(range(FIRST_NUMBER, FIRST_NUMBER + count), made, strict=False)
    ]


HEAD: Final = "POST /v1/batches HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Type: application/octet-stream"


def _tls(told: dict[str, Any], agent: str) -> ssl.SSLContext:
    """As the agent connects."""
    context = channel.tls_1_3(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=told["authority"])
    channel.present(context, told["shown"][agent].encode())
    return context


async def send(told: dict[str, Any], ready: list[Post], seen: Seen) -> None:
    """Have agents send batches at a steady rate."""
    every_s, turns = ROWS / told["rows_per_s"], asyncio.Semaphore(told["connections"])
    host, port = told["agents"]
    doors = {post.agent: Door(host, port, _tls(told, post.agent)) for post in ready}
    held = {agent: asyncio.Lock() for agent in doors}
    began, sending = time.monotonic(), set[asyncio.Task[None]]()
    for number, post in enumerate(ready):
        await asyncio.sleep(max(0.0, began + number * every_s - time.monotonic()))
        seen.late += turns.locked() or held[post.agent].locked()
        await turns.acquire()
        task = asyncio.create_task(_sent(doors[post.agent], held[post.agent], turns, post, seen))
        sending.add(task)
        task.add_done_callback(sending.discard)
    await asyncio.gather(*sending)
    seen.sending_s = time.monotonic() - began


async def _sent(door: Door, held: asyncio.Lock, turns: asyncio.Semaphore, post: Post, seen: Seen) -> None:
    began, status = time.monotonic(), 0
    try:
        async with held:
            status, _, _ = await door.ask(HEAD, post.body)
    except (OSError, asyncio.IncompleteReadError):
        door.close()
    finally:
        turns.release()
    seen.batches += status == 200  # OK
    seen.refused += status != 200  # OK
    seen.answered_ms.append(1_000 * (time.monotonic() - began))


async def read(number: int, told: dict[str, Any], seen: Seen, until: float) -> None:
    """One person: click, read for a while, click."""
    draw, door = Random(number), Door(*told["report"])
    await asyncio.sleep(draw.random() * READING_S)
    for kind, address in _clicks(draw, told["pages"], told["names"]):
        began = time.monotonic()
        if began > until:
            break
        head = f"GET {address} HTTP/1.1\r\nAccept-Encoding: gzip{told['cookie']}"
        status, _, body = await door.ask(head)
        seen.ms.setdefault(kind, []).append(1_000 * (time.monotonic() - began))
        seen.statuses.setdefault(kind, []).append(status)
        seen.bytes_sent[kind] = max(seen.bytes_sent.get(kind, 0), len(body))
        await asyncio.sleep(READING_S * draw.uniform(0.5, 1.5))
    door.close()


def _clicks(draw: Random, pages: dict[str, str], names: list[str]) -> Iterator[tuple[str, str]]:
    """What a person clicks on: every kind as often, paths and agents by chance."""
    kinds = [*pages]
    while True:
        draw.shuffle(kinds)
        for kind in kinds:
            src, dst = draw.sample(names, 2)
            yield kind, pages[kind].format(src=src, dst=dst)


async def run(told: dict[str, Any], ready: list[Post]) -> Seen:
    """Do what is told, for as long as is told."""
    seen, until = Seen(), time.monotonic() + told["seconds"]
    async with asyncio.TaskGroup() as tasks:
        if ready:
            tasks.create_task(send(told, ready, seen))
        for number in range(told["users"]):
            tasks.create_task(read(number, told, seen, until))
    return seen


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    batches = posts(asked)
    print("ready", flush=True)
    found = asyncio.run(run(asked, batches))
    print(json.dumps({name: getattr(found, name) for name in Seen.__slots__}))
