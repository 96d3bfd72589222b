"""The generated header, as a C compiler sees it."""

import re
import subprocess

import pytest

from ebpf import owners
from ebpf.btf import Btf, Field
from ebpf.compile import PROGRAMS, SUBJECTS
from ebpf.errors import LayoutError
from ebpf.events import FORMATS, RECORD, offset_asserts
from ebpf.layout import BITS, STRUCTS, c_name, header


class Made(Btf):
    """A kernel whose members lie where the test says: eight bytes each, one after the other."""

    def __init__(self, special: dict[str, Field]) -> None:
        self._special = special

    def field(self, struct_name: str, path: str) -> Field:
        name = f"{struct_name}.{path}"
        position = (*STRUCTS[struct_name], *BITS.get(struct_name, ())).index(path)
        return self._special.get(name, Field(64 * (2 * position + 1), 0, 8))


def compiles(text: str) -> str:
    """Give what gcc objects to."""
    done = subprocess.run(
        ["gcc", "-fsyntax-only", "-xc", "-I", PROGRAMS, "-I", PROGRAMS / "kernel" / "include", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr


def test_members_lie_where_the_kernel_has_them() -> None:
    made = header(Made({"net.ns.inum": Field(8 * 177, 0, 4)}))
    # The header asserts each offset itself: gcc checks the arithmetic of the padding.
    assert compiles("#include <linux/types.h>\n" + made) == ""
    assert "offsetof(struct net, ns_inum) == 177," in made


@pytest.mark.parametrize(
    ("field", "shift", "mask"),
    [
        (Field(8 * 4000 + 5, 1, 1), 5, 0x1),
        (Field(8 * 4000 + 6, 2, 1), 6, 0x3),
        (Field(8 * 4000, 0, 1), 0, 0xFF),
    ],
)
def test_bits_are_told_as_numbers(field: Field, shift: int, mask: int) -> None:
    """A member may be two bits in one kernel and a whole byte in another."""
    made = header(Made({"tcp_sock.chrono_type": field})).splitlines()
    assert [line for line in made if "chrono_type" in line] == [
        "#define tcp_sock_chrono_type_at 4000",
        f"#define tcp_sock_chrono_type_shift {shift}",
        f"#define tcp_sock_chrono_type_mask {mask:#x}",
    ]


def test_members_of_one_union_are_refused() -> None:
    special = {"tcp_sock.snd_una": Field(0, 0, 4), "tcp_sock.write_seq": Field(16, 0, 4)}
    with pytest.raises(LayoutError, match="'snd_una' and 'write_seq' overlap"):
        header(Made(special))


def test_the_event_and_its_twin_are_the_same() -> None:
    text = '#include "event.h"\n' + "\n".join(offset_asserts())
    assert compiles(text) == ""
    assert RECORD.size % 8 == 0, "records follow each other in the ring"


@pytest.mark.parametrize("member", list(FORMATS))
def test_a_difference_between_the_twins_is_found(member: str) -> None:
    moved = [
        line.replace(" == ", " == 1 + ") if f", {member})" in line else line for line in offset_asserts()
    ]
    assert f"offset of session_event.{member}" in compiles('#include "event.h"\n' + "\n".join(moved))


def test_the_programs_use_every_member_in_the_tables() -> None:
    """A member that nothing reads would only keep a kernel out that lacks it."""
    text = "".join((PROGRAMS / f"{subject}.bpf.c").read_text() for subject in SUBJECTS)
    members = [(name, path, rf"->{c_name(path)}\b") for name, paths in STRUCTS.items() for path in paths]
    bits = [(name, path, rf", {path}\)") for name, paths in BITS.items() for path in paths]
    unused = [f"{name}.{path}" for name, path, use in (*members, *bits) if not re.search(use, text)]
    assert unused == ["mount.mnt"], "its place is what is used"
    assert "__builtin_offsetof(struct mount, mnt)" in text


def test_an_owner_and_its_twin_are_the_same() -> None:
    struct = (PROGRAMS / "state.bpf.c").read_text()
    limits = "".join(line + "\n" for line in struct.splitlines() if "_ROOM " in line)
    start = struct.index("struct owner {")
    owner = struct[start : struct.index("};", start) + 2]
    asserts = "\n".join(owners.offset_asserts())
    assert compiles(f"#include <linux/types.h>\n{limits}\n{owner}\n{asserts}") == ""
