"""From a reading to a letter, or to the reason why there is none.

READ FIRST: ``grade``. The thresholds, and the samples that a statement needs, are data
(``rules/profiles.toml``); what differs between kinds of profiles is in ``kinds/``. A letter is withheld
(``?``) rather than guessed; worse input never raises one. Pure.
"""

from __future__ import annotations

from typing import Final

from analytics import words
from analytics.kinds.kind import Found
from analytics.kinds.table import kind_of
from analytics.measurement import Grade, Letter, Reading, Rung
from analytics.policy import NOT_TESTED
from analytics.rules.load import Rules

STALE: Final = "any.stale.v1"
UNREACHABLE: Final = "any.unreachable.v1"
FAILED: Final = "any.failed.v1"
TEST_MOST_US: Final = 3_600_000_000
"""No test ends later after the start of its cycle."""
NO_NUMBERS: Final = frozenset({STALE, UNREACHABLE, FAILED})
"""Rules of grades that rest on no number."""


def grade(reading: Reading, back: Reading | None, profile: str, rules: Rules, at_us: int) -> Grade:
    """Grade one directed path at a moment; ``back`` is the other direction of the same test, if known.

    Raises ``RulesError`` for an unknown profile.
    """
    wanted = rules.profile(profile)
    kind = kind_of(wanted)
    found = _without_numbers(reading, rules, at_us) or kind.grade(reading, back, wanted, rules.samples)
    return Grade(
        profile=profile,
        letter=found.letter,
        outcome=found.outcome,
        outcome_low=found.low,
        outcome_high=found.high,
        unit=kind.unit,
        reason=found.reason,
        rule=found.rule or wanted.rule,
        rules_version=rules.version,
    )


def measured_at_us(reading: Reading, at_us: int) -> int:
    """When a test ended: by the agent's clock, or by the server's cycle where that clock cannot be right."""
    begin_us = reading.cycle * 1_000_000
    if begin_us <= reading.ended_us <= at_us:
        return reading.ended_us
    return min(at_us, begin_us + max(0, reading.ended_us - reading.started_us))


def ended_us(reading: Reading) -> int:
    """When a test of the past ended: by its agent's clock where that can be right."""
    return measured_at_us(reading, reading.cycle * 1_000_000 + TEST_MOST_US)


def _without_numbers(reading: Reading, rules: Rules, at_us: int) -> Found | None:
    """Tell the cases in which no number would mean anything."""
    age_us = at_us - measured_at_us(reading, at_us)
    if age_us > rules.stale_after_s * 1_000_000:
        return Found(Letter.UNKNOWN, f"last measured {words.span(age_us)} ago", rule=STALE)
    if reading.error:
        by_policy = reading.error.startswith(NOT_TESTED)
        reason = reading.error if by_policy else f"the test broke off: {reading.error}"
        return Found(Letter.UNKNOWN, reason, rule=FAILED)
    if reading.rung is Rung.NONE:
        why = reading.rungs_failed or "no way through was found"
        return Found(Letter.UNREACHABLE, f"cannot connect: {why}", rule=UNREACHABLE)
    return None
