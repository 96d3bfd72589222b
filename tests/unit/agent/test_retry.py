"""Trying again: spread out, bounded, and said once."""

import logging

import pytest

from agent.retry import BASE_S, CAP_S, StateLine, backoff_s


def test_waits_grow_to_a_cap_and_start_at_zero() -> None:
    longest = [backoff_s(attempt, uniform=lambda _, most: most) for attempt in range(12)]
    assert longest[:3] == [BASE_S, 2 * BASE_S, 4 * BASE_S]
    assert longest[-1] == CAP_S == backoff_s(10_000, uniform=lambda _, most: most)
    assert backoff_s(3, uniform=lambda least, _: least) == 0


def test_a_state_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    line = StateLine(logging.getLogger("x"))
    for state in ("up", "up", "down", "down", "up"):
        line.say(state)
    assert caplog.messages == ["up", "down", "up"]
