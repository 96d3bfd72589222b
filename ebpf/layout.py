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
    "task_struct": (
        "flags",
        "pid",
        "tgid",
        "group_leader",
        "comm",
        "start_boottime",
        "mm",
        "fs",
        "cred",
        "cgroups",
    ),
    "mm_struct": ("exe_file",),
    "file": ("f_path.mnt", "f_path.dentry"),
    "fs_struct": ("root.mnt", "root.dentry"),
    "dentry": ("d_parent", "d_name.name"),
    "vfsmount": ("mnt_root",),
    "mount": ("mnt_parent", "mnt_mountpoint", "mnt"),
    "cred": ("uid.val",),
    "css_set": ("dfl_cgrp",),
    "cgroup": ("kn",),
    "kernfs_node": ("name",),
    "socket": ("sk",),
    "sock_common": (
        "skc_daddr",
        "skc_rcv_saddr",
        "skc_dport",
        "skc_num",
        "skc_family",
        "skc_state",
        "skc_net.net",
        "skc_v6_daddr",
        "skc_v6_rcv_saddr",
        "skc_flags",
    ),
    "sock": ("sk_protocol", "sk_type", "sk_err", "sk_shutdown"),
    "inet_sock": ("inet_sport",),
    "inet_connection_sock": ("icsk_ca_ops",),
    "tcp_congestion_ops": ("name",),
    "net": ("ns.inum",),
    "tcp_sock": (
        "srtt_us",
        "mdev_us",
        "rtt_min.s.v",
        "total_retrans",
        "lost_out",
        "reordering",
        "reord_seen",
        "dsack_dups",
        "bytes_sent",
        "bytes_acked",
        "bytes_retrans",
        "bytes_received",
        "data_segs_out",
        "data_segs_in",
        "segs_in",
        "segs_out",
        "rate_delivered",
        "rate_interval_us",
        "mss_cache",
        "snd_cwnd",
        "snd_wnd",
        "snd_una",
        "write_seq",
        "chrono_start",
        "chrono_stat",
    ),
    "bpf_iter_meta": ("seq",),
    "bpf_iter__task_file": ("meta", "task", "file"),
}
"""Struct -> the members in use. A dot goes into a member; an array of structs is its first element."""

BITS: Final[dict[str, tuple[str, ...]]] = {"tcp_sock": ("rate_app_limited", "chrono_type", "syn_data_acked")}
"""Members that are bit fields, here or in another kernel. They share bytes, so they are told as numbers."""

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
    for struct_name, paths in BITS.items():
        for path in paths:
            parts += _bits(f"{struct_name}_{path}", btf.field(struct_name, path))
    return "\n".join(parts) + "\n"


def c_name(path: str) -> str:
    """Give the C name of a member: ``ns.inum`` -> ``ns_inum``."""
    return path.replace(".", "_")


def _slot(path: str, field: Field) -> _Slot:
    return _Slot(field.byte_offset, field.byte_size, c_name(path), path)


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


def _bits(name: str, field: Field) -> Iterator[str]:
    """Where the bits of a member are: its byte, how far up in it, and how many as a mask."""
    yield f"#define {name}_at {field.byte_offset}"
    yield f"#define {name}_shift {field.bit_offset % 8}"
    yield f"#define {name}_mask {(1 << (field.bit_size or 8)) - 1:#x}"


def offset_assert(struct_name: str, member: str, offset: int) -> str:
    """Make the compiler check one offset."""
    return (
        f"_Static_assert(__builtin_offsetof(struct {struct_name}, {member}) == {offset}, "
        f'"offset of {struct_name}.{member}");'
    )
