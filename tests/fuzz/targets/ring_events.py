"""Records of the eBPF ring and the owners' map, and everything a record can be asked (ebpf/events.py)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address

from shaped import chosen, either

from ebpf.events import RECORD, RUN, SessionEvent, decode, decode_run
from ebpf.owners import OWNER, decode_owner

ALLOWED = (struct.error,)
PROPERTIES = [name for name, kind in vars(SessionEvent).items() if isinstance(kind, property)]


def target(data: bytes) -> object:
    return either(data, _bare, _run, _whole, _owner)


def _bare(data: bytes) -> None:
    _asked(decode(data))


def _run(data: bytes) -> None:
    _asked(decode_run(data))


def _whole(data: bytes) -> None:
    _asked(decode_run(data[: RUN.size].ljust(RUN.size, b"\xff")))


def _asked(events: list[SessionEvent]) -> None:
    for event in events:
        for name in PROPERTIES:
            getattr(event, name)
        assert ip_address(event.local_address)
        assert RECORD.pack(*event) in RUN.pack(*event)


def _owner(data: bytes) -> None:
    found = decode_owner(data[: OWNER.size].ljust(OWNER.size, b"\0"), started_ns=0)
    assert found is None or "\0" not in found.executable


def seeds() -> Iterator[bytes]:
    yield chosen(0, bytes(RECORD.size))
    yield chosen(1, bytes(range(256)) * (RUN.size // 256) + bytes(RUN.size % 256))
    yield chosen(2, bytes(8) + bytes(10) + b"\xff\xff\xc0\0\2\1")
    yield chosen(3, bytes(16) + b"x.service\0" + bytes(86) + b"/usr/bin/\xff")
