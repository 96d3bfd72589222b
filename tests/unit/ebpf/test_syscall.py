"""What bpf(2) is given, and the type information of a map."""

import struct

import pytest

from ebpf import syscall
from ebpf.btf import Btf
from ebpf.syscall import _BTF_ATTRIBUTES, _MAP_ATTRIBUTES, _PROGRAM_ATTRIBUTES, _name, btf_blob


@pytest.mark.parametrize("size", [1, 64, 4096])
def test_the_type_information_of_a_map_is_btf(size: int) -> None:
    """A key of four bytes is type 1, a value of that size is type 2: the kernel checks both."""
    blob = btf_blob(size)
    types = Btf(blob)
    assert types._structs == {"value": 2}
    assert (types._size(1), types._size(2)) == (4, size)
    *_, types_length, strings_at, strings_length = struct.unpack_from("<HBBIIIII", blob)
    assert types_length == strings_at
    assert len(blob) == 24 + types_length + strings_length


@pytest.mark.parametrize(
    ("layout", "size", "last"),
    [
        (_MAP_ATTRIBUTES, 60, "btf_value_type_id at 56"),
        (_PROGRAM_ATTRIBUTES, 112, "attach_btf_id at 108"),
        (_BTF_ATTRIBUTES, 28, "btf_log_level at 24"),
    ],
)
def test_attributes_end_where_the_kernel_says(layout: struct.Struct, size: int, last: str) -> None:
    """Offsets of union bpf_attr in include/uapi/linux/bpf.h."""
    assert layout.size == size
    assert size - 4 == int(last.rpartition(" ")[2])


def test_a_long_name_keeps_its_telling_end() -> None:
    assert _name("inet_sock_set_state") == b"_sock_set_state"
    assert _name("sessions") == b"sessions"


def test_what_the_kernel_refuses_is_an_oserror() -> None:
    """An empty program, which the kernel refuses with or without privileges."""
    with pytest.raises(OSError, match=r"Invalid argument|not permitted|list too long"):
        syscall.load_tracing("x", b"", attach_type=23, hook_type=1)
