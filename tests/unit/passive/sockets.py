"""Sockets as inet_diag would list them, for tests of what is made of them."""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from socket import AF_INET, inet_aton
from typing import Any

from agent.passive.inetdiag import Socket
from agent.passive.sockdiag import Host
from ebpf.events import TcpState

CLIENT, SERVER = "192.0.2.1", "192.0.2.2"
CLIENT_PORT, PACS_PORT = 40_001, 4242
INFO_SIZE = 248
SYN_REPEATED = {100: ("=I", 1)}

INFO: dict[int, tuple[str, int]] = {
    7: ("=B", 1),
    16: ("=I", 1448),
    68: ("=I", 20_000),
    100: ("=I", 0),
    120: ("=Q", 1 + 1009),
    128: ("=Q", 20_011),
    148: ("=I", 19_000),
    160: ("=Q", 1_448_000),
}
"""Offset in struct tcp_info -> type and value (linux/tcp.h)."""


def tcp_info(changes: dict[int, tuple[str, int]]) -> bytes:
    packed = bytearray(INFO_SIZE)
    for at, (kind, value) in (INFO | changes).items():
        struct.pack_into(kind, packed, at, value)
    return bytes(packed)


def attribute(kind: int, value: bytes) -> bytes:
    padded = value + bytes(-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + padded


def client(
    cookie: int = 7,
    *,
    state: int = TcpState.ESTABLISHED,
    inode: int = 0,
    ports: tuple[int, int] = (CLIENT_PORT, PACS_PORT),
    addresses: tuple[str, str] = (CLIENT, SERVER),
    info: dict[int, tuple[str, int]] | bytes = {},  # noqa: B006  # is not written to
) -> Socket:
    """An end of a session with the PACS: the end that connected."""
    head = struct.pack("=BBBB", AF_INET, state, 0, 0) + struct.pack("!HH", *ports)
    ends = b"".join(inet_aton(address).ljust(16, b"\0") for address in addresses)
    body = head + ends + struct.pack("=IQIIIII", 0, cookie, 0, 0, 0, 0, inode)
    told = info if isinstance(info, bytes) else tcp_info(info)
    return Socket(
        cookie, state, inode, body + attribute(8, b"\0") + attribute(2, told) + attribute(4, b"cubic\0")
    )


def served(cookie: int = 8, **changes: Any) -> Socket:
    """The other end of it."""
    return client(cookie, **{"ports": (PACS_PORT, CLIENT_PORT), "addresses": (SERVER, CLIENT)} | changes)


def listening(cookie: int = 9, *, address: str = "0.0.0.0", port: int = PACS_PORT) -> Socket:
    return client(cookie, state=TcpState.LISTEN, ports=(port, 0), addresses=(address, "0.0.0.0"))


def poll(*found: Socket) -> dict[int, Socket]:
    return {one.cookie: one for one in found}


def answer(number: int, *found: Socket, code: int = 0) -> bytes:
    """The datagram with these sockets and the end of the list."""
    bodies = [(20, one.body) for one in found] + [(3, struct.pack("=i", -code))]
    return b"".join(struct.pack("=IHHII", 16 + len(body), kind, 2, number, 0) + body for kind, body in bodies)


@dataclass
class FakeHost:
    """A kernel whose sockets, processes and time are the test's."""

    proc: Path
    found: list[Socket] = field(default_factory=list)
    now_ns: int = 1_000_000_000
    error: OSError | None = None
    polls: int = 0

    def __post_init__(self) -> None:
        (self.proc / "thread-self/net").mkdir(parents=True)
        (self.proc / "thread-self/ns").mkdir()
        (self.proc / "thread-self/ns/net").touch()
        self.counts(active=0, passive=0)

    @property
    def netns(self) -> int:
        return (self.proc / "thread-self/ns/net").stat().st_ino

    @property
    def host(self) -> Host:
        return Host(dump=self._dump, proc=self.proc, now_ns=self._now_ns)

    def counts(self, *, active: int, passive: int) -> None:
        """What the kernel counted of sessions opened."""
        text = f"Ip: Forwarding\nIp: 1\nTcp: ActiveOpens PassiveOpens CurrEstab\nTcp: {active} {passive} 0\n"
        (self.proc / "thread-self/net/snmp").write_text(text)

    def _now_ns(self) -> int:
        return self.now_ns

    def _dump(self, question: bytes) -> Iterable[bytes]:
        if self.error is not None:
            raise self.error
        (number,) = struct.unpack_from("=I", question, 8)
        family = question[16]
        self.polls += family == AF_INET
        return [answer(number, *(one for one in self.found if one.family == family))]


def once(*datagrams: bytes) -> Callable[[bytes], Iterator[bytes]]:
    """A kernel that answers each question with all of these."""
    return lambda _question: iter(datagrams)
