"""The spool's frames, byte by byte, and that all of a group is written whatever the kernel takes at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from analytics.store.spool import (
    Frame,
    Segment,
    decode_segment,
    encode_frame,
    frame_parts,
    pack_body,
    recover_segment,
)

FRAME = Frame(0x0102030405060708, "default", b"body")
SEGMENT = bytes.fromhex(
    "504753504f4f4c0a 01000000 00000000"  # written by the first version of this store
    "50474652 15000000 91158d3d 0807060504030201 0700 64656661756c74 626f6479"
)
HEADER = b"PGSPOOL\n" + (2).to_bytes(4, "little") + bytes(4)


def test_segments_written_before_are_read_still_beside_frames_of_today() -> None:
    content = decode_segment(SEGMENT)
    assert (content.frames, content.whole_bytes) == ([FRAME], len(SEGMENT))
    assert decode_segment(SEGMENT + encode_frame(FRAME)).frames == [FRAME, FRAME]


def test_a_frame_of_before_is_found_behind_damage() -> None:
    content = decode_segment(SEGMENT[:16] + b"PGFZ of no frame" + SEGMENT[16:])
    assert (content.frames, content.damaged_bytes) == ([FRAME], 16)


@pytest.mark.parametrize("magic", [b"PGFZ", b"PGFR"])
def test_zeros_behind_a_magic_are_no_frame(magic: bytes) -> None:
    content = decode_segment(SEGMENT + magic + bytes(40))
    assert (content.frames, content.torn_bytes) == ([FRAME], 44)


def test_a_body_is_kept_compressed_and_comes_back() -> None:
    frame = Frame(1, "default", b"row" + bytes(100_000))
    packed = encode_frame(frame)
    assert len(packed) < 1_000
    assert decode_segment(HEADER + packed).frames == [frame]


def test_a_group_is_written_whole_though_the_kernel_takes_little_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def little(fd: int, parts: Sequence[memoryview]) -> int:
        return os.write(fd, b"".join(parts)[:7])

    monkeypatch.setattr(os, "writev", little)
    check_written(tmp_path, frames=20)


def test_a_group_may_have_more_parts_than_one_call_takes(tmp_path: Path) -> None:
    check_written(tmp_path, frames=1_500)


def parts_of(frame: Frame) -> tuple[bytes, ...]:
    return frame_parts(frame.received_us, frame.tenant, pack_body(frame.body))


def check_written(folder: Path, frames: int) -> None:
    told = [Frame(number, "default", b"x" * (number % 9)) for number in range(frames)]
    segment = Segment(folder, 1)
    segment.append([part for frame in told for part in parts_of(frame)])
    segment.close()
    content = recover_segment(segment.path)
    assert (content.frames, content.torn_bytes, content.damaged_bytes) == (told, 0, 0)
