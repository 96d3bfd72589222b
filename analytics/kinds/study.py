"""Study: how long until it is open (``analytics/predict.py``). Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from analytics import evidence, words
from analytics.evidence import Estimate, LossCount
from analytics.kinds.kind import Found, Kind
from analytics.letters import CANNOT, apart, letter_within, rank
from analytics.measurement import CapacityTrust, Letter, Reading
from analytics.predict import (
    LOSS_MATTERS,
    MODEL_ERROR_LOSSY_PERCENT,
    MODEL_ERROR_PERCENT,
    Limit,
    PathState,
    first_image_us,
    study_limit,
    study_us,
)
from analytics.rules.load import Samples, Study, StudyProfile
from analytics.shapes import PathRow
from analytics.tcp_rates import Sender

_BP: Final = 10_000


@dataclass(frozen=True, slots=True)
class _StudyInputs:
    """What the prediction needs, and what of it is missing."""

    rtt: Estimate
    count: LossCount
    loss: Estimate
    capacity_kbps: int | None
    trust: CapacityTrust
    missing: str  # why no time can be predicted; empty if one can


def grade(reading: Reading, back: Reading | None, profile: StudyProfile, samples: Samples) -> Found:
    """Grade the predicted time, as far as the inputs support it."""
    rtt = evidence.median_rtt(reading, back, least_n=samples.rtt_p50_n)
    if rtt is None:
        return Found(Letter.UNKNOWN, f"only {reading.rtt_n} round trips measured; {samples.rtt_p50_n} needed")
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


def _study_at_least(profile: StudyProfile, inputs: _StudyInputs) -> Found:
    """With an input missing the time has a lower bound only: enough to say D or F, never more."""
    least_ms, _ = _study_corners(profile, inputs)
    letter = letter_within(least_ms, profile.most_ms)
    if rank(letter) < CANNOT:
        return Found(Letter.UNKNOWN, inputs.missing, low=least_ms)
    reason = f"{_takes(profile, least_ms)} at least; {inputs.missing}"
    return Found(letter, reason, low=least_ms)


def _study_at_most(profile: StudyProfile, inputs: _StudyInputs) -> Found:
    """A capacity that is only known as at least so much gives an upper bound of the time."""
    most_ms = _study_ms(profile, inputs.rtt.value, inputs.loss.value, inputs.capacity_kbps)
    least_ms = _study_ms(profile, inputs.rtt.value, inputs.loss.value, None)
    best, worst = letter_within(least_ms, profile.most_ms), letter_within(most_ms, profile.most_ms)
    if rank(worst) >= CANNOT and best is not worst:
        told = f"the capacity is known only as at least {words.rate(inputs.capacity_kbps or 0)}"
        return Found(Letter.UNKNOWN, told, low=least_ms, high=most_ms)
    reason = f"{_takes(profile, most_ms)} at most ({_inputs_in_words(profile, inputs)})"
    return Found(worst, reason, most_ms, least_ms, most_ms)


def _study_between(profile: StudyProfile, inputs: _StudyInputs) -> Found:
    """All is measured: the letter of the expected time, if the interval supports it."""
    central_ms = _study_ms(profile, inputs.rtt.value, inputs.loss.value, inputs.capacity_kbps)
    best_ms, worst_ms = _study_corners(profile, inputs)
    if apart(letter_within(best_ms, profile.most_ms), letter_within(worst_ms, profile.most_ms)):
        between = f"between {words.span(1000 * best_ms)} and {words.span(1000 * worst_ms)}"
        why = (
            "depending on the sender's TCP" if profile.study.sender is None else "as far as the samples tell"
        )
        told = f"{between}, {why}: {_inputs_in_words(profile, inputs)}"
        return Found(Letter.UNKNOWN, told, low=best_ms, high=worst_ms)
    reason = f"{_takes(profile, central_ms)} ({_inputs_in_words(profile, inputs)})"
    return Found(letter_within(central_ms, profile.most_ms), reason, central_ms, best_ms, worst_ms)


def _study_corners(profile: StudyProfile, inputs: _StudyInputs) -> tuple[int, int]:
    """Least and most time that the inputs' intervals, either sender and the model's own error allow."""
    lossy = inputs.loss.value > LOSS_MATTERS
    error = 1 + (MODEL_ERROR_LOSSY_PERCENT if lossy else MODEL_ERROR_PERCENT) / 100
    senders = list(Sender) if profile.study.sender is None else [profile.study.sender]
    best = [_study_ms(profile, inputs.rtt.low, inputs.loss.low, inputs.capacity_kbps, s) for s in senders]
    worst = [_study_ms(profile, inputs.rtt.high, inputs.loss.high, inputs.capacity_kbps, s) for s in senders]
    return round(min(best) / error), round(max(worst) * error)


def _study_ms(
    profile: StudyProfile,
    rtt_us: float,
    loss: float,
    capacity_kbps: int | None,
    sender: Sender | None = None,
) -> int:
    """The time with this sender; else with the profile's, else with the one that most hosts have."""
    sends = sender or _sender(profile)
    return round(study_us(profile.study, PathState(rtt_us, loss, capacity_kbps), sends) / 1000)


