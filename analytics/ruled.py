"""Readings of pairs that a policy bars: they say so, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import TypeVar

from analytics.measurement import Reading, Rung
from analytics.policy import NOT_TESTED, Action, Judged

Pair = tuple[str, str]
T = TypeVar("T")


def with_policy(
    readings: Sequence[Reading], policy: Judged, names: Iterable[str], *, tenant: str, at_us: int
) -> list[Reading]:
    """Put a reading that names the rule in place of, or beside, those of the pairs of some agents."""
    if not any(rule.action is Action.DENY for rule in policy.rules):
        return [*readings]
    told = {
        pair: not_tested(pair, rule, tenant=tenant, at_us=at_us)
        for pair in permutations(sorted(names), 2)
        if (rule := policy.bars(*pair))
    }
    return [*(one for one in readings if (one.src, one.dst) not in told), *told.values()]


def ruled(
    readings: Mapping[Pair, Reading], policy: Judged, *, tenant: str, at_us: int
) -> dict[Pair, Reading]:
    """The same for readings by pair, where no other pair is to be told of."""
    return {
        pair: not_tested(pair, rule, tenant=tenant, at_us=at_us) if (rule := policy.bars(*pair)) else reading
        for pair, reading in readings.items()
    }


def allowed(told: Mapping[Pair, T], policy: Judged) -> Mapping[Pair, T]:
    """Leave out what is told of pairs that are barred."""
    if not policy.rules:
        return told
    return {pair: one for pair, one in told.items() if not policy.bars(*pair)}


def not_tested(pair: Pair, rule: str, *, tenant: str, at_us: int) -> Reading:
    """A reading of a path that has no test: of now, so that it is not called old."""
    return Reading(
        tenant=tenant,
        cycle=at_us // 1_000_000,
        test="",
        src=pair[0],
        dst=pair[1],
        started_us=at_us,
        ended_us=at_us,
        rung=Rung.NONE,
        error=f"{NOT_TESTED} by policy {rule}",
    )
