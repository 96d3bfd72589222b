"""From a reading to a letter, or to the reason why there is none.

READ FIRST: ``grade``. The thresholds, and the samples that a statement needs, are data
(``rules/profiles.toml``). A letter is withheld (``?``) rather than guessed; worse input never raises one.
Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from analytics import evidence, words
from analytics.evidence import Estimate, LossCount
from analytics.measurement import CapacityTrust, Grade, Letter, Reading, Rung
from analytics.predict import (
    LOSS_MATTERS,
    MODEL_ERROR_LOSSY_PERCENT,
    MODEL_ERROR_PERCENT,
    PathState,
    Sender,
    study_us,
)
from analytics.rules.load import Profile, ResponseProfile, Rules, Samples, StudyProfile

LETTERS: Final = (Letter.A, Letter.B, Letter.C, Letter.D, Letter.F)
APART: Final = 2
"""Letters between what the inputs support at best and at worst: so many, and no letter is given."""
CANNOT: Final = LETTERS.index(Letter.D)
"""From this letter on, people cannot work."""

STALE: Final = "any.stale.v1"
UNREACHABLE: Final = "any.unreachable.v1"
FAILED: Final = "any.failed.v1"


@dataclass(frozen=True, slots=True)
class _Found:
    """A grade without the names that every grade carries."""

    letter: Letter
    reason: str
    outcome: int | None = None
    low: int | None = None
    high: int | None = None
    rule: str = ""


def grade(reading: Reading, back: Reading | None, profile: str, rules: Rules, at_us: int) -> Grade:
    """Grade one directed path at a moment; ``back`` is the other direction of the same test, if known.

    Raises ``RulesError`` for an unknown profile.
    """
    wanted = rules.profile(profile)
    found = _without_numbers(reading, rules, at_us) or _GRADERS[type(wanted)](
        reading, back, wanted, rules.samples
    )
    return Grade(
        profile=profile,
        letter=found.letter,
        outcome=found.outcome,
        outcome_low=found.low,
        outcome_high=found.high,
        unit=_UNITS[type(wanted)],
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


def rank(letter: Letter) -> int:
    """0 for A ... 4 for F and X; only for letters that were given."""
    return LETTERS.index(Letter.F if letter is Letter.UNREACHABLE else letter)


def _without_numbers(reading: Reading, rules: Rules, at_us: int) -> _Found | None:
    """Tell the cases in which no number would mean anything."""
    age_us = at_us - measured_at_us(reading, at_us)
    if age_us > rules.stale_after_s * 1_000_000:
        return _Found(Letter.UNKNOWN, f"last measured {words.span(age_us)} ago", rule=STALE)
    if reading.error:
        return _Found(Letter.UNKNOWN, f"the test broke off: {reading.error}", rule=FAILED)
    if reading.rung is Rung.NONE:
        why = reading.rungs_failed or "no way through was found"
        return _Found(Letter.UNREACHABLE, f"cannot connect: {why}", rule=UNREACHABLE)
    return None


def letter_within(value: float, limits: Sequence[int]) -> Letter:
    """The first letter whose limit holds the value."""
    return next((letter for letter, most in zip(LETTERS, limits, strict=False) if value <= most), Letter.F)


def apart(best: Letter, worst: Letter) -> bool:
    """True where two letters are so far from each other that neither may be given."""
    return rank(worst) - rank(best) >= APART


# --- study: how long until it is open ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _StudyInputs:
    """What the prediction needs, and what of it is missing."""

    rtt: Estimate
    count: LossCount
    loss: Estimate
    capacity_kbps: int | None
    trust: CapacityTrust
    missing: str  # why no time can be predicted; empty if one can


def _grade_study(reading: Reading, back: Reading | None, profile: StudyProfile, samples: Samples) -> _Found:
    rtt = evidence.median_rtt(reading, back, least_n=samples.rtt_p50_n)
    if rtt is None:
        return _Found(
            Letter.UNKNOWN, f"only {reading.rtt_n} round trips measured; {samples.rtt_p50_n} needed"
        )
    inputs = _study_inputs(reading, rtt, samples)
    if inputs.missing:
        return _study_at_least(profile, inputs)
    if inputs.trust is CapacityTrust.AT_LEAST:
        return _study_at_most(profile, inputs)
    return _study_between(profile, inputs)


def _study_inputs(reading: Reading, rtt: Estimate, samples: Samples) -> _StudyInputs:
    """Gather the inputs. No loss in enough probes counts as none; a loss that was seen has its interval."""
    count = evidence.loss_count(reading)
    too_few = not count.lost and count.sent < samples.loss_n
    loss = count.interval() if count.lost else Estimate(0.0, 0.0, 0.0)
    capacity = None if reading.capacity_trust is CapacityTrust.NONE else reading.capacity_kbps
    missing = [
        *(["the capacity could not be measured"] if capacity is None else []),
        *([f"only {count.sent} probes; {samples.loss_n} needed to exclude loss"] if too_few else []),
    ]
    return _StudyInputs(rtt, count, loss, capacity, reading.capacity_trust, " and ".join(missing))


def _study_at_least(profile: StudyProfile, inputs: _StudyInputs) -> _Found:
    """With an input missing the time has a lower bound only: enough to say D or F, never more."""
    least_ms = _study_ms(profile, inputs.rtt.value, inputs.loss.value, inputs.capacity_kbps)
    letter = letter_within(least_ms, profile.most_ms)
    if rank(letter) < CANNOT:
        return _Found(Letter.UNKNOWN, inputs.missing, low=least_ms)
    reason = f"{_takes(profile, least_ms)} at least; {inputs.missing}"
    return _Found(letter, reason, low=least_ms)


def _study_at_most(profile: StudyProfile, inputs: _StudyInputs) -> _Found:
    """A capacity that is only known as at least so much gives an upper bound of the time."""
    most_ms = _study_ms(profile, inputs.rtt.value, inputs.loss.value, inputs.capacity_kbps)
    least_ms = _study_ms(profile, inputs.rtt.value, inputs.loss.value, None)
    best, worst = letter_within(least_ms, profile.most_ms), letter_within(most_ms, profile.most_ms)
    if rank(worst) >= CANNOT and best is not worst:
        told = f"the capacity is known only as at least {words.rate(inputs.capacity_kbps or 0)}"
        return _Found(Letter.UNKNOWN, told, low=least_ms, high=most_ms)
    reason = f"{_takes(profile, most_ms)} at most ({_inputs_in_words(inputs)})"
    return _Found(worst, reason, most_ms, least_ms, most_ms)


def _study_between(profile: StudyProfile, inputs: _StudyInputs) -> _Found:
    """All is measured: the letter of the expected time, if the interval supports it."""
    central_ms = _study_ms(profile, inputs.rtt.value, inputs.loss.value, inputs.capacity_kbps)
    best_ms, worst_ms = _study_corners(profile, inputs)
    if apart(letter_within(best_ms, profile.most_ms), letter_within(worst_ms, profile.most_ms)):
        between = f"between {words.span(1000 * best_ms)} and {words.span(1000 * worst_ms)}"
        told = f"{between}, depending on the sender's TCP: {_inputs_in_words(inputs)}"
        return _Found(Letter.UNKNOWN, told, low=best_ms, high=worst_ms)
    reason = f"{_takes(profile, central_ms)} ({_inputs_in_words(inputs)})"
    return _Found(letter_within(central_ms, profile.most_ms), reason, central_ms, best_ms, worst_ms)


def _study_corners(profile: StudyProfile, inputs: _StudyInputs) -> tuple[int, int]:
    """Least and most time that the inputs' intervals, either sender and the model's own error allow."""
    lossy = inputs.loss.value > LOSS_MATTERS
    error = 1 + (MODEL_ERROR_LOSSY_PERCENT if lossy else MODEL_ERROR_PERCENT) / 100
    best = [_study_ms(profile, inputs.rtt.low, inputs.loss.low, inputs.capacity_kbps, s) for s in Sender]
    worst = [_study_ms(profile, inputs.rtt.high, inputs.loss.high, inputs.capacity_kbps, s) for s in Sender]
    return round(min(best) / error), round(max(worst) * error)


def _study_ms(
    profile: StudyProfile,
    rtt_us: float,
    loss: float,
    capacity_kbps: int | None,
    sender: Sender = Sender.CUBIC,
) -> int:
    return round(study_us(profile.study, PathState(rtt_us, loss, capacity_kbps), sender) / 1000)


def _takes(profile: Profile, outcome_ms: int) -> str:
    return profile.words.outcome.format(time=words.span(1000 * outcome_ms))


def _inputs_in_words(inputs: _StudyInputs) -> str:
    capacity = words.rate(inputs.capacity_kbps or 0)
    return f"{words.ms(round(inputs.rtt.value))} ms round trip, {capacity}, {_loss_in_words(inputs.count)}"


def _loss_in_words(count: LossCount) -> str:
    return f"{count.lost or 'none'} of {count.sent} packets lost"


# --- response: does it feel quick -------------------------------------------------------------------------


def _grade_response(
    reading: Reading, back: Reading | None, profile: ResponseProfile, samples: Samples
) -> _Found:
    rtt = evidence.p95_rtt(reading, back, least_n=samples.rtt_p95_n)
    if rtt is None:
        return _Found(
            Letter.UNKNOWN, f"only {reading.rtt_n} round trips measured; {samples.rtt_p95_n} needed"
        )
    count = _worse_loss(reading, back)
    loss = count.interval()
    if (back is None or not back.sent) and rank(_response_letter(profile, rtt.low, loss.low)) < CANNOT:
        return _Found(Letter.UNKNOWN, "what is lost on the way back is not known")
    best = _response_letter(profile, rtt.low, loss.low)
    worst = _response_letter(profile, rtt.high, loss.high)
    told = f"95 % of round trips are under {words.ms(round(rtt.value))} ms, {_loss_in_words(count)}"
    bounds = (round(rtt.low), round(rtt.high))
    if apart(best, worst):
        return _Found(Letter.UNKNOWN, f"too few samples for a letter: {told}", None, *bounds)
    return _Found(_response_letter(profile, rtt.value, loss.value), told, round(rtt.value), *bounds)


def _worse_loss(reading: Reading, back: Reading | None) -> LossCount:
    """The direction that loses more: a request needs its answer."""
    counts = [evidence.loss_count(end) for end in (reading, back) if end is not None and end.sent]
    return max(counts, key=lambda count: count.share, default=LossCount(0, 0))


def _response_letter(profile: ResponseProfile, rtt_us: float, loss: float) -> Letter:
    letters = (
        letter_within(rtt_us, profile.most_rtt_p95_us),
        letter_within(10_000 * loss, profile.most_loss_bp),
    )
    return max(letters, key=rank)


_GRADERS: Final[dict[type, Callable[[Reading, Reading | None, Any, Samples], _Found]]] = {
    StudyProfile: _grade_study,
    ResponseProfile: _grade_response,
}
_UNITS: Final[dict[type, str]] = {StudyProfile: "ms", ResponseProfile: "us"}
