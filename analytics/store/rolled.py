"""Rollups as files: ``rollup/tenant=<tenant>/<level>/date=<day>/<HH or day>.parquet``, of sealed readings.

A file is of a tenant's readings *received* in one hour (or day), and its rows are of the time in which tests
ended: what comes late is in a later file, so a file that is written need not change. Whoever asks folds rows
of the same key again, which ``analytics/rollup.py`` makes exact.

Names follow from the hour alone, so rolling up again writes the same file over. An hour counts as rolled up
when its hourly file is there, which is written last. Rows of an hour that is rolled up already (a clock that
was turned back) have its files removed before they are sealed: a crash in between costs a repetition, never a
row.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from analytics.clock import DAY_US, HOUR_US
from analytics.histogram import FINE_BITS, MOST_COUNT
from analytics.rollup import DEEP, FOLDS, KEYS, MOST_SUM, Level, Rollup
from analytics.store.columns import ROLLUP, ROLLUP_SCHEMA, SCHEMAS, file_metadata
from analytics.store.files import remove_durably, remove_unfinished
from analytics.store.ordered import IN_SPAN, spans, write_pieces
from analytics.store.query import Engine
from analytics.store.recover import put_aside
from analytics.store.seal import SUFFIX, Sealed, UnreadableError, check_through, hour_of_day
from analytics.store.tenants import folder_of, tenants_below

FORMAT_VERSION: Final = 1
LATE_US: Final = 8 * DAY_US
"""An agent keeps what it could not send for a week: rows of a day are looked for in files of these days."""
_DAY_NAME: Final = "day"

# Only names of columns, which are constants, are put into the text; values are parameters.
_SHIFT: Final = f"greatest(0, floor(log2(greatest(rtt_p50_us, 1)))::BIGINT - {FINE_BITS})"
_BUCKET: Final = f"(({_SHIFT}) << {FINE_BITS}) + (rtt_p50_us >> ({_SHIFT}))"
_SQL: Final = {
    "sum": f"least(sum({{0}}), {MOST_SUM})::BIGINT AS {{0}}",
    "min": "min({0}) AS {0}",
    "max": "max({0}) AS {0}",
}
_BROUGHT: Final = ", ".join(f"{fold.sql} AS {name}" for name, fold in FOLDS.items())
_FOLDED: Final = ", ".join(_SQL[fold.by].format(name) for name, fold in FOLDS.items())
_KEYS: Final = ", ".join(KEYS)
_NAMES: Final = ", ".join((*KEYS, *FOLDS))
_RECEIVED: Final = "received_us >= $since_us AND received_us < $until_us"

OF_READINGS: Final = f"""
    , parts AS (
        SELECT tenant, src, dst, rung, at_us - at_us % $width_us AS start_us, {_BROUGHT},
            CASE WHEN {DEEP} IS NULL THEN []::BIGINT[] ELSE [{_BUCKET}, 1] END AS rtt_histogram
        FROM (SELECT *, least(ended_us, received_us) AS at_us FROM facts WHERE {IN_SPAN} AND {_RECEIVED}))
"""  # noqa: S608  # see above
FINER: Final = "read_parquet($files, hive_partitioning = false, union_by_name = true)"
OF_FINER: Final = f"""
    WITH parts AS (
        SELECT * REPLACE (start_us - start_us % $width_us AS start_us) FROM {FINER} WHERE {IN_SPAN})
"""  # noqa: S608  # see above
FOLD: Final = f"""
    , sums AS (SELECT {_KEYS}, {_FOLDED} FROM parts GROUP BY ALL),
    pairs AS (
        SELECT {_KEYS}, bucket, least(sum(n), {MOST_COUNT})::BIGINT AS n
        FROM (
            SELECT {_KEYS}, unnest(rtt_histogram[1:-1:2]) AS bucket, unnest(rtt_histogram[2:-1:2]) AS n
            FROM parts)
        GROUP BY ALL),
    histograms AS (
        SELECT {_KEYS}, flatten(list([bucket, n] ORDER BY bucket)) AS rtt_histogram FROM pairs GROUP BY ALL)
    SELECT {_NAMES}, coalesce(rtt_histogram, []) AS rtt_histogram
    FROM sums LEFT JOIN histograms USING ({_KEYS}) ORDER BY {_KEYS}
