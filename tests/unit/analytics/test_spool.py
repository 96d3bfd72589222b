"""The spool's frames, byte by byte, and that all of a group is written whatever the kernel takes at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from analytics.store.spool import Frame, Segment, decode_segment, encode_frame, frame_parts, recover_segment

FRAME = Frame(0x0102030405060708, "default", b"body")
SEGMENT = bytes.fromhex(
    "504753504f4f4c0a 01000000 00000000"  # written by the first version of this store
    "50474652 15000000 91158d3d 0807060504030201 0700 64656661756c74 626f6479"
)


def test_the_format_is_that_of_segments_written_before() -> None:
    assert decode_segment(SEGMENT).frames == [FRAME]
    assert encode_frame(FRAME) == SEGMENT[16:]
    assert frame_parts(FRAME)[1] is FRAME.body  # not copied


def test_a_group_is_written_whole_though_the_kernel_takes_little_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def little(fd: int, parts: Sequence[memoryview]) -> int:
        return os.write(fd, b"".join(parts)[:7])

    monkeypatch.setattr(os, "writev", little)
    check_written(tmp_path, frames=20)


def test_a_group_may_have_more_parts_than_one_call_takes(tmp_path: Path) -> None:
    check_written(tmp_path, frames=1_500)


def check_written(folder: Path, frames: int) -> None:
    told = [Frame(number, "default", b"x" * (number % 9)) for number in range(frames)]
    segment = Segment(folder, 1)
    segment.append([part for frame in told for part in frame_parts(frame)])
    segment.close()
    content = recover_segment(segment.path)
    assert (content.frames, content.torn_bytes, content.damaged_bytes) == (told, 0, 0)
