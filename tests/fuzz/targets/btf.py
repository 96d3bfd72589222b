"""The kernel's type information (ebpf/btf.py), and the header that is made of it (ebpf/layout.py)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress

from shaped import Taken, chosen, either

from ebpf.btf import Btf
from ebpf.errors import BtfError, LayoutError

ALLOWED = (BtfError,)
NAMES = b"\0sock\0sk_err\0inner\0btf_trace_x\0list\0"


def target(data: bytes) -> object:
    return either(data, _parsed, _typed)


def _parsed(data: bytes) -> None:
    btf = Btf(data)
    btf.hook("btf_trace_x")
    for path in ("inner", "list.sk_err", "list", "sk_err"):
        with suppress(LayoutError):
            found = btf.field("sock", path)
            assert found.bit_offset >= 0
            assert found.byte_size >= 0
    btf.field("sock", "sk_err")


def _typed(data: bytes) -> None:
    """Types and names of the fuzzer's, each of a known kind."""
    taken = Taken(data)
    types = b""
    for _ in range(taken.number(1, 8)):
        kind, entries, flag = taken.number(1, 19), taken.number(0, 3), taken.flag()
        types += struct.pack("<III", _name(taken), flag << 31 | kind << 24 | entries, taken.number(0, 9))
        types += b"".join(struct.pack("<I", _small(taken)) for _ in range(_words(kind, entries)))
    _parsed(_file(types))


def _name(taken: Taken) -> int:
    return taken.one_of((0, 1, 6, 13, 19, 31, 200))


def _small(taken: Taken) -> int:
    value = taken.byte()
    return value if value < 200 else value << 24


def _words(kind: int, entries: int) -> int:
    each = {4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3}
    return each[kind] * entries if kind in each else {1: 1, 3: 3, 14: 1, 17: 1}.get(kind, 0)


def _file(types: bytes) -> bytes:
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(NAMES)) + types + NAMES


def seeds() -> Iterator[bytes]:
    integer = struct.pack("<IIII", 0, 1 << 24, 4, 32)
    struct_ = (
        struct.pack("<III", 1, 4 << 24 | 2, 8) + struct.pack("<III", 6, 1, 0) + struct.pack("<III", 0, 3, 32)
    )
    inner = struct.pack("<III", 0, 5 << 24 | 1, 4) + struct.pack("<III", 13, 1, 0)
    array = struct.pack("<III", 0, 3 << 24, 0) + struct.pack("<III", 1, 1, 4)
    typedef = struct.pack("<III", 19, 8 << 24, 2)
    yield chosen(0, _file(integer + struct_ + inner + array + typedef))
    yield chosen(1, b"\3" + b"\0\0\0\0" + b"\4\1\2\0\1" + b"\2\1\0" + b"\0\2\1")
