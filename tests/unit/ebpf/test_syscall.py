"""What bpf(2) is given."""

import pytest

from ebpf import syscall
from ebpf.syscall import _PROGRAM_ATTRIBUTES, _name

NO_DESCRIPTOR = 999_999


def test_attributes_end_where_the_kernel_says() -> None:
    """attach_btf_id is at 108 in union bpf_attr (include/uapi/linux/bpf.h), and the last that we give."""
    assert _PROGRAM_ATTRIBUTES.size == 108 + 4


def test_a_long_name_keeps_its_telling_end() -> None:
    assert _name("inet_sock_set_state") == b"_sock_set_state"
    assert _name("sessions") == b"sessions"


def test_what_the_kernel_refuses_is_an_oserror() -> None:
    """An empty program, which the kernel refuses with or without privileges."""
    with pytest.raises(OSError, match=r"Invalid argument|not permitted|list too long"):
        syscall.load_tracing("x", b"", attach_type=23, hook_type=1)


def test_a_map_that_is_not_there_is_an_oserror() -> None:
    """Neither read nor written, nor taken for one without the entry."""
    with pytest.raises(OSError, match=r"Bad file descriptor|not permitted"):
        syscall.lookup(NO_DESCRIPTOR, bytes(4), 8)
    with pytest.raises(OSError, match=r"Bad file descriptor|not permitted"):
        syscall.update(NO_DESCRIPTOR, bytes(4), bytes(8))
