"""The running kernel's type information (BTF): where each member of a struct is.

The format is drawn in the kernel's Documentation/bpf/btf.rst::

    header   magic u16, version u8, flags u8, header length u32,
             types offset u32, types length u32, strings offset u32, strings length u32
    types    one after the other, numbered from 1:
             name offset u32, info u32 (bit 31 kind flag, 28-24 kind, 15-0 count), size or type u32,
             then what its kind adds
    strings  NUL-terminated
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from ebpf.errors import BtfError, LayoutError

KERNEL_BTF: Final = Path("/sys/kernel/btf/vmlinux")

_MAGIC: Final = 0xEB9F
_HEADER: Final = struct.Struct("<HBBIIIII")
_TYPE: Final = struct.Struct("<III")
_MEMBER: Final = struct.Struct("<III")
_ARRAY: Final = struct.Struct("<III")
_MOST_STEPS: Final = 32
"""From a type to the one that it names, and from there: the kernel's verifier takes no more, either."""
_POINTER_SIZE: Final = 8  # 64-bit kernels only; bcc's programs assume the same


class Kind(IntEnum):
    """Kinds of types (BTF_KIND_*)."""

    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_FIXED_TAIL: Final = {Kind.INT: 4, Kind.ARRAY: 12, Kind.VAR: 4, Kind.DECL_TAG: 4}
_TAIL_PER_ENTRY: Final = {
    Kind.STRUCT: 12,
    Kind.UNION: 12,
    Kind.ENUM: 8,
    Kind.FUNC_PROTO: 8,
    Kind.DATASEC: 12,
    Kind.ENUM64: 12,
}
_TRANSPARENT: Final = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})
_HOOK_KINDS: Final = frozenset({Kind.TYPEDEF, Kind.FUNC})
_HOOK_PREFIXES: Final = (b"btf_trace_", b"bpf_iter_")
_COMPOSITE: Final = frozenset({Kind.STRUCT, Kind.UNION})


@dataclass(frozen=True, slots=True)
class Field:
    """Where a member is: bits from the start of its struct, and its size."""

    bit_offset: int
    bit_size: int  # of a bit field; 0 = not one
    byte_size: int

    @property
    def byte_offset(self) -> int:
        """The byte the member starts in."""
        return self.bit_offset // 8


class _Type(NamedTuple):
    name_offset: int
    kind: int
    entries: int
    kind_flag: bool
    size_or_type: int


class _Member(NamedTuple):
    name: str
    type_id: int
    bit_offset: int
    bit_size: int


