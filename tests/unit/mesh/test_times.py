from __future__ import annotations

import ctypes
import struct

import pytest

from agent.mesh.times import STA_UNSYNC, TIME_ERROR, Timex, claimed_us, wall_error_us


@pytest.mark.parametrize(
    ("state", "status", "maxerror_us", "claimed"),
    [
        (0, 0, 1_500, 1_500),
        (1, 0x2001, 1_500, 1_500),  # a leap second is announced: still synchronised
        (0, STA_UNSYNC, 1_500, None),
        (TIME_ERROR, 0, 1_500, None),
        (-1, 0, 0, None),  # forbidden
        (0, 0, 16_000_000, None),  # the kernel's "no idea"
    ],
)
def test_a_clock_claims_only_what_it_is_disciplined_to(
    state: int, status: int, maxerror_us: int, claimed: int | None
) -> None:
    assert claimed_us(state, status, maxerror_us) == claimed


def test_this_kernel_answers() -> None:
    assert (wall_error_us() or 1) > 0


@pytest.mark.skipif(struct.calcsize("l") != 8, reason="the size is that of 64-bit kernels")
def test_the_struct_is_as_long_as_the_kernels() -> None:
    assert ctypes.sizeof(Timex) == 208
