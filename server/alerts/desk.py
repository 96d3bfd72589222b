"""Where people see alerts, say that they have seen one, keep some quiet, and try receivers.

It provides ``server.api.alert_door.AlertDoor``, and runs the tenant's watcher and couriers.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from analytics.clock import now_us
from server.alerts.book import MOST_SILENCES, Book, Waiting
from server.alerts.lifecycle import worst_first
from server.alerts.matching import says_something, silence_of
from server.alerts.model import Alert, Event, Notice, Phase, ReceiverStatus, Severity, Silence
from server.alerts.receivers.courier import Courier
from server.alerts.watcher import Watcher, for_receivers
from server.api.alert_door import AckAsk, AlertList, ReceiverTest, SilenceAsk
from server.audit import Audit
from server.errors import AlertError, DeliveryError

LONGEST_SILENCE_US: Final = 90 * 86_400 * 1_000_000


class AlertDesk:
    """Of one tenant. Methods may wait for the disk: routes call them in worker threads."""

    def __init__(
        self,
        book: Book,
        watcher: Watcher,
        couriers: Sequence[Courier],
        audit: Audit,
        *,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._book = book
        self.watcher = watcher
        self.couriers = couriers
        self._audit = audit
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Watch and deliver until cancelled."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            for courier in self.couriers:
                tasks.create_task(courier.run())
            tasks.create_task(self.watcher.run())

    def alerts(self, since_us: int | None, limit: int, *, at_us: int | None = None) -> AlertList:
        """As ``AlertDoor``."""
        now, at_us = at_us is None, self._clock() if at_us is None else at_us
        silences = self._book.silences(at_us) if now else []
        live = [
            msgspec.structs.replace(one, silence=silence_of(one, silences, at_us))
            for one in (self._book.live() if now else self._book.open_at(at_us))
            if one.opened_us is not None
        ]
        past = [] if since_us is None else self._book.past(since_us, limit, until_us=at_us)
        return AlertList(
            at_us=at_us,
            rules_version=self.watcher.rules.version,
            looked_us=self.watcher.latest_us,
            open=worst_first(live)[:limit],
            past=past,
            silences=silences,
        )

    def acknowledge(self, id_: str, ask: AckAsk, *, actor: str) -> Alert:
        """As ``AlertDoor``."""
        with self._book.changing:
            alert = next((one for one in self._book.live() if one.id == id_ and one.opened_us), None)
            if alert is None:
                raise AlertError(f"no open alert is called {id_!r}", remedy="pathgrade alerts names them")
            at_us, by = self._clock(), ask.by or actor
            seen = msgspec.structs.replace(alert, acked_us=at_us, acked_by=by, ack_note=ask.note)
            notice = Notice(event=Event.ACKNOWLEDGED, tenant=self._book.tenant, at_us=at_us, alert=seen)
            told = for_receivers(self.couriers, notice) if seen.told is not None else []
            self._book.save([seen], notices=told, at_us=at_us)
        self._audit.acknowledge(actor, id_, title=seen.title, by=by, note=ask.note)
        self._wake()
        return seen

    def silences(self) -> list[Silence]:
        """As ``AlertDoor``."""
        return self._book.silences(self._clock())

    def silence(self, ask: SilenceAsk, *, actor: str) -> Silence:
        """As ``AlertDoor``."""
        at_us = self._clock()
        if not says_something(ask.matcher):
            raise _refused("a silence of everything", "name what it is for: id, where, kind, ...")
        if not at_us < ask.until_us <= at_us + LONGEST_SILENCE_US:
            raise _refused("until_us is not within the next 90 days", "us since 1970")
        if len(self._book.silences(at_us)) >= MOST_SILENCES:
            raise _refused(f"there are {MOST_SILENCES} silences", "pathgrade alerts unsilence ID ends one")
        made = Silence(
            id=secrets.token_hex(4),
            matcher=ask.matcher,
            until_us=ask.until_us,
            made_us=at_us,
            by=ask.by or actor,
            note=ask.note,
        )
        self._book.silence(made, at_us)
        self._audit.silence(actor, made.id, on=True, matcher=_words(made), note=ask.note)
        return made

    def unsilence(self, id_: str, *, actor: str) -> None:
        """As ``AlertDoor``."""
        if not self._book.unsilence(id_):
            raise AlertError(f"no silence is called {id_!r}", remedy="GET /v1/silences names them")
        self._audit.silence(actor, id_, on=False, matcher="", note="")

    def receivers(self) -> list[ReceiverStatus]:
        """As ``AlertDoor``."""
        waiting = self._book.waiting()
        nothing = Waiting(0, 0)
        return [one.status(waiting.get(one.name, nothing).notices) for one in self.couriers]

    def waiting_since_us(self) -> list[int]:
        """Since when notices wait, for each receiver that has any."""
        known = {one.name for one in self.couriers}
        return [one.oldest_us for name, one in self._book.waiting().items() if name in known]

    async def test(self, name: str, *, actor: str) -> ReceiverTest:
        """As ``AlertDoor``."""
        courier = next((one for one in self.couriers if one.name == name), None)
        if courier is None:
            known = ", ".join(one.name for one in self.couriers)
            way = f"one of: {known}" if known else "the server has none: --alerts FILE (docs/alerts.md)"
            raise AlertError(f"no receiver is called {name!r}", remedy=way)
        self._audit.test_receiver(actor, name)
        try:
            took_s = await courier.test(test_notice(self._book.tenant, self._clock(), actor))
        except DeliveryError as error:
            return ReceiverTest(receiver=name, delivered=False, error=str(error))
        return ReceiverTest(receiver=name, delivered=True, took_us=round(took_s * 1e6))

    def _wake(self) -> None:
        """Have couriers look at their queues; from any thread."""
        if self._loop is not None:
            for courier in self.couriers:
                self._loop.call_soon_threadsafe(courier.wake.set)


def test_notice(tenant: str, at_us: int, actor: str) -> Notice:
    """A notice that says of itself that it is a test."""
    alert = Alert(
        id="0" * 12,
        rule="test",
        rules_version="",
        kind="test",
        where="test",
        profile="",
        phase=Phase.OPEN,
        severity=Severity.INFO,
        title="This is a test",
        text=f"Asked for by {actor}. Nothing is wrong.",
        cannot=[],
        pairs=[],
        first_us=at_us,
        since_us=at_us,
        seen_us=at_us,
        opened_us=at_us,
    )
    return Notice(event=Event.TEST, tenant=tenant, at_us=at_us, alert=alert)


def _refused(why: str, remedy: str) -> AlertError:
    return AlertError(why, remedy=remedy, status=409)


def _words(silence: Silence) -> str:
    told = msgspec.to_builtins(silence.matcher)
    return " ".join(f"{name}={value!r}" for name, value in told.items())