def _sender(profile: StudyProfile) -> Sender:
    return profile.study.sender or Sender.CUBIC


def _takes(profile: StudyProfile, outcome_ms: int) -> str:
    return profile.words.outcome.format(outcome=words.span(1000 * outcome_ms))


def _inputs_in_words(profile: StudyProfile, inputs: _StudyInputs) -> str:
    """Say what the time was predicted from, how the images come, and when the first is there."""
    capacity = words.rate(inputs.capacity_kbps or 0)
    loss = evidence.loss_in_words(inputs.count)
    path = PathState(inputs.rtt.value, inputs.loss.value, inputs.capacity_kbps)
    first = words.span(first_image_us(profile.study, path, _sender(profile)))
    told = f"{words.ms(round(inputs.rtt.value))} ms round trip, {capacity}, {loss}"
    return f"{told}; {profile.study.said}, first image after {first}"


def limits(row: PathRow, profile: StudyProfile) -> list[Limit]:
    """As ``Kind``; empty without a round trip."""
    if row.rtt_p50_us is None:
        return []
    # "At least so much" is no limit: it must not be blamed.
    capacity_kbps = row.capacity_kbps if row.capacity_trust == CapacityTrust.MEASURED else None
    path = PathState(row.rtt_p50_us, (row.loss_bp or 0) / _BP, capacity_kbps)
    first = study_limit(profile.study, path)
    if first is not Limit.LOSS:
        return [first]
    clean = replace(path, loss=0)
    return [first, study_limit(profile.study, clean)] if _still_slow(clean, profile) else [first]


def _still_slow(path: PathState, profile: StudyProfile) -> bool:
    return study_us(profile.study, path, _sender(profile)) > 1000 * profile.most_ms[2]


def _notes(profile: StudyProfile) -> str:
    study = profile.study
    megabytes = study.images * study.image_bytes / 1e6
    return (
        f"The study: {study.images} images of {study.image_bytes:,} bytes ({megabytes:.0f} MB), "
        f"over {study.said}, {_order(study)}.\n"
    )


def _order(study: Study) -> str:
    if study.one_answer:
        return "in one answer"
    if study.connections == 1:
        return "one after the other on one connection"
    return f"{study.connections} at a time, each on its own connection"


STUDY: Final[Kind[StudyProfile]] = Kind(
    grade=grade,
    limits=limits,
    unit="ms",
    written=lambda ms: words.span(1000 * ms),
    steps=lambda profile: profile.most_ms,
    inputs=("rtt_p50", "loss", "capacity"),
    both_ways=False,
    notes=_notes,
)