"""  # noqa: S608  # see above
OF_PAIR: Final = f"""
    SELECT {_NAMES}, rtt_histogram FROM {FINER}
    WHERE tenant = $tenant AND src IN ($src, $dst) AND dst IN ($src, $dst) AND src <> dst
        AND start_us >= $since_us AND start_us < $until_us
    ORDER BY start_us, src, rung
"""  # noqa: S608  # see above
_OWNERS: Final = "SELECT tenant, src AS owner, count(*) AS n FROM {} WHERE {} GROUP BY ALL ORDER BY ALL"


def day_of_hour(hour: int) -> str:
    """Name the UTC day of an hour since 1970."""
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%d")


class Rollups:
    """The rollup files of one tenant. One thread at a time rolls up or forgets."""

    def __init__(self, folder: Path) -> None:
        """Take up what is in a tenant's folder: by names, as each appears whole or not at all."""
        self._folder = folder
        remove_unfinished(folder)
        self.hours, self.days = self._found()

    def let_go(self) -> None:
        """Forget the hours and days whose files are gone; what another thread forgets meanwhile stays so."""
        hours, days = self._found()
        self.hours &= hours
        self.days &= days

    def _found(self) -> tuple[set[int], set[str]]:
        hours = {
            hour_of_day(path.parent.name.removeprefix("date="), int(path.stem))
            for path in (self._folder / Level.HOUR).glob(f"date=*/[0-2][0-9]{SUFFIX}")
        }
        days = {
            path.parent.name.removeprefix("date=")
            for path in (self._folder / Level.DAY).glob(f"date=*/{_DAY_NAME}{SUFFIX}")
        }
        return hours, days

    def due(self, files: Iterable[Sealed], before: int) -> list[int]:
        """List the hours before an hour of which there are readings, and no rollup."""
        told = {hour for file in files for hour in range(file.hours[0], file.hours[1] + 1)}
        return sorted(hour for hour in told - self.hours if hour < before)

    def due_days(self, waiting: Iterable[int], today: str) -> list[str]:
        """List the days that are over, all of whose hours are rolled up, and not the day itself."""
        told = {day_of_hour(hour) for hour in frozenset(self.hours)} - {day_of_hour(hour) for hour in waiting}
        return sorted(day for day in told - self.days if day < today)

    def roll_hour(self, engine: Engine, hour: int, files: Sequence[Sealed]) -> int:
        """Write an hour's files; returns the readings in it. Raises ``OSError``, ``UnreadableFactsError``."""
        paths = [file.path for file in files if file.hours[0] <= hour <= file.hours[1]]
        given = {"since_us": hour * HOUR_US, "until_us": (hour + 1) * HOUR_US}
        empty = SCHEMAS["readings"].empty_table()
        ask = partial(engine.table, "readings", files=paths, fresh=empty)
        counted = ask(_OWNERS.format("facts", _RECEIVED), given=given).to_pylist()
        fine = self.path(Level.FIVE_MINUTES, hour)
        told = {**given, "width_us": Level.FIVE_MINUTES.width_us}
        _write(
            fine, Level.FIVE_MINUTES, counted, lambda span: ask(OF_READINGS + FOLD, given={**told, **span})
        )
        self._fold(engine, Level.HOUR, [fine], self.path(Level.HOUR, hour))
        self.hours.add(hour)
        return sum(one["n"] for one in counted)

    def roll_day(self, engine: Engine, day: str) -> None:
        """Write a day's file from its hours'. Raises as ``roll_hour``."""
        first = hour_of_day(day, 0)
        hours = [self.path(Level.HOUR, hour) for hour in range(first, first + 24) if hour in self.hours]
        self._fold(engine, Level.DAY, hours, self.day_path(day))
        self.days.add(day)

    def forget(self, hours: Iterable[int]) -> list[int]:
        """Remove the rollups of hours, durably, before something is sealed that they lack."""
        stale = sorted(self.hours & set(hours))
        days = {day_of_hour(hour) for hour in stale}
        self.hours.difference_update(stale)
        self.days -= days
        paths = [self.path(level, hour) for hour in stale for level in (Level.HOUR, Level.FIVE_MINUTES)]
        paths += [self.day_path(day) for day in days]
        remove_durably(path for path in paths if path.exists())
        return stale

    def files(self, level: Level, *, first: str = "", last: str = "9999-99-99") -> list[Path]:
        """List a level's files of receipt days from first to last."""
        days = sorted((self._folder / level).glob("date=*"))
        chosen = [day for day in days if first <= day.name.removeprefix("date=") <= last]
        return [path for day in chosen for path in sorted(day.glob(f"*{SUFFIX}"))]

    def of_pair(self, engine: Engine, level: Level, given: dict[str, Any]) -> list[Rollup]:
        """Both directions between ``src`` and ``dst``, from ``since_us`` to ``until_us``, by time.

        Raises ``UnreadableFactsError``.
        """
        first, last = max(0, given["since_us"] - DAY_US), given["until_us"] + LATE_US
        files = self.files(level, first=day_of_hour(first // HOUR_US), last=day_of_hour(last // HOUR_US))
        if not files:
            return []
        return msgspec.convert(engine.run(OF_PAIR, files=files, given=given).to_pylist(), list[Rollup])

    def set_damaged_aside(self) -> int:
        """Look through all rollups; those that are damaged are made again, if their readings are kept."""
        damaged = 0
        for path in [path for level in Level for path in self.files(level)]:
            try:
                check_through(path)
            except UnreadableError as error:
                put_aside(path, error)
                self._lack(path)
                damaged += 1
        return damaged

    def _lack(self, path: Path) -> None:
        day = path.parent.name.removeprefix("date=")
        self.days.discard(day)
        if path.stem != _DAY_NAME:
            self.hours.discard(hour_of_day(day, int(path.stem)))

    def path(self, level: Level, hour: int) -> Path:
        """Name the file of an hour."""
        return self._folder / level / f"date={day_of_hour(hour)}" / f"{hour % 24:02d}{SUFFIX}"

    def day_path(self, day: str) -> Path:
        """Name the file of a day."""
        return self._folder / Level.DAY / f"date={day}" / f"{_DAY_NAME}{SUFFIX}"

    def _fold(self, engine: Engine, level: Level, finer: Sequence[Path], target: Path) -> None:
        counted = engine.run(_OWNERS.format(FINER, "true"), files=finer).to_pylist()
        width = {"width_us": level.width_us}
        _write(
            target,
            level,
            counted,
            lambda span: engine.run(OF_FINER + FOLD, files=finer, given={**width, **span}),
        )


class AllRollups:
    """The rollups of each tenant. Methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Take up what is there."""
        self._folder = folder
        self._lock = threading.Lock()
        self._of = {tenant: Rollups(folder_of(folder, tenant)) for tenant in tenants_below(folder)}

    def of(self, tenant: str) -> Rollups:
        """A tenant's; none yet is no fault."""
        with self._lock:
            if tenant not in self._of:
                self._of[tenant] = Rollups(folder_of(self._folder, tenant))
            return self._of[tenant]

    def each(self) -> list[tuple[str, Rollups]]:
        """List all, by tenant."""
        with self._lock:
            return sorted(self._of.items())

    def hours(self) -> set[int]:
        """Hours that are rolled up, of any tenant."""
        return set().union(*(frozenset(rollups.hours) for _, rollups in self.each()))

    def forget(self, hours: Mapping[str, Iterable[int]]) -> int:
        """As ``Rollups.forget``, of the hours of each tenant; returns how many there were."""
        return sum(len(self.of(tenant).forget(own)) for tenant, own in hours.items())


def _write(
    path: Path,
    level: Level,
    counted: Sequence[dict[str, Any]],
    ask: Callable[[dict[str, str]], pa.Table],
) -> None:
    told = file_metadata({"format": FORMAT_VERSION, "table": level.value})
    pieces = (ask(span._asdict()) for span in spans(counted))
    write_pieces(path, ROLLUP_SCHEMA.with_metadata(told), ROLLUP, pieces)
