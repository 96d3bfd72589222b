"""The spool's format and the set of known batches, over all inputs."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from analytics.store.known import BatchKey, KnownBatches
from analytics.store.spool import Frame, decode_segment, encode_frame

HEADER = b"PGSPOOL\n" + (1).to_bytes(4, "little") + bytes(4)
FRAMES = st.lists(
    st.builds(
        Frame,
        received_us=st.integers(0, 2**62),
        tenant=st.text("abcdefgh-", min_size=1, max_size=63),
        body=st.binary(max_size=200) | st.just(b"PGFR" * 5),
    ),
    max_size=6,
)


@given(FRAMES)
def test_frames_come_back_as_they_went(frames: list[Frame]) -> None:
    content = decode_segment(HEADER + b"".join(map(encode_frame, frames)))
    assert content.frames == frames
    assert (content.torn_bytes, content.damaged_bytes) == (0, 0)


@given(FRAMES, st.data())
def test_a_cut_anywhere_keeps_every_whole_frame_before_it(frames: list[Frame], data: st.DataObject) -> None:
    whole = HEADER + b"".join(map(encode_frame, frames))
    cut = data.draw(st.integers(0, len(whole)))
    content = decode_segment(whole[:cut])
    assert content.frames == frames[: len(content.frames)]
    ends = [len(HEADER) + sum(len(encode_frame(f)) for f in frames[: n + 1]) for n in range(len(frames))]
    assert len(content.frames) == sum(end <= cut for end in ends)
    assert content.damaged_bytes == 0


@given(FRAMES, st.binary(min_size=1, max_size=300), st.data())
def test_damage_anywhere_never_invents_a_frame(frames: list[Frame], junk: bytes, data: st.DataObject) -> None:
    whole = HEADER + b"".join(map(encode_frame, frames))
    at = data.draw(st.integers(len(HEADER), len(whole)))
    content = decode_segment(whole[:at] + junk + whole[at + len(junk) :])
    assert all(frame in frames for frame in content.frames)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40)), max_size=60))
def test_known_batches_are_exactly_those_added(added: list[tuple[str, int]]) -> None:
    known = KnownBatches()
    for agent, number in added:
        known.add(BatchKey("t", agent, "00c0ffee", number))
    copy = KnownBatches()
    copy.update(KnownBatches(known))
    for agent in "ab":
        for number in range(-1, 43):
            assert (BatchKey("t", agent, "00c0ffee", number) in copy) == ((agent, number) in added)
    for _, ranges in copy:
        assert all(after[0] > before[1] + 1 for before, after in pairwise(ranges))
