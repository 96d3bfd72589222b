"""Looks at one tenant's report every ten seconds and after each seal, and makes alerts of what it sees.

READ FIRST: ``Watcher.look``, one look from facts to the queue. It runs in a worker thread, and for a tenth of
the time at most: where a look takes long, the next one comes later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from analytics.clock import now_us
from analytics.errors import AnalyticsError
from analytics.rules.load import Rules
from server.alerts.book import Book
from server.alerts.conditions import Look, Readings, conditions
from server.alerts.facts import Seen, judged, profiles_of, seen
from server.alerts.lifecycle import after, telling
from server.alerts.matching import silence_of
from server.alerts.model import Alert, Event, Notice, Phase
from server.alerts.receivers.courier import Courier
from server.alerts.receivers.messages import AGAIN_S
from server.alerts.rules import AlertRules
from server.alerts.threads import to_the_end
from server.api.core import ReportCore
from server.errors import ServerError

log: Final = logging.getLogger("pathgrade.server.alerts")

LOOK_S: Final = 10.0
REST: Final = 9
"""Times as long as a look took, at least, until the next one."""


class Failures(Protocol):
    """Where a look that broke off is counted."""

    look_failures: int


class Watcher:
    """Of one tenant. Everything but ``run`` and ``wake`` is of one worker thread at a time."""

    def __init__(
        self,
        book: Book,
        core: ReportCore,
        *,
        rules: AlertRules,
        profiles: Rules,
        couriers: Sequence[Courier],
        own: Callable[[], Readings],
        failures: Failures,
        clock: Callable[[], int] = now_us,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book = book
        self._core = core
        self.rules = rules
        self._profiles = profiles
        self._couriers = couriers
        self._own = own
        self._failures = failures
        self._clock = clock
        self._monotonic = monotonic
        self._looked_s: float | None = None
        self._before: Readings = {}
        self.woken = asyncio.Event()
        self.latest: Mapping[str, Seen] = {}
        """What the latest look saw, by profile; for metrics."""
        self.latest_us: int | None = None
        self.took_s: float | None = None

    async def run(self) -> None:
        """Look until cancelled; a look that has begun is waited for."""
        again_s = 0.0
        while True:
            began_s = self._monotonic()
            told = await to_the_end(self._guarded, self.look)
            for courier in self._couriers if told else ():
                courier.wake.set()
            if self._monotonic() >= again_s:
                again_s = self._monotonic() + AGAIN_S
                await to_the_end(self._guarded, self._repeat)
            await self._rest(max(LOOK_S, REST * (self._monotonic() - began_s)))

    async def _rest(self, rest_s: float) -> None:
        """Wait; whoever wakes it gets a look at once, unless the last one was expensive."""
        try:
            async with asyncio.timeout(rest_s):
                await self.woken.wait()
                if rest_s > LOOK_S:
                    await asyncio.sleep(rest_s)
        except TimeoutError:
            pass
        self.woken.clear()

    def _guarded(self, act: Callable[[], bool]) -> bool:
        """Do it; count and say what goes wrong, as the next look is tried all the same."""
        try:
            return act()
        except (AnalyticsError, ServerError) as error:
            self._failures.look_failures += 1
            log.error(
                "no look at alerts tenant=%s why=%r try=%r", self._book.tenant, str(error), error.remedy
            )
        except Exception:  # a mistake of ours must not end the watching
            self._failures.look_failures += 1
            log.exception("no look at alerts tenant=%s", self._book.tenant)
        return False

    def look(self) -> bool:
        """Take one look; True where receivers are to be told something. Raises what reading raises."""
        began_s = self._monotonic()
        look = self._now()
        found = conditions(self.rules.enabled, look)
        elapsed_us = 0 if self._looked_s is None else int((began_s - self._looked_s) * 1e6)
        with self._book.changing:
            before = {(one.id, one.first_us): one for one in self._book.live()}
            step = after(list(before.values()), found, self.rules, look, elapsed_us=elapsed_us)
            alerts, notices = self._told(step.alerts, look.at_us)
            changed = [one for one in alerts if before.get((one.id, one.first_us)) != one]
            dropped = self._book.save(changed, dropped=step.dropped, notices=notices, at_us=look.at_us)
        self._looked_s, self._before = began_s, look.own
        self.took_s = self._monotonic() - began_s
        if dropped:
            log.error("alerts dropped: too many wait for a receiver notices=%d", dropped)
        return bool(notices)

    def _now(self) -> Look:
        members = self._core.members()
        wanted = profiles_of(members, self.rules.enabled.values(), self._core.profiles())
        self.latest = seen(self._core, wanted)
        self.latest_us = self._clock()
        told = {name: judged(one, self._profiles) for name, one in self.latest.items()}
        return Look(self.latest_us, members, told, self._own(), self._before)

    def _told(self, alerts: Sequence[Alert], at_us: int) -> tuple[list[Alert], list[tuple[str, Notice]]]:
        """The alerts once receivers are told, and what each of these is told."""
        silences, notices = self._book.silences(at_us), list[tuple[str, Notice]]()
        made: list[Alert] = []
        for one in alerts:
            silence = silence_of(one, silences, at_us)
            alert = one if one.silence == silence else msgspec.structs.replace(one, silence=silence)
            tell = telling(alert, silenced=bool(silence))
            if tell is not None:
                alert = tell.alert
                _log(tell.event, alert)
                notice = Notice(
                    event=tell.event,
                    tenant=self._book.tenant,
                    at_us=at_us,
                    alert=alert,
                    before=tell.before,
                )
                notices += for_receivers(self._couriers, notice)
            made.append(alert)
        return made, notices

    def _repeat(self) -> bool:
        """Tell receivers that forget what is still open; True where there are such."""
        forgetful = [courier for courier in self._couriers if courier.sender.forgets]
        if not forgetful:
            return False
        at_us = self._clock()
        told = [one for one in self._book.live() if one.phase is Phase.OPEN and one.told is not None]
        notices = [
            Notice(event=Event.STILL, tenant=self._book.tenant, at_us=at_us, alert=alert) for alert in told
        ]
        for courier in forgetful:
            courier.still([one for one in notices if courier.sender.receiver.wants(one.alert)])
        return True


def for_receivers(couriers: Sequence[Courier], notice: Notice) -> list[tuple[str, Notice]]:
    """The receivers that a notice is for; who was not told of the milder alert is told that it opened."""
    told = []
    for courier in couriers:
        receiver = courier.sender.receiver
        if receiver.wants(notice.alert):
            new = notice.before is not None and notice.before.rank < receiver.least.rank
            made = msgspec.structs.replace(notice, event=Event.OPENED, before=None) if new else notice
            told.append((courier.name, made))
    return told


def _log(event: Event, alert: Alert) -> None:
    log.info(
        "alert %s id=%s severity=%s rule=%s where=%r profile=%s",
        event.value,
        alert.id,
        alert.severity.value,
        alert.rule,
        alert.where,
        alert.profile or "-",
    )
