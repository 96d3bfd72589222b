"""What the store does beside taking and answering: roll up, compact, let go of what is old.

Each step is small, may be repeated, and leaves things as good as they were where it fails: rollups and
compacted files appear whole or not at all, and what they replace is removed afterwards. A failure is logged
and counted; the next run tries again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from analytics.clock import HOUR_US
from analytics.errors import AnalyticsError
from analytics.store import seal, tidy
from analytics.store.files import remove_durably
from analytics.store.hours import Hours
from analytics.store.query import StoppedError, UnreadableFactsError
from analytics.store.rolled import AllRollups, day_of_hour
from analytics.store.seal import UnreadableError
from analytics.store.shelf import Shelf
from analytics.store.state import State
from analytics.store.tidy import Keep

log: Final = logging.getLogger(__name__)

SETTLED_US: Final = 60_000_000
"""An hour is rolled up so long after its end: what was received in it is sealed by then, most often."""
COMPACTED_AFTER_US: Final = HOUR_US
"""A day is compacted so long after its end, so that what is sealed late is in it."""


@dataclass(slots=True)
class Done:
    """What was done since the store was opened."""

    hours_rolled: int = 0
    days_compacted: int = 0
    files_expired: int = 0
    failures: int = 0


class Upkeep:
    """One thread at a time runs it; others may ask and append meanwhile."""

    def __init__(
        self,
        folder: Path,
        shelf: Shelf,
        state: State,
        *,
        keep: Keep,
        clock_us: Callable[[], int],
        number: Callable[[], int],
    ) -> None:
        """``number`` gives a new file its number."""
        self.rollups = AllRollups(folder / "rollup")
        self.done = Done()
        self._folder = folder
        self._shelf = shelf
        self._state = state
        self._keep = keep
        self._clock_us = clock_us
        self._number = number
        self._hours = Hours()
        self._running = threading.Lock()
        self._told_after = 0  # hours that were rolled up by when it was last told what is usual
        self._steps: tuple[Callable[[], None], ...] = (
            self._merge_small,
            self._refresh,
            self._roll_hours,
            self._roll_days,
            self._tell_usual,
            self._compact,
            self._expire,
            self._refresh,
        )

    def run(self) -> None:
        """Do what is due; never raises for a fault of the disk or of a file."""
        with self._running:
            try:
                for step in self._steps:
                    self._try(step)
            except StoppedError:
                log.info("upkeep stopped; the rest is done when the store is opened again")

    def merge_small(self) -> None:
        """Merge small files; not while ``run`` reads them, or writes the same rows into another file.

        Raises ``OSError`` or ``StoreError``.
        """
        if self._running.acquire(blocking=False):
            try:
                self._merge_small()
            finally:
                self._running.release()

    def rebuild(self, say: Callable[[str], None]) -> tuple[int, int]:
        """Throw away what can be made again, and make it; ``say`` is told what is done."""
        with self._running:
            told = {tenant: self._told(tenant) for tenant in self._tenants()}
            self.rollups.forget(told)
            self._state.begin_anew()
            due = self._due()
            for at, (hour, tenant) in enumerate(due, start=1):
                self._try(partial(self._roll_hour, tenant, hour))
                say(f"hour {at} of {len(due)}: {day_of_hour(hour)}T{hour % 24:02d} of {tenant}")
            for step, what in (
                (self._roll_days, "rollups of days"),
                (self._refresh, "state.duckdb: latest"),
                (self._tell_usual, "state.duckdb: usual"),
            ):
                self._try(step)
                say(what)
            made = sum(len(self.rollups.of(tenant).hours & own) for tenant, own in told.items())
            return made, sum(len(rollups.hours) for _, rollups in self.rollups.each()) - made

    def close(self) -> None:
        """Wait for the piece of work that is under way, and leave the rest."""
        self._state.engine.stop()
        with self._running:
            self._state.close()

    @contextmanager
    def sealing(self, hours: Mapping[str, set[int]]) -> Iterator[None]:
        """Seal rows of these hours of each tenant: rollups that lack them go first."""
        with self._hours.sealing(set().union(*hours.values())):
            if stale := self.rollups.forget(hours):
                log.warning("rows of %d hours came after those were rolled up: done again", stale)
            yield

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except UnreadableFactsError as error:
            self._failed(step, error)
            self._try(self._set_damaged_aside)
        except (OSError, AnalyticsError, UnreadableError) as error:
            self._failed(step, error)

    def _failed(self, step: Callable[[], None], error: Exception) -> None:
        self.done.failures += 1
        named = step.func if isinstance(step, partial) else step
        log.error("upkeep failed step=%s why=%r", named.__name__.strip("_"), str(error))

    def _set_damaged_aside(self) -> None:
        for _, rollups in self.rollups.each():
            rollups.set_damaged_aside()
        for tenant, table in sorted({file.place[:2] for file in self._shelf.files()}):
            self._shelf.set_damaged_aside(table, tenant)

    def _today(self, before_us: int = 0) -> str:
        return seal.day_of(max(0, self._clock_us() - before_us))

    def _merge_small(self) -> None:
        tidy.merge_small(self._folder / "parquet", self._shelf, self._number)

    def _tenants(self) -> list[str]:
        """Name those who have readings."""
        return sorted({file.tenant for file in self._shelf.files("readings")})

    def _told(self, tenant: str) -> set[int]:
        """Hours that files say to have readings of."""
        files = self._shelf.files_of("readings", tenant)
        return {hour for file in files for hour in range(file.hours[0], file.hours[1] + 1)}

    def _due(self) -> list[tuple[int, str]]:
        """Hours of readings, and whose, that wait to be rolled up and are not too old to be."""
        return sorted((hour, tenant) for tenant in self._tenants() for hour in self._due_of(tenant))

    def _due_of(self, tenant: str) -> list[int]:
        files = self._shelf.files_of("readings", tenant)
        first = self._keep.first_day("readings_1h", self._today())
        before = max(0, self._clock_us() - SETTLED_US) // HOUR_US
        return [hour for hour in self.rollups.of(tenant).due(files, before) if day_of_hour(hour) >= first]

    def _roll_hours(self) -> None:
        for hour, tenant in self._due():
            self._roll_hour(tenant, hour)

    def _roll_hour(self, tenant: str, hour: int) -> None:
        with self._hours.rolling((hour,)):
            files = self._shelf.files_of("readings", tenant)
            rows = self.rollups.of(tenant).roll_hour(self._state.engine, hour, files)
        self.done.hours_rolled += 1
        log.info("rolled up tenant=%s hour=%sT%02d readings=%d", tenant, day_of_hour(hour), hour % 24, rows)

    def _roll_days(self) -> None:
        for tenant, rollups in self.rollups.each():
            for day in self._due_days(tenant):
                first = seal.hour_of_day(day, 0)
                with self._hours.rolling(range(first, first + 24)):
                    if day not in self._due_days(tenant):
                        continue  # rows of it were sealed meanwhile: their hours are rolled up first
                    rollups.roll_day(self._state.engine, day)
                log.info("rolled up tenant=%s day=%s", tenant, day)

    def _due_days(self, tenant: str) -> list[str]:
        """Days of a tenant that wait to be rolled up and are not too old to be."""
        today = self._today()
        first = self._keep.first_day("readings_1d", today)
        due = self.rollups.of(tenant).due_days(self._due_of(tenant), today)
        return [day for day in due if day >= first]

    def _compact(self) -> None:
        for files in tidy.to_compact(self._shelf.files(), self._today(COMPACTED_AFTER_US)):
            made = tidy.compact(self._folder / "parquet", self._number(), files, self._state.engine)
            self._shelf.swap(files, [made])
            remove_durably(file.path for file in files)
            self.done.days_compacted += 1
            told = (made.tenant, made.table, made.day, len(files), made.rows)
            log.info("compacted tenant=%s table=%s day=%s files=%d rows=%d", *told)

    def _refresh(self) -> None:
        self._state.refresh(self._clock_us())

    def _tell_usual(self) -> None:
        rolled = self.done.hours_rolled
        self._state.tell_usual(self.rollups, self._clock_us(), anew=rolled != self._told_after)
        self._told_after = rolled

    def _expire(self) -> None:
        today, waiting = self._today(), {(tenant, day_of_hour(hour)) for hour, tenant in self._due()}
        if not tidy.is_trusted({file.day for file in self._shelf.files()}, today):
            return
        old = tidy.expired(self._shelf.files(), self._keep, today, waiting)
        gone = tidy.expire(self._shelf, old)
        gone += len(tidy.expire_rollups(self._folder / "rollup", self._keep, today))
        for _, rollups in self.rollups.each():
            rollups.let_go()
        self.done.files_expired += gone
        if gone:
            log.info("let go of %d files older than they are kept", gone)
