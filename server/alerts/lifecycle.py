"""How alerts begin, last and end: the alerts of before and what is seen now, to the alerts of now. Pure.

READ FIRST: ``after``.

- An alert opens when its cause has been seen for the rule's hold time. Time in which it is not seen counts
  back, so that one that flaps opens when it has been there more often than not, and one blip opens nothing.
- It closes when its cause has not been seen for the rule's quiet time on end: flapping keeps it open.
- What is not known is not gone: time in which nothing is known of its paths counts neither way, for a day.
- One cause that is named otherwise for a while (the uplink, then the way between two sites) stays one alert:
  a condition of the same rule and profile that explains mostly the same paths goes on with it.
- Time counts from look to look, and no step for more than ``MOST_STEP_US``: a server that was down makes no
  alert older than what was seen of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from server.alerts.conditions import Look, knows
from server.alerts.model import Alert, Condition, Event, Phase, Severity
from server.alerts.rules import AlertRules, Rule

MOST_STEP_US: Final = 60_000_000
"""A look every ten seconds or so; after a longer pause nobody knows what was in between."""
GONE, NOT_KNOWN, NO_RULE = "gone", "not known any more", "its rule is gone"


class Step(NamedTuple):
    """What one look makes of the alerts."""

    alerts: list[Alert]  # pending, open, and those that closed just now
    dropped: list[Alert]  # pending ones that came to nothing


def after(
    alerts: Sequence[Alert], seen: Sequence[Condition], rules: AlertRules, look: Look, *, elapsed_us: int
) -> Step:
    """Take one look in; ``elapsed_us`` since the look before, 0 at the first.

    ``alerts``: all that are pending or open. The order of neither list matters.
    """
    step_us = min(max(0, elapsed_us), MOST_STEP_US)
    found = _matched(alerts, seen)
    kept: list[Alert] = []
    dropped: list[Alert] = []
    for alert in alerts:
        made = _next(alert, found.get(alert.id), rules.enabled.get(alert.rule), look, step_us)
        (dropped if made is None else kept).append(alert if made is None else made)
    taken = {id(condition) for condition in found.values()}
    fresh = [_begun(one, rules, look.at_us) for one in seen if id(one) not in taken]
    return Step([*kept, *fresh], dropped)


def _next(
    alert: Alert, condition: Condition | None, rule: Rule | None, look: Look, step_us: int
) -> Alert | None:
    """One alert a look later; None where it came to nothing."""
    if rule is None:
        return None if alert.phase is Phase.PENDING else _closed(alert, look.at_us, NO_RULE)
    if condition is not None:
        return _seen(alert, condition, rule, look.at_us, step_us)
    return _unseen(alert, rule, look.at_us, step_us, known=knows(alert, look))


def _begun(condition: Condition, rules: AlertRules, at_us: int) -> Alert:
    """A new alert; it opens at once where the rule holds nothing back."""
    cause, rule = condition.cause, rules.enabled[condition.cause.rule]
    alert = Alert(
        id=cause.id,
        **cause._asdict(),
        rules_version=rules.version,
        phase=Phase.PENDING,
        severity=condition.severity,
        title=condition.title,
        text=condition.text,
        cannot=list(condition.cannot),
        agents=list(condition.agents),
        pairs=list(condition.pairs),
        first_us=at_us,
        since_us=at_us if condition.since_us is None else min(at_us, condition.since_us),
        seen_us=at_us,
    )
    return _opened_if_due(alert, rule, at_us)


def _seen(alert: Alert, condition: Condition, rule: Rule, at_us: int, step_us: int) -> Alert:
    since = alert.since_us if condition.since_us is None else min(alert.since_us, condition.since_us)
    fresh = msgspec.structs.replace(
        alert,
        severity=max(alert.severity, condition.severity, key=lambda one: one.rank)
        if alert.phase is Phase.OPEN
        else condition.severity,
        title=condition.title,
        text=condition.text,
        cannot=list(condition.cannot),
        agents=list(condition.agents),
        pairs=list(condition.pairs),
        since_us=since,
        seen_us=at_us,
        held_us=alert.held_us + step_us * (alert.phase is Phase.PENDING),
        quiet_us=0,
        known=True,
    )
    return _opened_if_due(fresh, rule, at_us)


def _opened_if_due(alert: Alert, rule: Rule, at_us: int) -> Alert:
    if alert.phase is not Phase.PENDING or alert.held_us < rule.hold_us(alert.severity):
        return alert
    return msgspec.structs.replace(alert, phase=Phase.OPEN, opened_us=at_us)


def _unseen(alert: Alert, rule: Rule, at_us: int, step_us: int, *, known: bool) -> Alert | None:
    if alert.phase is Phase.PENDING:
        left_us = alert.held_us - step_us
        return msgspec.structs.replace(alert, held_us=left_us) if left_us > 0 else None
    if not known:
        fresh = msgspec.structs.replace(alert, known=False)
        forgotten = at_us - alert.seen_us >= rule.forget_s * 1_000_000
        return _closed(fresh, at_us, NOT_KNOWN) if forgotten else fresh
    fresh = msgspec.structs.replace(alert, quiet_us=alert.quiet_us + step_us, known=True)
    return _closed(fresh, at_us, GONE) if fresh.quiet_us >= rule.quiet_s * 1_000_000 else fresh


def _closed(alert: Alert, at_us: int, why: str) -> Alert:
    return msgspec.structs.replace(alert, phase=Phase.CLOSED, closed_us=at_us, closed_why=why)


# --- the same cause by another name -------------------------------------------------------------------------


def _matched(alerts: Sequence[Alert], seen: Sequence[Condition]) -> dict[str, Condition]:
    """Which condition each alert goes on with, by the alert's id: its own cause, else mostly its paths."""
    by_id = {condition.cause.id: condition for condition in seen}
    found = {alert.id: by_id[alert.id] for alert in alerts if alert.id in by_id}
    left = [condition for condition in seen if condition.cause.id not in found]
    waiting = sorted((a for a in alerts if a.id not in found), key=lambda a: (a.phase.value, a.first_us))
    for alert in waiting:
        other = next((one for one in left if _is_same(alert, one)), None)
        if other is not None:
            found[alert.id] = other
            left.remove(other)
    return found


