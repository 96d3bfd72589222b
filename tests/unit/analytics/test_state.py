"""``state.duckdb``: the same answers as without it, and nothing lost when it is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pytest

from analytics.baseline import Sample, baseline
from analytics.measurement import Reading, Rung
from analytics.screen import Screened, affordable, suspects
from analytics.store import seal, shelf, state
from analytics.store.query import Engine
from analytics.store.state import FILE_NAME, State
from analytics.store.store import Store
from server.usual import UsualCache
from tests.unit.analytics.facts import AT_US, body, put, reading
from tests.unit.analytics.test_rollup import DAY_US, HOUR_US, Clock

NAMES = ["a", "b", "c", "d"]


@contextmanager
def opened(folder: Path, clock: Clock) -> Iterator[Store]:
    with closing(Store.open(folder, clock_us=clock)) as store:
        yield store


def latest_by_hand(rows: list[Reading]) -> list[Reading]:
    newest = {(row.src, row.dst): row for row in sorted(rows, key=lambda row: (row.cycle, row.ended_us))}
    return [newest[pair] for pair in sorted(newest)]


def at(moment_us: int, rtt_us: int, src: str = "a", dst: str = "b", rung: Rung = Rung.SRFLX) -> Reading:
    return reading(
        src,
        dst,
        rtt_us=rtt_us,
        cycle=moment_us // 1_000_000,
        test=f"{moment_us}",
        ended_us=moment_us,
        rung=rung,
    )


@pytest.mark.parametrize("at_once", [1_000_000, 3])
def test_the_latest_is_right_at_every_step(
    tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "TAKEN_AT_ONCE", at_once)
    chance, clock = random.Random(3), Clock()
    rows: list[Reading] = []
    with opened(tmp_path, clock) as store:
        for n in range(12):
            own = [
                at(clock.now_us - chance.randrange(HOUR_US), n, "a", dst)
                for dst in chance.sample(NAMES[1:], 2)
            ]
            rows += own
            put(store, body("a", n, readings=own))
            assert store.readings_latest("default") == latest_by_hand(rows)
            if n % 2:
                store.seal()
                assert store.readings_latest("default") == latest_by_hand(rows)
            if n % 3 == 0:
                store.upkeep()
                assert store.readings_latest("default") == latest_by_hand(rows)
            assert store.measured("default") == {(row.src, row.dst) for row in rows}
            clock.now_us += 10 * 60_000_000
        clock.now_us += DAY_US
        store.seal()
        store.upkeep()  # the day's files become one
        assert store.readings_latest("default") == latest_by_hand(rows)
        assert store.readings_latest("other") == []
    with opened(tmp_path, clock) as store:
        assert store.readings_latest("default") == latest_by_hand(rows)
        assert store.health().state_rebuilt == 0
        clock.now_us += 9 * DAY_US
        assert store.readings_latest("default") == []
        assert store.measured("default") == set()


@pytest.mark.parametrize(
    "fault", ["text", "torn", "another version", "another program's", "behind", "missing"]
)
def test_a_state_of_no_use_is_made_anew(tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    clock, path = Clock(), tmp_path / FILE_NAME
    with opened(tmp_path, clock) as store:
        put(store, body("a", 1, readings=[at(AT_US, 5)]))
        store.seal()
        store.upkeep()
        before = store.readings_latest("default")
    spoil(path, fault)
    if fault == "behind":  # the readings it was made from are gone
        next((tmp_path / "parquet").rglob("*.parquet")).unlink()
    with opened(tmp_path, clock) as store:
        assert store.readings_latest("default") == ([] if fault == "behind" else before)
        store.upkeep()
        assert store.readings_latest("default") == ([] if fault == "behind" else before)
        assert store.health().state_rebuilt == (fault != "missing")
    assert caplog.text.count("made anew") == (fault != "missing")
    with opened(tmp_path, clock) as store:
        assert store.health().state_rebuilt == 0


@pytest.mark.parametrize("kept_bytes", [2**28, 0])
def test_a_pair_is_right_at_every_step_and_sealed_rows_are_told_from_memory_until_they_are_taken(
    tmp_path: Path, kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "WARM_BYTES_MOST", kept_bytes)
    chance, clock = random.Random(5), Clock()
    both, rows = [("a", "b"), ("b", "a")], []
    files: list[int] = []
    with opened(tmp_path, clock) as store:
        of_pair = store._state.of_pair
        monkeypatch.setattr(store._state, "of_pair", lambda *asked: noted(of_pair(*asked), files))
        for n in range(seal.MANY_FILES + 2):
            for src, dst in (both[n % 2], ("a", "c")):
                own = [at(clock.now_us - chance.randrange(HOUR_US), n, src, dst)]
                rows += own
                put(store, body(src, 2 * n + (dst == "c"), readings=own))
            store.seal()
            latest = {(row.src, row.dst): row for row in latest_by_hand(rows)}
            wanted = sorted((latest[pair] for pair in both if pair in latest), key=lambda row: row.src)
            assert sorted(store.readings_of("default", both), key=lambda row: row.src) == wanted
            assert (files[-1] == 0) is bool(kept_bytes)
        store.upkeep()
        assert store._shelf._warm == {}
        assert sorted(store.readings_of("default", both), key=lambda row: row.src) == wanted
        assert files[-1] == 0


def noted(told: Any, files: list[int]) -> Any:
    """Count the files that are to be read."""
    files.append(len(told[1]))
    return told


def spoil(path: Path, fault: str) -> None:
    if fault == "text":
        path.write_text("hello")
    elif fault == "torn":
        path.write_bytes(path.read_bytes()[:5_000])
    elif fault == "missing":
        path.unlink()
    elif fault == "another version":
        with closing(duckdb.connect(str(path))) as database:
            database.execute("UPDATE version SET version = 'f00'")
    elif fault == "another program's":
        path.unlink()
        with closing(duckdb.connect(str(path))) as database:
            database.execute("CREATE TABLE theirs (x INTEGER)")


def weeks(clock: Clock, *, days: int, slow_since_us: int, src: str, dst: str) -> list[Reading]:
    """Two tests an hour of a path of about 50 ms, 80 ms since then."""
    chance = random.Random(f"{src}{dst}")
    start = clock.now_us - days * DAY_US
    return [
        at(moment, 50_000 + chance.randrange(2_000) + 30_000 * (moment >= slow_since_us), src, dst)
        for moment in range(start, clock.now_us, HOUR_US // 2)
    ]


def with_weeks(folder: Path, clock: Clock, rows: list[Reading]) -> None:
    """A store as it would be had each row come as it was measured, a batch a day."""
    now_us, clock.now_us = clock.now_us, clock.now_us
    with opened(folder, clock) as store:
        days = sorted({row.ended_us // DAY_US for row in rows})
        for n, day in enumerate(days):
            clock.now_us = min((day + 1) * DAY_US - 1, now_us)
            own = [row for row in rows if row.ended_us // DAY_US == day]
            put(
                store,
                *(body(src, n, readings=[r for r in own if r.src == src]) for src in {r.src for r in own}),
            )
            store.seal()
            store.upkeep()
        clock.now_us = now_us + 5 * HOUR_US  # the next day: two weeks are asked once a day
        store.upkeep()


def test_what_is_usual_is_what_single_tests_say(tmp_path: Path) -> None:
    clock = Clock()
    rows = weeks(clock, days=6, slow_since_us=AT_US + 1, src="a", dst="b")
    others = [
        msgspec.structs.replace(row, dst="c", rtt_p50_us=200_000, rtt_min_us=200_000) for row in rows[:-30]
    ]
    moved = [
        msgspec.structs.replace(row, dst="c", rung=Rung.RELAY_UDP, rtt_p50_us=90_000) for row in rows[-30:]
    ]
    with_weeks(tmp_path, clock, [*rows, *others, *moved])
    with opened(tmp_path, clock) as store:
        (found,) = store.usual("default")  # of the other rung less than a day is known
    wanted = baseline([Sample(row.ended_us, row.rtt_p50_us or 0) for row in rows], clock.now_us)
    assert wanted is not None
    assert (found.src, found.dst, found.n, found.of_hour) == ("a", "b", wanted.n, False)
    assert abs(found.rtt_us - wanted.rtt_us) <= wanted.rtt_us / 100
    assert abs(found.spread_us - wanted.spread_us) <= wanted.rtt_us / 64
    assert found.floor_us <= found.rtt_us + 1_000


class Watched:
    """A store that notes which paths it was asked the past of."""

    def __init__(self, store: Store) -> None:
        self.asked: list[set[tuple[str, str]]] = []
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def past(self, tenant: str, **given: object) -> object:
        self.asked.append(set(given["paths"]))  # type: ignore[call-overload]  # as UsualCache gives it
        return self._store.past(tenant, **given)  # type: ignore[arg-type]


def test_only_a_path_that_may_be_slower_is_looked_at_test_by_test(tmp_path: Path) -> None:
    clock = Clock()
    slow_since = AT_US - 4 * HOUR_US
    rows = [
        row
        for src, dst in (("a", "b"), ("b", "a"), ("a", "c"), ("c", "a"))
        for row in weeks(
            clock,
            days=4,
            slow_since_us=slow_since if (src, dst) == ("a", "b") else AT_US + 1,
            src=src,
            dst=dst,
        )
    ]
    with_weeks(tmp_path, clock, rows)
    with opened(tmp_path, clock) as store:
        watched = Watched(store)
        cache = UsualCache(watched, period_us=300_000_000)  # type: ignore[arg-type]  # all that is asked of it
        usual = cache.of("default", store.readings_latest("default"), clock.now_us, now=True)
        assert watched.asked == [{("a", "b"), ("b", "a")}]
        then = cache.of("default", store.readings_latest("default", AT_US), AT_US, now=False)
        assert watched.asked[1:] == [{("a", "b"), ("b", "a")}]
        assert then.slower() == usual.slower()
        assert then.paths.keys() == usual.paths.keys()
        since = {"since_us": 0, "at_us": clock.now_us}
        some = store.past("default", **since, paths=[("a", "b"), ("b", "a")])
        assert some == [one for one in store.past("default", **since) if "c" not in (one.src, one.dst)]
        assert store.past("default", **since, paths=[]) == []
        change = usual.paths["a", "b"].history.change
        assert change is not None
        assert change.since_us == next(row.ended_us for row in rows if row.ended_us >= slow_since)
        assert usual.slower().keys() == {("a", "b")}
        calm = usual.paths["a", "c"].history
        assert calm.change is None
        assert calm.usual is not None
        assert abs(calm.usual.rtt_us - 51_000) < 1_000
        # One test that is not slow does not end the change: the path is looked at all the same.
        put(store, body("a", 900, readings=[at(clock.now_us, 51_000)]))
        usual = cache.of("default", store.readings_latest("default"), clock.now_us, now=True)
        assert usual.slower().keys() == {("a", "b")}


def row(src: str, dst: str, **changes: object) -> Screened:
    made = Screened(
        src=src, dst=dst, rung=Rung.SRFLX, rtt_us=30_000, spread_us=500, n=99, of_hour=False, floor_us=29_000
    )
    return msgspec.structs.replace(made, **changes)


def test_the_slowest_are_suspected_first() -> None:
    latest = [
        reading("a", "b", rtt_us=30_000),
        reading("a", "c", rtt_us=36_000),
        reading("a", "d", rtt_us=99_000),
        reading("b", "a", rtt_us=1),
        reading("c", "a", rung=Rung.RELAY_UDP),
        reading("d", "a", rtt_p50_us=None),
    ]
    pairs = [("a", "b"), ("a", "c"), ("a", "d"), ("c", "a"), ("d", "a")]
    screened = {pair: row(*pair) for pair in pairs}
    assert suspects(latest, screened) == [("a", "d"), ("a", "c"), ("b", "a"), ("c", "a")]
    assert suspects(latest, screened, [("d", "a"), ("x", "y")]) == [
        *[("d", "a"), ("a", "d"), ("a", "c"), ("b", "a"), ("c", "a")]
    ]


def test_no_more_are_looked_at_than_is_affordable() -> None:
    many = [(f"s{n}", f"d{n}") for n in range(5_000)]
    chosen = affordable(many, period_us=300_000_000)
    assert len(chosen) == 1_388
    assert chosen[:2] == [("s0", "d0"), ("d0", "s0")]
    assert affordable([], period_us=300_000_000) == []


def test_a_clock_that_was_ahead_for_an_hour_does_not_stop_what_is_usual(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as store:
        clock.now_us += 3_650 * DAY_US
        put(store, body("a", 1, readings=[at(clock.now_us, 5)]))
        store.seal()
        clock.now_us += 2 * HOUR_US
        store.upkeep()
        clock.now_us = AT_US
        for n in range(2, 5):
            put(store, body("a", n, readings=[at(clock.now_us, 5)]))
            store.seal()
            clock.now_us += 2 * HOUR_US
            store.upkeep()
            assert store.usual_hour() == (clock.now_us - 2 * HOUR_US) // HOUR_US + 1


def test_a_clock_turned_back_hides_no_path(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as store:
        put(store, body("a", 1, readings=[at(clock.now_us, 5)]))
        store.seal()
        store.upkeep()
        clock.now_us -= 2 * HOUR_US
        now = at(clock.now_us, 7)
        for _ in range(2):
            put(store, body("a", 2, readings=[now]))
            assert store.readings_latest("default") == [now]
            store.seal()
            assert store.readings_latest("default") == [now]
            store.upkeep()
            assert store.readings_latest("default") == [now]
        clock.now_us += 3 * HOUR_US
        assert store.readings_latest("default") == [at(AT_US, 5)]


def test_who_asks_while_the_state_is_made_anew_does_not_have_it_made_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, run = Clock(), Engine.run
    with opened(tmp_path, clock) as store:
        put(store, body("a", 1, readings=[at(AT_US, 5)]))
        store.seal()
        store.upkeep()
        before = store.readings_latest("default")
        kept: State = store._state

        def meanwhile(engine: Engine, statement: str, **given: Any) -> pa.Table:
            if engine is kept.engine and "FROM latest" in statement:
                monkeypatch.setattr(Engine, "run", run)
                kept.begin_anew()
            return run(engine, statement, **given)

        monkeypatch.setattr(Engine, "run", meanwhile)
        assert store.readings_latest("default") == before
        rebuilt = store.health().state_rebuilt
        store.upkeep()
        assert store.health().state_rebuilt == rebuilt
        assert store.readings_latest("default") == before
