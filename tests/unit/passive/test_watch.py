"""Windows: when they end, what they are called, and that the last one is not forgotten."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from agent.passive.watch import _Window, watch
from analytics.measurement import Flow
from ebpf.events import FORMATS, RECORD, Opener, SessionEvent, TcpState, decode

S = 1_000_000


def closed(number: int) -> SessionEvent:
    members = {name: b"" if code.endswith("s") else 0 for name, code in FORMATS.items()}
    members |= {"socket": number, "established_ns": 2, "opener": Opener.LOCAL, "state": TcpState.CLOSE}
    (event,) = decode(RECORD.pack(*members.values()))
    return event


class Kernel:
    """Closes one session before each drain, up to a limit."""

    def __init__(self, sessions: int) -> None:
        self.left = sessions
        self.lost = 0

    def drain(self) -> list[SessionEvent]:
        if not self.left:
            return []
        self.left -= 1
        return [closed(self.left)]

    def snapshot(self) -> list[SessionEvent]:
        return []


def run(kernel: Kernel, sink: Callable[[list[Flow]], None], *, until: asyncio.Event, window_s: int) -> None:
    async def watched() -> None:
        task = asyncio.create_task(
            watch(kernel, agent="a", tenant="default", sink=sink, drain_every_s=0.001, window_s=window_s)
        )
        waiting = asyncio.create_task(until.wait())
        await asyncio.wait({task, waiting}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(watched())


def test_the_last_window_is_handed_over_when_cancelled() -> None:
    rows: list[Flow] = []
    drained = asyncio.Event()
    kernel = Kernel(5)
    drain = kernel.drain

    def drain_and_tell() -> list[SessionEvent]:
        events = drain()
        if not kernel.left:
            drained.set()
        return events

    kernel.drain = drain_and_tell  # type: ignore[method-assign]  # tells the test when all was taken
    run(kernel, rows.extend, until=drained, window_s=3600)
    assert sum(row.closed for row in rows) == 5
    assert all(0 < row.window_length_us < 5 * S for row in rows)


def test_windows_end_at_multiples_of_their_length() -> None:
    rows: list[Flow] = []
    enough = asyncio.Event()

    def take(handed_over: list[Flow]) -> None:
        rows.extend(handed_over)
        if len(rows) >= 2:
            enough.set()

    run(Kernel(1_000_000), take, until=enough, window_s=1)
    first, second = rows[:2]
    assert (first.window_us + first.window_length_us) % S == 0
    assert (second.window_us, second.window_length_us) == (first.window_us + first.window_length_us, S)


def test_an_empty_window_is_not_handed_over() -> None:
    stop = asyncio.Event()
    stop.set()
    run(Kernel(0), lambda _: pytest.fail("nothing happened"), until=stop, window_s=1)


def test_what_the_kernel_lost_is_said(caplog: pytest.LogCaptureFixture) -> None:
    kernel = Kernel(0)
    stop = asyncio.Event()
    drain = kernel.drain

    def lose() -> list[SessionEvent]:
        kernel.lost = 17
        stop.set()
        return drain()

    kernel.drain = lose  # type: ignore[method-assign]  # loses while the watch runs
    with caplog.at_level(logging.WARNING):
        run(kernel, lambda _: None, until=stop, window_s=3600)
    assert "17 TCP sessions were not told" in caplog.text


def test_windows_follow_without_a_gap() -> None:
    window = _Window.first(12 * S, length_us=10 * S)
    assert (window.start_us, window.end_us) == (12 * S, 20 * S)
    assert not window.is_over(20 * S - 1)
    assert window.is_over(20 * S)
    following = window.next(20 * S + 3_000)
    assert (following.start_us, following.end_us) == (20 * S, 30 * S)
    assert following.lasted_us(30 * S + 5_000) == 10 * S
    assert following.lasted_us(24 * S) == 4 * S


@pytest.mark.parametrize("now_us", [3 * S, 500 * S], ids=["set back", "slept"])
def test_a_clock_that_was_set_begins_a_new_window(now_us: int) -> None:
    window = _Window(20 * S, 30 * S, 10 * S)
    assert window.is_over(now_us)
    assert window.lasted_us(now_us) >= 4 * S  # never so short that its bytes look like a rate
    assert window.next(now_us) == _Window.first(now_us, length_us=10 * S)
