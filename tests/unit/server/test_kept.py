"""What was costly is made once, for a while, and not for ever."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.kept import Kept


def test_an_answer_is_kept_for_a_while_and_the_oldest_goes_first() -> None:
    now, made = [0.0], []
    kept: Kept[str, str] = Kept(2, 60.0, clock=lambda: now[0])

    def ask(key: str) -> str:
        return kept.of(key, lambda: made.append(key) or key.upper())  # type: ignore[func-returns-value]  # to count

    assert [ask(key) for key in "aabca"] == ["A", "A", "B", "C", "A"]
    assert made == ["a", "b", "c", "a"]
    now[0] = 61.0
    assert ask("a") == "A"
    assert made == ["a", "b", "c", "a", "a"]


def test_a_failure_is_not_kept() -> None:
    kept: Kept[str, int] = Kept(2, 60.0)
    with pytest.raises(ZeroDivisionError):
        kept.of("a", lambda: 1 // 0)
    assert kept.of("a", lambda: 3) == 3


def test_who_asks_at_the_same_time_waits_for_the_one_that_makes_it() -> None:
    kept: Kept[str, int] = Kept(2, 60.0)
    begun, made = threading.Event(), []

    def make() -> int:
        begun.wait(60)
        made.append(1)
        return 7

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(kept.of, "a", make) for _ in range(4)]
        begun.set()
        assert [one.result(60) for one in asked] == [7, 7, 7, 7]
    assert made == [1]
