from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.mesh.packet import MOST_TOLD, Kind, Probe, SentStamp
from agent.mesh.reflector import MOST_SEQUENCE, Reflector, loss_runs
from agent.mesh.stamps import Arrival, OnSent
from tests.unit.mesh.test_probe import HandClock

NONE = SentStamp(0, 0)


@settings(deadline=None)  # the host may be busy
@given(st.lists(st.integers(1, 60), max_size=120))
def test_the_reflector_counts_as_rfc_4737_does(arrivals: list[int]) -> None:
    reflector = Reflector(HandClock())
    for sequence in arrivals:
        reflector.on_request(Probe(Kind.REQUEST, sequence, 0), Arrival(1, True))
    first_seen = list(dict.fromkeys(arrivals))
    behind = [n for i, n in enumerate(first_seen) if any(earlier > n for earlier in first_seen[:i])]
    assert reflector.received == len(set(arrivals))
    assert reflector.duplicated == len(arrivals) - len(set(arrivals))
    assert reflector.reordered == len(behind)


def test_the_kernel_stamp_of_a_reply_travels_in_the_next_two() -> None:
    reflector = Reflector(HandClock())
    carried = []
    for sequence in (1, 2, 3, 4):
        answer = reflector.on_request(Probe(Kind.REQUEST, sequence, 0), Arrival(1, True))
        assert answer is not None
        reply, on_sent = answer
        carried.append(reply.earlier)
        on_sent(sequence * 100)
    assert carried[0] == (NONE, NONE)
    assert carried[1] == (SentStamp(1, 100), NONE)
    assert carried[3] == (SentStamp(3, 300), SentStamp(2, 200))


def answer(reflector: Reflector, sequence: int) -> tuple[Probe, OnSent]:
    answered = reflector.on_request(Probe(Kind.REQUEST, sequence, 0), Arrival(1, True))
    assert answered is not None
    return answered


def test_stamps_that_come_all_at_once_are_told_one_after_the_other() -> None:
    reflector = Reflector(HandClock())
    held_up = [answer(reflector, sequence)[1] for sequence in range(1, 6)]
    for sequence, on_sent in enumerate(held_up, 1):
        on_sent(sequence * 100)
    carried = [answer(reflector, sequence)[0].earlier for sequence in (6, 7, 8, 9)]
    told = [[stamp.sequence for stamp in two] for two in carried]
    assert told == [[1, 2], [3, 4], [5, 4], [5, 0]]


@settings(deadline=None)  # the host may be busy
@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.sets(st.integers(1, 1000)))
def test_no_stamp_is_lost_however_late_it_comes(waits: list[int], lost: set[int]) -> None:
    """``waits``: after how many more replies a stamp is there. ``lost``: replies that never arrive."""
    reflector = Reflector(HandClock())
    due: dict[int, list[tuple[int, OnSent]]] = {}
    known: set[int] = set()
    for sequence, wait in enumerate(waits, 1):
        for number, on_sent in due.pop(sequence, []):
            on_sent(number * 100)
        reply, on_sent = answer(reflector, sequence)
        due.setdefault(sequence + 1 + wait, []).append((sequence, on_sent))
        if sequence not in lost:
            known |= {stamp.sequence for stamp in reply.earlier}
    for late in due.values():
        for number, on_sent in late:
            on_sent(number * 100)
    while lacking := sorted(set(range(1, len(waits) + 1)) - known)[:MOST_TOLD]:
        told = reflector.counters(len(waits), lacking).earlier
        assert told == [(sequence, sequence * 100) for sequence in lacking]
        known |= set(lacking)


def test_a_peer_cannot_fill_the_memory() -> None:
    reflector = Reflector(HandClock())
    assert reflector.on_request(Probe(Kind.REQUEST, MOST_SEQUENCE + 1, 0), Arrival(1, True)) is None
    assert (reflector.received, reflector.refused) == (0, 1)


def test_requests_after_those_asked_about_are_not_counted() -> None:
    reflector = Reflector(HandClock())
    for sequence in (1, 2, 4, 5, 6):
        answer(reflector, sequence)
    counters = reflector.counters(4)
    assert (counters.received, counters.bursts, counters.runs) == (3, 1, [(3, 1)])


@settings(deadline=None)  # the host may be busy
@given(st.sets(st.integers(1, 400)), st.integers(0, 300))
def test_bursts_are_all_that_was_lost_and_nothing_else(seen: set[int], sent: int) -> None:
    runs = loss_runs(seen, sent)
    lost = [first + n for first, length in runs for n in range(length)]
    assert lost == [n for n in range(1, sent + 1) if n not in seen]
    assert all(after > first + length for (first, length), (after, _) in pairwise(runs))


@settings(deadline=None)  # the host may be busy
@given(st.sets(st.integers(1, 400)), st.integers(0, 300))
def test_the_longest_burst_is_always_among_those_told(seen: set[int], sent: int) -> None:
    reflector = Reflector(HandClock())
    for sequence in sorted(seen):
        answer(reflector, sequence)
    counters = reflector.counters(sent)
    runs = loss_runs(seen, sent)
    assert counters.bursts == len(runs)
    assert len(counters.runs) == min(len(runs), MOST_TOLD)
    assert set(counters.runs) <= set(runs)
    assert max((n for _, n in counters.runs), default=0) == max((n for _, n in runs), default=0)


def test_a_claim_to_have_sent_billions_costs_nothing() -> None:
    assert loss_runs({3}, 2**31) == [(1, 2), (4, 2**31 - 3)]
