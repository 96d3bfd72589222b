"""The kernel structs that the programs read, as a C header made for the running kernel.

bcc knows no CO-RE relocations, and kernel headers that do not match give wrong offsets without a word. So the
header has just the fields in use, each at the offset that the kernel's own BTF says, with padding between.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from ebpf.btf import Btf, Field
from ebpf.errors import LayoutError

STRUCTS: Final[dict[str, tuple[str, ...]]] = {
    "task_struct": ("tgid", "group_leader", "comm"),
    "socket": ("sk",),
    "sock_common": (
        "skc_daddr",
        "skc_rcv_saddr",
        "skc_dport",
        "skc_family",
        "skc_state",
        "skc_net.net",
        "skc_v6_daddr",
        "skc_v6_rcv_saddr",
        "skc_flags",
    ),
    "sock": ("sk_protocol", "sk_type"),
    "inet_sock": ("inet_sport",),
    "net": ("ns.inum",),
    "tcp_sock": (
        "srtt_us",
        "mdev_us",
        "rtt_min.s.v",
        "total_retrans",
        "bytes_acked",
        "bytes_received",
        "data_segs_out",
        "segs_in",
        "segs_out",
        "rate_delivered",
        "rate_interval_us",
        "rate_app_limited",
        "mss_cache",
        "snd_cwnd",
        "snd_una",
        "write_seq",
    ),
    "bpf_iter_meta": ("seq",),
    "bpf_iter__task_file": ("meta", "task", "file"),
}
"""Struct -> the members in use. A dot goes into a member; an array stands for its first element."""

_C_TYPES: Final = {1: "u8", 2: "u16", 4: "u32", 8: "u64"}


class _Slot(NamedTuple):
    """One member of a generated struct."""

    byte_offset: int
    byte_size: int
    name: str
    path: str


def header(btf: Btf) -> str:
    """Write the C header. Raises LayoutError naming what this kernel lacks."""
    parts = ["/* Made from the running kernel's BTF by ebpf/layout.py. */"]
    for struct_name, paths in STRUCTS.items():
        fields = {path: btf.field(struct_name, path) for path in paths}
        slots = sorted(_slot(path, field) for path, field in fields.items())
        parts += _struct(struct_name, slots)
        parts += _bit_numbers(struct_name, fields)
    return "\n".join(parts) + "\n"


def c_name(path: str) -> str:
    """Give the C name of a member: ``ns.inum`` -> ``ns_inum``."""
    return path.replace(".", "_")


def _slot(path: str, field: Field) -> _Slot:
    size = 1 if field.bit_size else field.byte_size
    return _Slot(field.byte_offset, size, c_name(path), path)


def _struct(name: str, slots: list[_Slot]) -> Iterator[str]:
    _refuse_overlap(name, slots)
    yield f"struct {name} {{"
    position = 0
    for slot in slots:
        if slot.byte_offset > position:
            yield f"\tu8 before_{slot.name}[{slot.byte_offset - position}];"
        yield f"\t{_declaration(slot)}"
        position = slot.byte_offset + slot.byte_size
    # Aligned as the kernel's own: clang would read a packed pointer byte by byte, and the verifier refuse it.
    yield "} __attribute__((packed, aligned(8)));"
    for slot in slots:
        yield offset_assert(name, slot.name, slot.byte_offset)


def _refuse_overlap(name: str, slots: list[_Slot]) -> None:
    """Two members of one union cannot both be in a padded struct."""
    for before, after in pairwise(slots):
        if after.byte_offset < before.byte_offset + before.byte_size:
            raise LayoutError(
                f"in this kernel's struct {name}, {before.path!r} and {after.path!r} overlap",
                remedy='run a kernel that pathgrade supports, or set passive = "off"',
            )


def _declaration(slot: _Slot) -> str:
    kind = _C_TYPES.get(slot.byte_size)
    return f"{kind} {slot.name};" if kind else f"u8 {slot.name}[{slot.byte_size}];"


def _bit_numbers(name: str, fields: dict[str, Field]) -> Iterator[str]:
    """For each one-bit field, the number of its bit in its byte."""
    for path, field in fields.items():
        if field.bit_size:
            yield f"#define {name}_{c_name(path)}_bit {field.bit_offset % 8}"


def offset_assert(struct_name: str, member: str, offset: int) -> str:
    """Make the compiler check one offset."""
    return (
        f"_Static_assert(__builtin_offsetof(struct {struct_name}, {member}) == {offset}, "
        f'"offset of {struct_name}.{member}");'
    )
