"""Wires what one tenant has of alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from analytics.rules.load import Rules
from server.alerts.book import Book
from server.alerts.conditions import Readings
from server.alerts.desk import AlertDesk
from server.alerts.receivers.config import AlertsConfig
from server.alerts.receivers.courier import Courier
from server.alerts.receivers.send import Sender
from server.alerts.rules import AlertRules
from server.alerts.watcher import Failures, Watcher
from server.api.core import ReportCore
from server.audit import Audit
from server.state import State


def alert_desk(
    tenant: str,
    *,
    state: State,
    core: ReportCore,
    audit: Audit,
    rules: AlertRules,
    profiles: Rules,
    config: AlertsConfig,
    own: Callable[[], Readings],
    failures: Failures,
) -> AlertDesk:
    """Make a tenant's desk, with a courier for each of its receivers; ``own`` reads the server itself."""
    book = Book(state, tenant)
    couriers = [
        Courier(book, Sender(name, receiver, config.link))
        for name, receiver in config.receivers.items()
        if receiver.tenant == tenant
    ]
    watcher = Watcher(
        book, core, rules=rules, profiles=profiles, couriers=couriers, own=own, failures=failures
    )
    return AlertDesk(book, watcher, couriers, audit)


def oldest_waiting_us(desks: Iterable[AlertDesk]) -> int | None:
    """Since when the oldest notice of all tenants waits; None where none does."""
    waiting: Sequence[int] = [us for desk in desks for us in desk.waiting_since_us()]
    return min(waiting, default=None)
