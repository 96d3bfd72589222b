"""A path over time, through a store: readings where they are kept and few enough, else rollups."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from analytics.clock import DAY_US, HOUR_US
from analytics.measurement import Letter
from analytics.rules.load import load_rules
from analytics.store.store import Store
from server.timelines import Asked, timeline_of
from tests.unit.analytics.facts import AT_US, body, put
from tests.unit.analytics.test_rollup import Clock
from tests.unit.analytics.test_state import at

RULES = load_rules()


def asked(since_us: int, until_us: int) -> Asked:
    return Asked(src="a", dst="b", profile="generic", since_us=since_us, until_us=until_us)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two hours of tests both ways, and one of another pair; all sealed and rolled up."""
    clock = Clock()
    store = Store.open(tmp_path, clock_us=clock)
    tests = [at(AT_US - n * 300_000_000, 30_000 + n, *ends) for n in range(24) for ends in ("ab", "ba", "ac")]
    for number, src in enumerate("ab"):
        put(store, body(src, number, readings=[one for one in tests if one.src == src]))
    store.seal()
    clock.now_us += DAY_US
    store.upkeep()
    return store


def test_a_day_is_of_readings(store: Store) -> None:
    with closing(store):
        told = timeline_of(store, "default", asked(AT_US - DAY_US, AT_US + 1), RULES)
        assert (told.made_of, sum(told.columns.tests), told.step_us) == ("readings", 24, 300_000_000)
        assert told.columns.letter[-1] is Letter.A
        assert told.columns.loss_back_bp[-1] == 0
        assert [one.tests for one in told.rungs] == [24]
        other = timeline_of(store, "other", asked(AT_US - DAY_US, AT_US + 1), RULES)
        assert not any(other.columns.tests)


def test_months_are_of_rollups(store: Store) -> None:
    with closing(store):
        told = timeline_of(store, "default", asked(AT_US - 30 * DAY_US, AT_US + HOUR_US), RULES)
        assert (told.made_of, sum(told.columns.tests)) == ("readings_1h", 24)
        years = timeline_of(store, "default", asked(AT_US - 900 * DAY_US, AT_US + 2 * DAY_US), RULES)
        assert (years.made_of, sum(years.columns.tests)) == ("readings_1d", 24)


def test_what_is_no_longer_kept_is_of_rollups_too(store: Store, tmp_path: Path) -> None:
    with closing(store):
        for file in store.held("readings", "default").files:
            store._shelf.swap([file])  # as if it had been let go of
        told = timeline_of(store, "default", asked(AT_US - DAY_US, AT_US + 1), RULES)
        assert (told.made_of, sum(told.columns.tests)) == ("readings_5m", 24)
        assert told.columns.letter[-1] is None


def test_the_latest_of_then_is_found_however_old_it_was(tmp_path: Path) -> None:
    clock = Clock()
    with closing(Store.open(tmp_path, clock_us=clock)) as store:
        old, newer = at(AT_US - 3 * DAY_US, 10, "a", "b"), at(AT_US - HOUR_US, 20, "a", "c")
        put(store, body("a", 1, readings=[old, at(AT_US - 4 * DAY_US, 9, "a", "b"), newer]))
        clock.now_us += HOUR_US
        put(store, body("a", 2, readings=[at(AT_US + 60_000_000, 30, "a", "b")]))
        then = store.readings_latest("default", clock.now_us - 1)
        assert [(one.dst, one.rtt_p50_us) for one in then] == [("b", 10), ("c", 20)]
        assert store.readings_latest("default", AT_US - DAY_US - 9 * DAY_US) == []
        assert store.readings_latest("other", clock.now_us) == []
