"""Reading BTF: of a small blob written here, and of anything else with one kind of error."""

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ebpf.btf import Btf, Field, Kind, read_btf
from ebpf.errors import BtfError, LayoutError


class Blob:
    """Writes BTF, type by type."""

    def __init__(self) -> None:
        self._types = b""
        self._strings = b"\0"

    def add(
        self, kind: Kind, name: str, size: int, tail: bytes = b"", *, count: int = 0, flag: int = 0
    ) -> None:
        info = flag << 31 | kind << 24 | count
        self._types += struct.pack("<III", self._string(name), info, size) + tail

    def member(self, name: str, kind: int, bits: int) -> bytes:
        return struct.pack("<III", self._string(name), kind, bits)

    def data(self) -> bytes:
        header = struct.pack(
            "<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self._types), len(self._types), len(self._strings)
        )
        return header + self._types + self._strings

    def _string(self, text: str) -> int:
        if not text:
            return 0
        offset = len(self._strings)
        self._strings += text.encode() + b"\0"
        return offset


def sample() -> bytes:
    """``struct outer { u32 a; union { u64 b; u32 c[2]; }; u8 flag_x : 1, flag_y : 1; inner in[2]; ... }``."""
    blob = Blob()
    blob.add(Kind.INT, "u32", 4, bytes(4))  # 1
    blob.add(Kind.INT, "u64", 8, bytes(4))  # 2
    blob.add(Kind.ARRAY, "", 0, struct.pack("<III", 1, 1, 2))  # 3: u32[2]
    blob.add(Kind.UNION, "", 8, blob.member("b", 2, 0) + blob.member("c", 3, 0), count=2)  # 4
    blob.add(Kind.INT, "u8", 1, bytes(4))  # 5
    blob.add(Kind.STRUCT, "inner", 8, blob.member("t", 1, 0) + blob.member("v", 1, 32), count=2)  # 6
    blob.add(Kind.TYPEDEF, "inner_t", 6)  # 7
    blob.add(Kind.ARRAY, "", 0, struct.pack("<III", 7, 1, 2))  # 8: inner_t[2]
    blob.add(Kind.PTR, "", 6)  # 9
    members = [
        blob.member("a", 1, 0),
        blob.member("", 4, 64),
        blob.member("flag_x", 5, 1 << 24 | 128),
        blob.member("flag_y", 5, 1 << 24 | 129),
        blob.member("in", 8, 160),
        blob.member("next", 9, 320),
    ]
    blob.add(Kind.STRUCT, "outer", 48, b"".join(members), count=6, flag=1)  # 10
    blob.add(Kind.TYPEDEF, "btf_trace_tcp_destroy_sock", 9)  # 11
    blob.add(Kind.FUNC, "bpf_iter_task_file", 9)  # 12
    blob.add(Kind.FUNC, "tcp_close", 9)  # 13
    return blob.data()


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("a", Field(0, 0, 4)),
        ("b", Field(64, 0, 8)),
        ("c", Field(64, 0, 8)),
        ("flag_y", Field(129, 1, 1)),
        ("in", Field(160, 0, 16)),
        ("in.v", Field(192, 0, 4)),
        ("next", Field(320, 0, 8)),
    ],
)
def test_a_field_is_found(path: str, field: Field) -> None:
    assert Btf(sample()).field("outer", path) == field


@pytest.mark.parametrize(
    ("struct_name", "path", "message"),
    [
        ("nobody", "a", "no struct nobody"),
        ("outer", "z", "struct outer has no field 'z'"),
        ("outer", "in.z", r"has no field 'in.z' \(looked for 'z'\)"),
        ("outer", "next.v", "has no field 'next.v'"),
    ],
)
def test_what_is_missing_is_named(struct_name: str, path: str, message: str) -> None:
    with pytest.raises(LayoutError, match=message) as error:
        Btf(sample()).field(struct_name, path)
    assert error.value.exit_code == 77


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("btf_trace_tcp_destroy_sock", 11),
        ("bpf_iter_task_file", 12),
        ("btf_trace_no_such", 0),
        ("tcp_close", 0),  # a function, and no hook
    ],
)
def test_a_hook_is_known_by_the_number_of_its_type(name: str, number: int) -> None:
    assert Btf(sample()).hook(name) == number


@given(st.binary(max_size=80))
@example(b"")
@example(sample()[:30])
def test_other_bytes_are_one_error(tail: bytes) -> None:
    for data in (tail, sample()[:24] + tail):
        with suppress(BtfError):
            Btf(data)


def test_the_error_says_what_to_check() -> None:
    with pytest.raises(BtfError, match="not the expected format") as error:
        Btf(b"ELF")
    assert "/sys/kernel/btf/vmlinux" in error.value.remedy
    with pytest.raises(BtfError, match="/nowhere: No such file") as error:
        read_btf(Path("/nowhere"))
    assert "CONFIG_DEBUG_INFO_BTF" in error.value.remedy
