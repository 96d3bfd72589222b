"""Rollups in the store: made once, from what was sealed, and the same however it came."""

from __future__ import annotations

import random
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from analytics.errors import StoreError, StoreLockedError
from analytics.measurement import Reading, Rung
from analytics.rollup import Level, Rollup, merge, of_reading
from analytics.store import seal, tidy
from analytics.store.hours import Hours
from analytics.store.query import Engine, Limits
from analytics.store.rebuild import rebuild
from analytics.store.seal import Sealed
from analytics.store.store import Store
from analytics.store.tidy import Keep
from tests.unit.analytics.facts import AT_US, body, flow, hop, put, reading

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


class Clock:
    def __init__(self, at_us: int = AT_US) -> None:
        self.now_us = at_us

    def __call__(self) -> int:
        return self.now_us


@contextmanager
def opened(folder: Path, clock: Clock, keep: Keep | None = None) -> Iterator[Store]:
    with closing(Store.open(folder, clock_us=clock, keep=keep or Keep())) as store:
        yield store


def rolled(folder: Path, level: Level) -> list[Rollup]:
    """All rollups of a level, folded as whoever reads them does."""
    files = sorted((folder / "rollup/tenant=default" / level).rglob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]
    return merge(msgspec.convert(rows, list[Rollup]), level)


def some_readings(count: int, seed: int = 1) -> list[Reading]:
    chance = random.Random(seed)
    made = []
    for n in range(count):
        known = chance.random() < 0.9
        rtt_us = chance.choice([0, 1, 63, 64, 65, 127, 128, 4_095, 4_096, 30_000, 3_600_000_000])
        made.append(
            reading(
                chance.choice(["pacs", "home"]),
                chance.choice(["clinic", "radiologist"]),
                rtt_us=rtt_us,
                test=f"t{n}",
                cycle=n,
                ended_us=AT_US - chance.randrange(3 * HOUR_US),
                rung=chance.choice(list(Rung)),
                rtt_p50_us=rtt_us if known else None,
                rtt_min_us=rtt_us if known else None,
                one_way_min_us=chance.choice([None, 5, 7]),
                received=chance.randrange(301),
                rtt_n=chance.choice([5, 20, 21, 300]),
            )
        )
    return made


def fill(store: Store, clock: Clock, rows: list[Reading], batches: int, *, order: int = 0) -> dict[str, int]:
    """Send rows in batches, 20 minutes apart, twice; returns when each test was received."""
    parts = [rows[n::batches] for n in range(batches)]
    numbers = list(range(batches))
    random.Random(order).shuffle(numbers)
    received = {}
    for n in numbers:
        for agent in ("pacs", "home"):
            own = [row for row in parts[n] if row.src == agent]
            sent = body(agent, n, readings=own)
            put(store, sent, sent)
            received |= {row.test: clock.now_us for row in own}
        if n % 3 == 0:
            store.seal()
        clock.now_us += 20 * 60_000_000
    store.seal()
    return received


def test_rollups_are_what_folding_each_reading_gives(tmp_path: Path) -> None:
    """The SQL against the pure definition, row by row, at every level."""
    clock, rows = Clock(), some_readings(400)
    with opened(tmp_path, clock) as store:
        received = fill(store, clock, rows, 8)
        clock.now_us += DAY_US
        store.upkeep()
        assert store.health().hours_rolled == 3
        assert store.health().upkeep_failures == 0
    for level in Level:
        wanted = merge((of_reading(row, received[row.test], level) for row in rows), level)
        assert rolled(tmp_path, level) == wanted
    assert sum(row.tests for row in rolled(tmp_path, Level.DAY)) == len(rows)


