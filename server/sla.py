"""The SLA report, acting: days are counted from readings once, and filed; a month is put together from them.

READ FIRST: ``SlaBook.month``. Readings are let go of after a month; what a day said is filed as letters over
time, ``sla/tenant=NAME/<agent>/<profile>/<day>.json`` below the data folder, a few kilobytes a day. A file
is made again while rows of its day may still arrive, and stays as it is from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from urllib.parse import quote

import msgspec

from analytics.clock import DAY_US
from analytics.errors import UNREADABLE
from analytics.graded import Way, graded
from analytics.measurement import Letter
from analytics.rules.load import Rules
from analytics.rules.sla import load_sla_rules
from analytics.shapes import Member, Service
from analytics.sla import NOT_KNOWN, Asked, Cause, Month, SlaReport, sla_report
from analytics.sla_causes import moments
from analytics.store import seal
from analytics.store.files import disk_errors, make_folder, replace_durably
from analytics.store.rolled import LATE_US
from analytics.store.store import Store
from analytics.stretches import Stretch, incidents, joined, stretches

log: Final = logging.getLogger(__name__)

FORMAT: Final = 1
MOMENTS_ASKED: Final = 3
"""Looked at for causes while somebody waits: each is a report of the service's paths."""
MOMENTS_FILED: Final = 60
"""And while nobody does; what is left is looked at in the next hour."""
AGAIN_US: Final = 3_600_000_000
"""A day is counted again after so long, then after twice as long each time, while rows may arrive."""
MOST_FILE: Final = 4 * 2**20

Causes = Callable[[Way, int, Sequence[str]], Mapping[str, Cause]]
"""Why workplaces could not use what is on the agent's host at a moment."""
Down = list[tuple[str, Stretch]]


class NotedCause(msgspec.Struct, frozen=True, kw_only=True):
    """Why, of an incident that began then."""

    workplace: str
    since_us: int
    cause: Cause


class SlaDay(msgspec.Struct, frozen=True, kw_only=True):
    """What a day said, of one service agent and profile."""

    format: int
    made_us: int
    since_us: int
    until_us: int
    rules_version: str
    counts_for_s: int
    parts: dict[str, list[tuple[int, int, Letter]]]  # by workplace; what none covers is unknown
    causes: list[NotedCause] = []
    readings: int = 0  # counted; 0 in a file of before
    readings_signed: int = 0  # by both ends


class Due(NamedTuple):
    """Which day, and how much of it is over."""

    since_us: int
    until_us: int
    over: bool


