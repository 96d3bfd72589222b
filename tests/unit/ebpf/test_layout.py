"""The generated header, as a C compiler sees it."""

import subprocess
from pathlib import Path

import pytest

from ebpf.btf import Btf, Field
from ebpf.compile import PROGRAMS
from ebpf.errors import LayoutError
from ebpf.events import FORMATS, RECORD, offset_asserts
from ebpf.layout import STRUCTS, header


class Made(Btf):
    """A kernel whose members lie where the test says: eight bytes each, one after the other."""

    def __init__(self, special: dict[str, Field]) -> None:
        self._special = special

    def field(self, struct_name: str, path: str) -> Field:
        name = f"{struct_name}.{path}"
        position = STRUCTS[struct_name].index(path)
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
    special = {"tcp_sock.rate_app_limited": Field(8 * 4000 + 5, 1, 1), "net.ns.inum": Field(8 * 177, 0, 4)}
    made = header(Made(special))
    # The header asserts each offset itself: gcc checks the arithmetic of the padding.
    assert compiles("#include <linux/types.h>\n" + made) == ""
    assert "#define tcp_sock_rate_app_limited_bit 5" in made
    assert "offsetof(struct net, ns_inum) == 177," in made


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


def test_the_programs_name_only_members_in_the_table() -> None:
    text = "".join((PROGRAMS / name).read_text() for name in ("session.bpf.c", "snapshot.bpf.c"))
    unused = [
        f"{name}.{path}"
        for name, paths in STRUCTS.items()
        for path in paths
        if f"->{path.replace('.', '_')}" not in text
    ]
    assert unused == []
    assert Path(PROGRAMS / "event.h").exists()