class Btf:
    """A BTF blob, indexed by struct name."""

    def __init__(self, data: bytes) -> None:
        """Index ``data``. Raises BtfError where it is not BTF, or is cut short."""
        self._data = data
        with self._reading():
            self._index()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (struct.error, ValueError, IndexError, RecursionError) as error:
            raise BtfError(
                f"reading the kernel's BTF: not the expected format ({error})",
                remedy=f"check that {KERNEL_BTF} is readable and that this is a little-endian 64-bit kernel",
            ) from error

    def field(self, struct_name: str, path: str) -> Field:
        """Find ``path`` (members joined by dots; element 0 of an array) in a struct.

        Raises LayoutError where there is none, BtfError where a type leads nowhere, or in a circle.
        """
        with self._reading():
            return self._field(struct_name, path)

    def _field(self, struct_name: str, path: str) -> Field:
        type_id = self._struct(struct_name)
        bits, bit_size = 0, 0
        for name in path.split("."):
            member = self._find(self._first_element(type_id), name, set())
            if member is None:
                raise LayoutError(
                    f"this kernel's struct {struct_name} has no field {path!r} (looked for {name!r})",
                    remedy='run a kernel that pathgrade supports, or set passive = "off"',
                )
            bits += member.bit_offset
            type_id, bit_size = member.type_id, member.bit_size
        return Field(bit_offset=bits, bit_size=bit_size, byte_size=self._size(type_id))

    def hook(self, name: str) -> int:
        """Find the type that a program attaches by (``btf_trace_*``, ``bpf_iter_*``): its number, or 0."""
        return self._hooks.get(name, 0)

    def _index(self) -> None:
        """Note where each type begins, and each named struct's number."""
        magic, _, _, header, types_at, types_length, strings_at, _ = _HEADER.unpack_from(self._data)
        if magic != _MAGIC:
            raise ValueError(f"magic {magic:#06x}")
        self._strings = header + strings_at
        self._offsets = [0]  # number 0 is void
        self._structs: dict[str, int] = {}
        at, end = header + types_at, header + types_at + types_length
        unpack, data, offsets = _TYPE.unpack_from, self._data, self._offsets
        named: list[tuple[int, int]] = []
        self._hooks: dict[str, int] = {}
        hooks: list[tuple[int, int]] = []
        while at < end:
            name_offset, info, _ = unpack(data, at)
            kind = (info >> 24) & 0x1F
            if kind == Kind.STRUCT and name_offset:
                named.append((name_offset, len(offsets)))
            elif kind in _HOOK_KINDS:
                hooks.append((name_offset, len(offsets)))
            offsets.append(at)
            at += _TYPE.size + _tail(kind, info & 0xFFFF)
        for name_offset, number in named:
            self._structs.setdefault(self._text(name_offset), number)
        for name_offset, number in hooks:
            if data.startswith(_HOOK_PREFIXES, self._strings + name_offset):
                self._hooks[self._text(name_offset)] = number

    def _struct(self, name: str) -> int:
        try:
            return self._structs[name]
        except KeyError:
            raise LayoutError(
                f"this kernel has no struct {name}",
                remedy='run a kernel that pathgrade supports, or set passive = "off"',
            ) from None

    def _text(self, offset: int) -> str:
        start = self._strings + offset
        return self._data[start : self._data.index(b"\0", start)].decode()

    def _type(self, type_id: int) -> _Type:
        name_offset, info, size_or_type = _TYPE.unpack_from(self._data, self._offsets[type_id])
        return _Type(name_offset, (info >> 24) & 0x1F, info & 0xFFFF, bool(info >> 31), size_or_type)

    def _resolve(self, type_id: int) -> int:
        """See through typedefs and qualifiers."""
        for _ in range(_MOST_STEPS):
            if (found := self._type(type_id)).kind not in _TRANSPARENT:
                return type_id
            type_id = found.size_or_type
        raise ValueError("a type that is made of itself")

    def _first_element(self, type_id: int) -> int:
        type_id = self._resolve(type_id)
        for _ in range(_MOST_STEPS):
            if self._type(type_id).kind != Kind.ARRAY:
                return type_id
            element, _, _ = _ARRAY.unpack_from(self._data, self._offsets[type_id] + _TYPE.size)
            type_id = self._resolve(element)
        raise ValueError("an array of itself")

    def _members(self, type_id: int) -> Iterator[_Member]:
        found = self._type(type_id)
        if found.kind not in _COMPOSITE:
            return
        start = self._offsets[type_id] + _TYPE.size
        for at in range(start, start + found.entries * _MEMBER.size, _MEMBER.size):
            name_offset, member_type, offset = _MEMBER.unpack_from(self._data, at)
            # With the kind flag the upper 8 bits are the width of a bit field.
            bits, width = (offset & 0xFFFFFF, offset >> 24) if found.kind_flag else (offset, 0)
            yield _Member(self._text(name_offset), member_type, bits, width)

    def _find(self, type_id: int, name: str, seen: set[int]) -> _Member | None:
        """Find a member, also inside anonymous structs and unions.

        ``seen`` are those that do not have it: each of two in each of two, and so on, would take forever.
        """
        seen.add(type_id)
        for member in self._members(type_id):
            if member.name == name:
                return member
            if member.name:
                continue
            type_of = self._resolve(member.type_id)
            inner = None if type_of in seen else self._find(type_of, name, seen)
            if inner is not None:
                return inner._replace(bit_offset=member.bit_offset + inner.bit_offset)
        return None

    def _size(self, type_id: int) -> int:
        type_id = self._resolve(type_id)
        found = self._type(type_id)
        if found.kind == Kind.PTR:
            return _POINTER_SIZE
        if found.kind == Kind.ARRAY:
            element, _, length = _ARRAY.unpack_from(self._data, self._offsets[type_id] + _TYPE.size)
            return int(length) * self._size(element)
        return found.size_or_type


def read_btf(path: Path = KERNEL_BTF) -> bytes:
    """Read the kernel's BTF (5 MB). Raises BtfError where the kernel was built without it."""
    with _reading(path):
        return path.read_bytes()


def btf_digest(path: Path = KERNEL_BTF) -> bytes:
    """SHA-256 of the kernel's BTF, without its 5 MB ever being in memory. Raises BtfError as ``read_btf``."""
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BtfError(
            f"reading the kernel's type information {path}: {error.strerror}",
            remedy="run a kernel with CONFIG_DEBUG_INFO_BTF=y (Debian's and Ubuntu's own kernels have it), "
            'or set passive = "inet_diag" to poll the kernel instead',
        ) from error


def _tail(kind: int, count: int) -> int:
    """Bytes that a type of this kind has after its first twelve. Raises ValueError for an unknown kind."""
    known = Kind(kind)
    return _TAIL_PER_ENTRY[known] * count if known in _TAIL_PER_ENTRY else _FIXED_TAIL.get(known, 0)