class SlaBook:
    """Counts and files one tenant's days. Methods may be called from any thread."""

    def __init__(
        self,
        folder: Path,
        tenant: str,
        *,
        store: Store,
        rules: Rules,
        causes: Causes,
        clock: Callable[[], int],
    ) -> None:
        self._folder = folder / "sla" / f"tenant={tenant}"
        self._tenant = tenant
        self._store = store
        self._rules = rules
        self._causes = causes
        self._clock = clock

    def month(self, service: Service, month: Month, members: Iterable[Member]) -> SlaReport:
        """Put a month together, counting the days that are not filed. Raises ``StoreError``, ``RulesError``.

        ``members`` are those that use the service, for their names and sites.
        """
        now_us = self._clock()
        way = Way(self._tenant, service.agent, service.profile)
        days = self._days(way, due_days(month, now_us), now_us)
        known = list(members)
        parts = _joined(days, known, service.agent)
        causes = self._noted(way, days, parts, MOMENTS_ASKED)
        asked = Asked(
            tenant=self._tenant,
            service=service,
            month=month,
            made_us=max((day.made_us for day in days), default=now_us),
            rules_versions=[day.rules_version for day in days] or [self._rules.version],
            counts_for_s=self._rules.stale_after_s,
            readings=sum(day.readings for day in days),
            readings_signed=sum(day.readings_signed for day in days),
        )
        return sla_report(asked, parts, known, causes, load_sla_rules())

    def file(self, services: Iterable[Service], now_us: int) -> None:
        """File what is over of the last days, with causes: nobody may ask before the readings are gone."""
        first = now_us - now_us % DAY_US - LATE_US
        for service in services:
            way = Way(self._tenant, service.agent, service.profile)
            dues = [Due(at, at + DAY_US, over=True) for at in range(first, now_us - DAY_US + 1, DAY_US)]
            days = self._days(way, dues, now_us)
            self._noted(way, days, _joined(days, [], service.agent), MOMENTS_FILED)

    def _days(self, way: Way, dues: Sequence[Due], now_us: int) -> list[SlaDay]:
        """Take days as they are filed, and count the others: those next to each other at once."""
        filed = {due: self._read(way, due) for due in dues}
        lacking = [due for due in dues if (day := filed[due]) is None or _is_due(day, now_us)]
        made = {day.since_us: day for run in runs(lacking) for day in self._counted(way, run, filed, now_us)}
        return [made.get(due.since_us) or filed[due] or self._empty(due, now_us) for due in dues]

    def _counted(
        self, way: Way, run: Sequence[Due], filed: Mapping[Due, SlaDay | None], now_us: int
    ) -> Iterator[SlaDay]:
        """Count days that follow each other, and file what is over; a day without a test stays as it was."""
        counts_for_us = self._rules.stale_after_s * 1_000_000
        tests = graded(
            self._store, way, self._rules, max(0, run[0].since_us - counts_for_us), run[-1].until_us
        )
        cut = {
            name: stretches(own, run[0].since_us, run[-1].until_us, counts_for_us=counts_for_us)
            for name, own in tests.items()
        }
        for due in run:
            parts = {name: known for name, own in cut.items() if (known := _known(own, due))}
            if not parts:  # its readings are gone, or there never were any
                continue
            before = filed[due]
            ended = [one for own in tests.values() for one in own if due.since_us <= one.at_us < due.until_us]
            made = msgspec.structs.replace(
                self._empty(due, now_us),
                parts=parts,
                causes=before.causes if before else [],
                readings=len(ended),
                readings_signed=sum(one.signed for one in ended),
            )
            if due.over:
                self._write(way, made)
            yield made

    def _empty(self, due: Due, now_us: int) -> SlaDay:
        return SlaDay(
            format=FORMAT,
            made_us=now_us,
            since_us=due.since_us,
            until_us=due.until_us,
            rules_version=self._rules.version,
            counts_for_s=self._rules.stale_after_s,
            parts={},
        )

    def _noted(
        self, way: Way, days: Sequence[SlaDay], parts: Mapping[str, Sequence[Stretch]], most: int
    ) -> dict[tuple[str, int], Cause]:
        """Recall why, and look into the incidents of which nobody has, the longest first."""
        noted = {(one.workplace, one.since_us): one.cause for day in days for one in day.causes}
        down: Down = [(name, one) for name, own in parts.items() for one in incidents(own)]
        new = self._looked_into(way, [one for one in down if (one[0], one[1].since_us) not in noted], most)
        for day in days:
            added = [note for note in new if day.since_us <= note.since_us < day.until_us]
            if added and day.until_us - day.since_us == DAY_US:
                self._write(way, msgspec.structs.replace(day, causes=[*day.causes, *added]))
        return noted | {(one.workplace, one.since_us): one.cause for one in new}

    def _looked_into(self, way: Way, down: Down, most: int) -> list[NotedCause]:
        found = []
        for at_us, seen in moments(down, most):
            told = self._causes(way, at_us, [name for name, _ in seen])
            found += [
                NotedCause(workplace=name, since_us=one.since_us, cause=told.get(name, NOT_KNOWN))
                for name, one in seen
            ]
        return found

    def _path(self, way: Way, since_us: int) -> Path:
        return self._folder / way.agent / quote(way.profile, safe="") / f"{seal.day_of(since_us)}.json"

    def _read(self, way: Way, due: Due) -> SlaDay | None:
        """Read a day's file; None where there is none. One that is of no use is counted again."""
        path = self._path(way, due.since_us)
        try:
            with path.open("rb") as file:
                day = msgspec.json.decode(file.read(MOST_FILE), type=SlaDay)
        except FileNotFoundError:
            return None
        except (OSError, *UNREADABLE) as error:
            log.warning("%s is counted again: %s", path, error)
            return None
        return day if day.format == FORMAT and due.over else None

    def _write(self, way: Way, day: SlaDay) -> None:
        path = self._path(way, day.since_us)
        with disk_errors("filing to", path):
            make_folder(path.parent)
            replace_durably(path, partial(_put, msgspec.json.encode(day)))


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def due_days(month: Month, now_us: int) -> list[Due]:
    """List the days of a month up to now; the day that runs as far as it is over."""
    until_us = min(month.until_us, now_us)
    return [
        Due(since_us, min(since_us + DAY_US, until_us), over=since_us + DAY_US <= now_us)
        for since_us in range(month.since_us, until_us, DAY_US)
    ]


def runs(dues: Sequence[Due]) -> list[list[Due]]:
    """Days that follow each other, together."""
    found: list[list[Due]] = []
    for due in dues:
        if not found or found[-1][-1].until_us != due.since_us:
            found.append([])
        found[-1].append(due)
    return found


def _known(own: Sequence[Stretch], due: Due) -> list[tuple[int, int, Letter]]:
    """A day's part of a workplace's stretches, without what is unknown."""
    parts = joined(own, due.since_us, due.until_us)
    return [(one.since_us, one.until_us, one.letter) for one in parts if one.letter is not Letter.UNKNOWN]


def _is_due(filed: SlaDay, now_us: int) -> bool:
    """Whether rows may have arrived since a day was filed: asked less often as it grows old."""
    after_us = filed.made_us - filed.until_us
    return after_us < LATE_US and now_us - filed.until_us >= max(AGAIN_US, 2 * after_us)


def _joined(days: Sequence[SlaDay], members: Iterable[Member], agent: str) -> dict[str, list[Stretch]]:
    """Each workplace's days put together; a member of whom nothing is known is there, too."""
    names = {member.name for member in members}.union(*(day.parts for day in days)) - {agent}
    since_us, until_us = (days[0].since_us, days[-1].until_us) if days else (0, 0)
    return {
        name: joined((Stretch(*part) for day in days for part in day.parts.get(name, ())), since_us, until_us)
        for name in names
    }