def _is_same(alert: Alert, condition: Condition) -> bool:
    """Whether most of what either explains is explained by both."""
    if (alert.rule, alert.profile) != (condition.cause.rule, condition.cause.profile):
        return False
    ours, theirs = {(src, dst) for src, dst in alert.pairs}, set(condition.pairs)
    both = len(ours & theirs)
    return both > 0 and 2 * both >= max(len(ours), len(theirs))


# --- who is told --------------------------------------------------------------------------------------------


class Telling(NamedTuple):
    """An event that receivers are to be told, and the alert once they are."""

    event: Event
    alert: Alert
    before: Severity | None = None


def telling(alert: Alert, *, silenced: bool) -> Telling | None:
    """What is to be told of an alert now; None where nothing is new, or nobody is to hear of it.

    The end of what was told is always told.
    """
    if alert.phase is Phase.CLOSED:
        return Telling(Event.CLOSED, alert) if alert.told is not None else None
    if alert.phase is Phase.PENDING or silenced:
        return None
    told = msgspec.structs.replace(alert, told=alert.severity)
    if alert.told is None:
        return Telling(Event.OPENED, told)
    if alert.severity.rank > alert.told.rank:
        return Telling(Event.WORSE, told, before=alert.told)
    return None


def worst_first(alerts: Collection[Alert]) -> list[Alert]:
    """Open before pending before closed, the worst first, then the newest."""
    order: Callable[[Alert], tuple[int, int, int]] = lambda one: (  # noqa: E731  # named for what it does
        _PHASES[one.phase],
        -one.severity.rank,
        -(one.closed_us or one.opened_us or one.first_us),
    )
    return sorted(alerts, key=order)


_PHASES: Final[Mapping[Phase, int]] = {Phase.OPEN: 0, Phase.PENDING: 1, Phase.CLOSED: 2}