def test_an_hour_is_the_fold_of_its_five_minutes_and_a_day_of_its_hours(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as store:
        fill(store, clock, some_readings(200), 6)
        clock.now_us += DAY_US
        store.upkeep()
    fine, hours, days = (rolled(tmp_path, level) for level in Level)
    assert merge(fine, Level.HOUR) == hours
    assert merge(hours, Level.DAY) == days == merge(fine, Level.DAY)


def test_rollups_do_not_depend_on_the_order_or_on_repeats(tmp_path: Path) -> None:
    rows, told = some_readings(120), []
    for order in (1, 2):
        clock, folder = Clock(AT_US + HOUR_US // 2), tmp_path / str(order)
        with opened(folder, clock) as store:
            fill(store, clock, rows, 6, order=order)
            clock.now_us += DAY_US
            store.upkeep()
            store.upkeep()
        told.append([rolled(folder, level) for level in Level])
    assert told[0] == told[1]


def test_the_hour_that_runs_is_not_rolled_up(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as store:
        put(store, body("pacs", 1, readings=[reading()]))
        store.seal()
        store.upkeep()
        assert rolled(tmp_path, Level.HOUR) == []
        clock.now_us += HOUR_US
        store.upkeep()
        assert rolled(tmp_path, Level.HOUR) == []
        clock.now_us += 60_000_000
        store.upkeep()
        assert [row.tests for row in rolled(tmp_path, Level.HOUR)] == [1]
        assert rolled(tmp_path, Level.DAY) == []


def test_what_is_received_by_a_clock_turned_back_is_rolled_up_again(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as store:
        put(store, body("pacs", 1, readings=[reading(test="first")]))
        store.seal()
        clock.now_us += 2 * DAY_US
        store.upkeep()
        assert [row.tests for row in rolled(tmp_path, Level.DAY)] == [1]
        clock.now_us = AT_US + 1
        put(store, body("pacs", 2, readings=[reading(test="second")]))
        store.seal()
        assert rolled(tmp_path, Level.DAY) == rolled(tmp_path, Level.HOUR) == []
        clock.now_us += 2 * DAY_US
        store.upkeep()
        assert [row.tests for row in rolled(tmp_path, Level.DAY)] == [2]


@pytest.mark.parametrize("level", list(Level))
def test_a_rollup_that_was_lost_or_cut_off_is_made_again(tmp_path: Path, level: Level) -> None:
    """A crash after any of the files: what is missing is made from the readings, and all else from that."""
    clock = Clock()
    with opened(tmp_path, clock) as store:
        fill(store, clock, some_readings(50), 4)
        clock.now_us += DAY_US
        store.upkeep()
    whole = {one: rolled(tmp_path, one) for one in Level}
    for gone in list(Level)[list(Level).index(level) :]:
        shutil.rmtree(tmp_path / "rollup/tenant=default" / gone)
    with opened(tmp_path, clock) as store:
        store.upkeep()
    assert {one: rolled(tmp_path, one) for one in Level if one >= level} == {
        one: whole[one] for one in Level if one >= level
    }


def test_a_torn_rollup_is_set_aside_and_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as store:
        fill(store, clock, some_readings(50), 4)
        clock.now_us += HOUR_US
        store.upkeep()
    hours = rolled(tmp_path, Level.HOUR)
    torn = sorted((tmp_path / "rollup/tenant=default" / Level.HOUR).rglob("*.parquet"))[0]
    torn.write_bytes(torn.read_bytes()[:-9])
    clock.now_us += DAY_US
    with opened(tmp_path, clock) as store:
        store.upkeep()  # meets it in the day's rollup
        store.upkeep()
        assert store.health().upkeep_failures == 1
    assert str(torn) in caplog.text
    assert torn.with_name(torn.name + ".bad").exists()
    assert rolled(tmp_path, Level.HOUR) == hours
    assert merge(hours, Level.DAY) == rolled(tmp_path, Level.DAY)


# --- one file a day, and no more days than are kept ---------------------------------------------------------


def sealed_files(folder: Path, table: str) -> list[str]:
    return [
        path.relative_to(folder / "parquet/tenant=default" / table).as_posix()
        for path in sorted((folder / "parquet/tenant=default" / table).rglob("*.parquet"))
    ]


def test_a_day_that_is_over_becomes_one_sorted_file(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as store:
        for n in range(3):
            put(
                store,
                body("pacs", n, readings=[reading(dst=f"d{9 - n}", test=f"t{n}")], hops=[hop(1, "", n)]),
                body(
                    "home",
                    n,
                    readings=[reading("home")],
                    flows=[flow("home", window_us=n, srtt_histogram=(40, 1))],
                ),
            )
            store.seal()
        before = (store.counts(), store.readings_latest("default"), store.flows("default"))
        clock.now_us += DAY_US
        store.upkeep()
        assert store.health().days_compacted == 3
        assert (store.counts(), store.readings_latest("default"), store.flows("default")) == before
        store.upkeep()
        assert store.health().days_compacted == 3
    assert len(sealed_files(tmp_path, "readings")) == 1
    rows = pq.read_table(next((tmp_path / "parquet").rglob("readings/**/*.parquet")), partitioning=None)
    order = [(row["src"], row["dst"], row["cycle"]) for row in rows.to_pylist()]
    assert order == sorted(order)
    with opened(tmp_path, clock) as store:
        assert store.counts() == before[0]
        assert put(store, body("pacs", 1, readings=[]), body("home", 2, readings=[])) == [False, False]


def test_whole_days_are_let_go_of_after_they_are_kept_and_never_the_newest(tmp_path: Path) -> None:
    clock = Clock()
    keep = Keep(readings=3, hops=1, flows=2, readings_5m=4, readings_1h=6, readings_1d=8)
    with opened(tmp_path, clock, keep) as store:
        for day in range(10):
            put(store, body("pacs", day, readings=[reading(test=f"t{day}")], hops=[hop(1, "", day)]))
            store.seal()
            store.upkeep()
            clock.now_us += DAY_US
        store.upkeep()
        assert store.health().files_expired > 0
        assert store.counts() == {"readings": 3, "hops": 1, "flows": 0, "receipts": 0}
        counts = [
            len(list((tmp_path / "rollup/tenant=default" / level).glob("date=*")))
            for level in (Level.FIVE_MINUTES, Level.HOUR, Level.DAY)
        ]
        assert counts == [4, 6, 8]
        before = store.counts()
        clock.now_us += 100 * DAY_US
        store.upkeep()
        assert store.counts() == before  # nobody knows yet whether the clock is right
        for number in (101, 102):
            put(store, body("pacs", number, readings=[reading(dst="home", test=f"t{number}")]))
            store.seal()
            store.upkeep()
            assert store.counts()["readings"] == before["readings"] + number - 100
            clock.now_us += DAY_US
        store.upkeep()
        assert store.counts() == {"readings": 2, "hops": 1, "flows": 0, "receipts": 0}
    (left,) = sealed_files(tmp_path, "hops")
    assert left.startswith(f"date={seal.day_of(AT_US + 9 * DAY_US)}/")


# --- rebuild ------------------------------------------------------------------------------------------------


def test_rebuilding_gives_the_same_and_keeps_what_cannot_be_made(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock, Keep(readings=8)) as store:
        put(store, body("pacs", 1, readings=[reading(test="old")]))
        store.seal()
        clock.now_us += 7 * DAY_US
        for number in (2, 3):
            put(store, body("pacs", number, readings=[reading(dst="home", test="new")]))
            store.seal()
            clock.now_us += DAY_US
        store.upkeep()
        assert store.counts()["readings"] == 2
        put(store, body("pacs", 4, readings=[reading(dst="clinic", test="spooled")]))
        latest = store.readings_latest("default")
    whole = {level: rolled(tmp_path, level) for level in Level}
    said: list[str] = []
    made = rebuild(tmp_path, limits=Limits(), keep=Keep(), say=said.append, clock_us=clock)
    assert (made.hours, made.kept_hours, made.rows["readings"]) == (2, 1, 3)
    assert said[0].startswith("hour 1 of 2: ")
    assert {level: rolled(tmp_path, level) for level in Level} == whole
    with opened(tmp_path, clock) as store:
        assert store.readings_latest("default") == latest
        with pytest.raises(StoreLockedError, match="in use by process"):
            rebuild(tmp_path, limits=Limits(), keep=Keep())


def test_rebuilding_nothing_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no data of a server"):
        rebuild(tmp_path / "nowhere", limits=Limits(), keep=Keep())
    assert not (tmp_path / "nowhere").exists()


def test_what_is_sealed_while_its_day_is_compacted_is_in_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sixteenth small file of yesterday comes while the other fifteen are made one."""
    clock, compact = Clock(), tidy.compact

    def meanwhile(folder: Path, segment: int, files: Sequence[Sealed], engine: Engine) -> Sealed:
        made = compact(folder, segment, files, engine)
        if made.table == "readings":
            clock.now_us -= DAY_US
            send(15)
            clock.now_us += DAY_US
        return made

    def send(n: int) -> None:
        put(store, body("pacs", n, readings=[reading("pacs", "home", test=f"t{n}")]))
        store.seal()

    monkeypatch.setattr(tidy, "compact", meanwhile)
    with opened(tmp_path, clock) as store:
        for n in range(15):
            send(n)
        clock.now_us += DAY_US + HOUR_US
        store.upkeep()
        monkeypatch.undo()
        assert store.counts()["readings"] == 16
        store.upkeep()
        assert store.counts()["readings"] == 16
    with opened(tmp_path, clock) as store:
        assert store.counts()["readings"] == 16


def test_an_hour_that_grew_while_its_day_waited_is_in_the_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are sealed after a day was chosen, and before it is rolled up."""
    clock, rolling = Clock(), Hours.rolling

    def meanwhile(hours: Hours, which: Collection[int]) -> AbstractContextManager[None]:
        if len(which) == 24:
            store.seal()
        return rolling(hours, which)

    with opened(tmp_path, clock) as store:
        for n in range(2):
            put(store, body("pacs", n, readings=[reading("pacs", "home", test=f"t{n}")]))
            store.seal()
            clock.now_us += HOUR_US
        put(store, body("pacs", 2, readings=[reading("pacs", "home", test="t2")]))  # sealed late
        clock.now_us += DAY_US
        monkeypatch.setattr(Hours, "rolling", meanwhile)
        for _ in range(2):
            store.upkeep()
        assert store.health().upkeep_failures == 0
    assert sum(row.tests for row in rolled(tmp_path, Level.HOUR)) == 3
    assert sum(row.tests for row in rolled(tmp_path, Level.DAY)) == 3


def test_rollups_that_are_let_go_of_are_neither_asked_nor_made_again(tmp_path: Path) -> None:
    clock, keep = Clock(), Keep(readings_5m=1, readings_1h=3, readings_1d=1)
    with opened(tmp_path, clock, keep) as store:
        for n in range(6):
            put(store, body("pacs", n, readings=[reading("pacs", "home", test=f"t{n}")]))
            store.seal()
            clock.now_us += DAY_US
            store.upkeep()
        assert store.health().upkeep_failures == 0
        assert store.health().files_expired > 0
    with opened(tmp_path, clock, keep) as store:
        store.upkeep()
        assert store.health().upkeep_failures == 0
        assert store.health().files_expired == 0
        assert store.health().hours_rolled == 0


def test_what_a_crash_left_unfinished_is_removed(tmp_path: Path) -> None:
    with opened(tmp_path, Clock()) as store:
        put(store, body("pacs", 1, readings=[reading("pacs", "home")]))
        store.seal()
    left = [
        next((tmp_path / "parquet").rglob("*.parquet")).with_name("0000000099.parquet.tmp"),
        tmp_path / "rollup/tenant=default" / Level.HOUR / "date=2026-01-01" / "03.parquet.tmp",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    with opened(tmp_path, Clock()) as store:
        assert store.counts()["readings"] == 1
    assert not any(path.exists() for path in left)


def test_no_merge_takes_more_files_than_are_many() -> None:
    files = [
        Sealed(Path(f"{n}"), "default", "readings", "2026-01-01", n, seal.SMALL_ROWS - 1)
        for n in range(2 * seal.MANY_FILES + 3)
    ]
    assert [len(group) for group in seal.to_merge(files)] == [seal.MANY_FILES, seal.MANY_FILES]
