"""What the paths were like at each full hour, kept ready for the front page.

A small fleet's hours are read back from the store, one after another and away from any request: they survive
a restart. A large fleet's would take seconds each, so its letters are counted when the hour strikes, from the
board that is ready anyway; what was before the server started is not known, and the page says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final

from analytics.clock import HOUR_US, now_us
from analytics.errors import AnalyticsError
from analytics.overview import LetterCount
from analytics.trend import Trend, TrendColumn, full_hours
from server.api.core import ReportCore, default_profile

log: Final = logging.getLogger("pathgrade.trend")

READ_BACK_MOST: Final = 40
"""Agents whose past is read back: a report of theirs takes some ten ms."""
ROUND_S: Final = 10.0
"""Between two rounds."""
BUSY_S: Final = 0.5
"""Of a round: reading back stands back for everything else."""
STRUCK_US: Final = 300_000_000
"""So long after the full hour a count is still that hour's."""
KEPT: Final = 2_000
"""Hours of all profiles: two weeks of six."""
WANTED: Final = 200

Hour = tuple[str, int]
"""Profile, us since 1970."""


class Trends:
    """The hours of one tenant; from any thread."""

    def __init__(self, core: ReportCore, clock: Callable[[], int] = now_us) -> None:
        self._core = core
        self._clock = clock
        self._known: OrderedDict[Hour, list[LetterCount]] = OrderedDict()
        self._wanted: OrderedDict[Hour, None] = OrderedDict()
        self._profiles: set[str] = set()
        self._lock = Lock()

    def of(self, profile: str, letters: list[LetterCount], at_us: int) -> Trend:
        """Tell the day before a moment that has these letters; missing hours are looked for later."""
        hours = full_hours(at_us)
        with self._lock:
            self._profiles.add(profile)
            for hour in hours:
                if (profile, hour) not in self._known and len(self._wanted) < WANTED:
                    self._wanted[profile, hour] = None
            columns = [TrendColumn(at_us=hour, letters=self._known.get((profile, hour))) for hour in hours]
        return Trend(profile=profile, columns=[*columns, TrendColumn(at_us=at_us, letters=letters)])

    async def run(self) -> None:
        """Go on for ever."""
        while True:
            try:
                await asyncio.to_thread(self.round)
            except AnalyticsError as error:
                log.warning("hours are not known why=%r", str(error))
            except Exception:  # a trend that stands still must not end the server
                log.exception("hours are not known")
            await asyncio.sleep(ROUND_S)

    def round(self, busy_s: float = BUSY_S) -> None:
        """Read some hours back, or count the one that has struck."""
        if len(self._core.members()) > READ_BACK_MOST:
            self._count()
            return
        until = time.monotonic() + busy_s
        while self.read_back() and time.monotonic() < until:
            pass

    def read_back(self) -> bool:
        """Read one hour back, the latest first; False where none is missing."""
        with self._lock:
            if not self._wanted:
                return False
            (profile, hour), _ = self._wanted.popitem()
        self._keep((profile, hour), self._core.overview(profile, hour).letters)
        return True

    def _count(self) -> None:
        now = self._clock()
        hour = now // HOUR_US * HOUR_US
        with self._lock:
            self._wanted.clear()
            asked = self._profiles | {default_profile(self._core)}
            missing = [profile for profile in asked if (profile, hour) not in self._known]
        if now - hour < STRUCK_US:
            for profile in missing:
                self._keep((profile, hour), self._core.overview(profile).letters)

    def _keep(self, hour: Hour, letters: list[LetterCount]) -> None:
        with self._lock:
            self._known[hour] = letters
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
