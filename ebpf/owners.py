"""A process that owns sessions, as the kernel kept it: the twin of C's ``struct owner`` (state.bpf.c)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from ebpf.events import OwnerFacts
from ebpf.layout import offset_assert

MEMBERS: Final = {"started_ns": "Q", "uid": "I", "reserved": "4x", "cgroup": "96s", "executable": "256s"}
OWNER: Final = struct.Struct("<" + "".join(MEMBERS.values()))


def decode_owner(value: bytes, *, started_ns: int) -> OwnerFacts | None:
    """Decode an entry of the map of owners; None where it is of another process with the same pid."""
    started, uid, cgroup, executable = OWNER.unpack(value)
    if started != started_ns:
        return None
    return OwnerFacts(uid=uid, executable=_text(executable), cgroup=_text(cgroup))


def offset_asserts() -> Iterator[str]:
    """Make the compiler compare ``struct owner`` with this module, member by member."""
    yield f'_Static_assert(sizeof(struct owner) == {OWNER.size}, "size of struct owner");'
    offset = 0
    for name, code in MEMBERS.items():
        yield offset_assert("owner", name, offset)
        offset += struct.calcsize("<" + code)


def _text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode("utf-8", "replace")
