"""A path over time, asked of the store: readings where they are kept and few enough, else rollups."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from analytics.baseline import KEPT_US
from analytics.clock import DAY_US
from analytics.rollup import Level
from analytics.rules.load import Rules
from analytics.store.store import Store
from analytics.timeline import Span, Timeline, span_of, timeline, timeline_of_rollups

READINGS_MOST_US: Final = 8 * DAY_US
"""Longer ranges are of rollups: a month of a path that is watched has tests by the ten thousand."""
FIVE_MINUTES_MOST_US: Final = 3 * DAY_US


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which path, for which profile, when; ``step_us`` None: what fits."""

    src: str
    dst: str
    profile: str
    since_us: int
    until_us: int
    step_us: int | None = None


def timeline_of(store: Store, tenant: str, asked: Asked, rules: Rules) -> Timeline:
    """Lay a path out. Raises ``StoreError``, and ``RulesError`` for an unknown profile."""
    length_us = asked.until_us - asked.since_us
    if length_us <= READINGS_MOST_US:
        found = _of_readings(store, tenant, asked, rules)
        if any(found.columns.tests):
            return found
    found = _of_rollups(store, tenant, asked, rules, _level(length_us))
    return found if any(found.columns.tests) else _of_readings(store, tenant, asked, rules)


def _level(length_us: int) -> Level:
    """The finest rollups that a range is not too long for."""
    if length_us <= FIVE_MINUTES_MOST_US:
        return Level.FIVE_MINUTES
    return Level.HOUR if span_of(0, length_us).step_us < DAY_US else Level.DAY


def _of_readings(store: Store, tenant: str, asked: Asked, rules: Rules) -> Timeline:
    span = span_of(asked.since_us, asked.until_us, asked.step_us)
    pair = (asked.src, asked.dst)
    ask = partial(store.readings_of_path, tenant, since_us=span.since_us, until_us=span.until_us)
    return timeline(
        *pair,
        profile=asked.profile,
        span=span,
        readings=[*ask(*pair), *ask(asked.dst, asked.src)],
        past=store.past(tenant, since_us=max(0, span.since_us - KEPT_US), at_us=span.until_us, paths={pair}),
        rules=rules,
    )


def _of_rollups(store: Store, tenant: str, asked: Asked, rules: Rules, level: Level) -> Timeline:
    least_us = max(level.width_us, span_of(asked.since_us, asked.until_us, asked.step_us).step_us)
    span: Span = span_of(asked.since_us, asked.until_us, -(-least_us // level.width_us) * level.width_us)
    told = store.rollups_of_pair(
        tenant, asked.src, asked.dst, level, since_us=span.since_us, until_us=span.until_us
    )
    return timeline_of_rollups(
        asked.src, asked.dst, profile=asked.profile, span=span, made_of=level.value, rollups=told, rules=rules
    )
