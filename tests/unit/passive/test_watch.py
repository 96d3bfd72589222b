"""Windows: when they end, what they are called, and that the last one is not forgotten. What is asked for."""

import asyncio
import logging
import time
from collections.abc import Callable

import pytest

from agent.passive.watch import AIM, IDLE_S, LEAST_S, Watch, Window, pause_s
from analytics.measurement import Flow
from ebpf.events import Counters, TcpState
from tests.unit.passive.records import SERVER, Source, closed, listening, packed, run, served, session

S = 1_000_000


def one_by_one(count: int) -> Source:
    return Source(closes=[run(closed(cookie=number)) for number in range(count)])


def watch(source: Source, sink: Callable[[list[Flow]], None], *, window_s: int = 3600) -> Watch:
    return Watch(source, agent="a", tenant="default", sink=sink, window_s=window_s, idle_s=0.001)


def live(watched: Watch, source: Source, *, until: Callable[[], bool] = lambda: True) -> None:
    """Run a watch until something has happened when it looks, then cancel it."""

    async def run_until() -> None:
        happened = asyncio.Event()
        source.asked = lambda: happened.set() if until() else None
        task = asyncio.create_task(watched.run())
        async with asyncio.timeout(30):
            await happened.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run_until())


def test_the_last_window_is_handed_over_when_cancelled() -> None:
    rows: list[Flow] = []
    source = one_by_one(5)
    live(watch(source, rows.extend), source, until=lambda: not source.closes)
    assert sum(row.closed for row in rows) == 5
    assert all(0 < row.window_length_us < 5 * S for row in rows)


def test_windows_end_at_multiples_of_their_length() -> None:
    rows: list[Flow] = []
    source = one_by_one(100_000)
    live(watch(source, rows.extend, window_s=1), source, until=lambda: len(rows) >= 2)
    first, second = rows[:2]
    assert (first.window_us + first.window_length_us) % S == 0
    assert (second.window_us, second.window_length_us) == (first.window_us + first.window_length_us, S)


def test_an_empty_window_is_not_handed_over() -> None:
    source = Source()
    live(watch(source, lambda _: pytest.fail("nothing happened")), source)


def test_what_the_kernel_lost_is_said(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    source.told = Counters(seen=(5, 5), lost=(2, 3), missed=1)
    watched = watch(source, lambda _: None)
    source.told = Counters(seen=(50, 50), lost=(10, 12), missed=4)
    with caplog.at_level(logging.WARNING):
        live(watched, source)
    assert "17 TCP sessions were not told" in caplog.text
    assert "3 runs of the eBPF programs" in caplog.text


def test_nothing_is_said_where_nothing_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    source = one_by_one(3)
    live(watch(source, lambda _: None), source)
    assert not caplog.records


def test_windows_follow_without_a_gap() -> None:
    window = Window.first(12 * S, length_us=10 * S)
    assert (window.start_us, window.end_us) == (12 * S, 20 * S)
    assert not window.is_over(20 * S - 1)
    assert window.is_over(20 * S)
    following = window.next(20 * S + 3_000)
    assert (following.start_us, following.end_us) == (20 * S, 30 * S)
    assert following.lasted_us(30 * S + 5_000) == 10 * S
    assert following.lasted_us(24 * S) == 4 * S


@pytest.mark.parametrize("now_us", [3 * S, 500 * S], ids=["set back", "slept"])
def test_a_clock_that_was_set_begins_a_new_window(now_us: int) -> None:
    window = Window(20 * S, 30 * S, 10 * S)
    assert window.is_over(now_us)
    assert window.lasted_us(now_us) >= 4 * S  # never so short that its bytes look like a rate
    assert window.next(now_us) == Window.first(now_us, length_us=10 * S)


@pytest.mark.parametrize(
    ("taken", "waited_s", "pause"),
    [(0, 0.1, IDLE_S), (10, 0.1, IDLE_S), (2 * AIM, 0.1, 0.05), (AIM, 0.05, 0.05), (7_000, 0.01, LEAST_S)],
)
def test_looks_come_sooner_when_more_happens(taken: int, waited_s: float, pause: float) -> None:
    assert pause_s(taken, waited_s) == pytest.approx(pause)
    assert pause_s(1, 0) == LEAST_S


def test_a_ring_of_2_mib_holds_what_comes_between_two_looks_of_a_storm() -> None:
    """25,000 closes a second from one moment to the next: the ring's 7,489 are never reached."""
    rate, pause = 25_000, IDLE_S
    for _ in range(20):
        waiting = rate * pause
        assert waiting < 7_489 / 2
        pause = pause_s(int(waiting), pause)
    assert rate * pause <= AIM + 1


def test_sessions_are_told_newest_first() -> None:
    now_ns = time.monotonic_ns()
    source = Source(closes=[run(closed(cookie=1, at_ns=now_ns), closed(cookie=2)), run(closed(cookie=3))])
    source.open = [listening(), session(cookie=4, first_seen_ns=4), session(cookie=5, first_seen_ns=5)]
    watched = watch(source, lambda _: None)
    assert [told.open for told in watched.sessions(None, None, 50)] == [True, True, False, False]
    told = watched.sessions(None, None, 50)
    assert [one.open for one in told] == [True, True, False, False, False]
    assert len({one.id for one in told}) == 5
    assert abs(told[-1].at_us - time.time_ns() // 1000) < 60 * S
    assert [one.id for one in watched.sessions(None, None, 3)] == [one.id for one in told[:3]]


def test_a_session_that_closes_while_it_is_asked_for_is_told_once() -> None:
    source = Source(closes=[run(closed(cookie=8), closed(cookie=7))])
    source.open = [session(cookie=7), session(cookie=7), session(cookie=6)]
    told = watch(source, lambda _: None).sessions(None, None, 50)
    assert [one.open for one in told] == [True, False, False]


def test_sessions_are_chosen_by_process_and_remote() -> None:
    source = Source(
        closes=[run(closed(cookie=1), closed(cookie=2, command=b"curl", remote=packed("192.0.2.9")))]
    )
    source.open = [session(cookie=3), session(cookie=4, remote=bytes(15) + b"\1")]
    watched = watch(source, lambda _: None)
    chosen = watched.sessions("getscu", None, 50)
    assert [one.process for one in chosen] == ["getscu"] * 3
    assert [one.remote_address for one in watched.sessions(None, "0:0::1", 50)] == ["::1"]
    assert [one.open for one in watched.sessions("getscu", SERVER, 50)] == [True, False]
    assert watched.sessions("curl", SERVER, 50) == []
    assert watched.sessions(None, "not an address", 50) == []


def test_a_session_that_nobody_used_is_shown_as_its_listeners() -> None:
    source = Source(closes=[b"", run(served(state=TcpState.CLOSE, pid=0, command=b""))])
    source.open = [listening()]
    watched = watch(source, lambda _: None)
    live(watched, source, until=lambda: not source.closes)
    (told,) = watched.sessions("Orthanc", None, 50)
    assert (told.guessed, told.pid, told.service_port) == (True, 50, 4242)


def test_what_is_asked_for_is_counted_all_the_same() -> None:
    rows: list[Flow] = []
    source = one_by_one(1)
    watched = watch(source, rows.extend)
    assert len(watched.sessions(None, None, 50)) == 1
    live(watched, source)
    assert sum(row.closed for row in rows) == 1
