"""What a look needs of a tenant's report: the only place where alerts and metrics ask ``ReportCore``.

Of a large fleet all of it is kept ready (``server.core``); nothing here goes through paths one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from analytics.measurement import Letter
from analytics.overview import MatrixCells, Metric, Overview
from analytics.rules.load import Rules
from analytics.shapes import Member
from server.alerts.conditions import Judged
from server.alerts.model import Pair
from server.alerts.rules import AloneRule, CauseRule, Rule
from server.api.core import DEFAULT_PROFILE, ReportCore


class Seen(NamedTuple):
    """One profile's report at a moment."""

    overview: Overview
    letters: MatrixCells


def seen(core: ReportCore, profiles: Iterable[str]) -> dict[str, Seen]:
    """Look at the report of each profile; may take a while."""
    return {name: Seen(core.overview(name), core.matrix(name, Metric.LETTER)) for name in profiles}


def judged(of: Seen, rules: Rules) -> Judged:
    """What the rules of alerts need of it."""
    profile = of.overview.profile
    return Judged(
        profile=profile,
        able=rules.profile(profile).words.able,
        members=of.overview.members,
        findings=of.overview.findings,
        letter_of=letter_of(of.letters),
    )


def letter_of(cells: MatrixCells) -> Callable[[Pair], Letter | None]:
    """Find a path's letter in a packed matrix; None where it was never tested."""
    place, size = {name: at for at, name in enumerate(cells.agents)}, len(cells.agents)

    def find(pair: Pair) -> Letter | None:
        row, column = place.get(pair[0]), place.get(pair[1])
        if row is None or column is None:
            return None
        return _LETTERS.get(cells.cells[row * size + column])

    return find


_LETTERS: Mapping[int, Letter] = {ord(letter.value): letter for letter in Letter}


def profiles_of(members: Iterable[Member], rules: Iterable[Rule], known: Iterable[str]) -> list[str]:
    """Which profiles are looked at: those of the fleet's services, or the default, and those rules name."""
    there = set(known)
    used = {service.profile for member in members for service in member.services} & there
    named = {name for rule in rules if isinstance(rule, CauseRule | AloneRule) for name in rule.profiles}
    return sorted((used or {DEFAULT_PROFILE} & there) | (named & there))
