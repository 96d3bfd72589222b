"""Objective: how near a path comes to what was agreed for it (Quality of Outcome). Pure."""

from __future__ import annotations

from typing import Final

from analytics import evidence, qoo, words
from analytics.kinds.kind import Found, Kind
from analytics.letters import apart, letter_above
from analytics.measurement import Letter, Reading
from analytics.predict import Limit
from analytics.qoo import Measured, Requirement
from analytics.rules.load import ObjectiveProfile, Samples
from analytics.shapes import PathRow

_BP: Final = 10_000
_AT: Final = 99  # percentile


def score(profile: ObjectiveProfile, *, rtt_p99_us: float, loss: float) -> int:
    """Quality of Outcome, 0 to 100, rounded."""
    need = Requirement(
        latency={_AT: (profile.perfect_rtt_p99_us, profile.useless_rtt_p99_us)},
        loss=(profile.perfect_loss_bp / _BP, profile.useless_loss_bp / _BP),
    )
    return round(qoo.score(need, Measured(latency={_AT: rtt_p99_us}, loss=loss)))


def grade(reading: Reading, back: Reading | None, profile: ObjectiveProfile, samples: Samples) -> Found:
    """Grade the score, as far as the samples of both directions support it."""
    p99 = evidence.p99_rtt(reading, back, least_n=samples.rtt_p99_n)
    if p99 is None:
        return Found(Letter.UNKNOWN, f"only {reading.rtt_n} round trips measured; {samples.rtt_p99_n} needed")
    if back is None or not back.sent:
        return Found(Letter.UNKNOWN, "what is lost on the way back is not known")
    count = evidence.worse_loss(reading, back)
    loss = evidence.likely_loss(count, least_n=samples.loss_n)
    if loss is None:
        return Found(Letter.UNKNOWN, f"only {count.sent} probes; {samples.loss_n} needed to exclude loss")
    high, value, low = (
        score(profile, rtt_p99_us=getattr(p99, part), loss=getattr(loss, part))
        for part in ("low", "value", "high")
    )
    told = (
        f"QoO {value} of 100: 99 % of round trips are under {words.ms(round(p99.value))} ms, "
        f"{evidence.loss_in_words(count)}"
    )
    if apart(letter_above(high, profile.least_score), letter_above(low, profile.least_score)):
        return Found(Letter.UNKNOWN, f"too few samples for a letter: {told}", None, low, high)
    return Found(letter_above(value, profile.least_score), told, value, low, high)


def limits(row: PathRow, profile: ObjectiveProfile) -> list[Limit]:
    """As ``Kind``: each dimension that is beyond what is useful to C."""
    least = profile.least_score[2]
    slow = score(profile, rtt_p99_us=row.rtt_p95_us or 0, loss=0) < least
    lossy = score(profile, rtt_p99_us=0, loss=row.worse_loss_bp / _BP) < least
    return [Limit.LOSS] * lossy + [Limit.LATENCY] * slow


def _notes(profile: ObjectiveProfile) -> str:
    perfect = f"{words.span(profile.perfect_rtt_p99_us)} and {words.percent(profile.perfect_loss_bp / _BP)}"
    useless = f"{words.span(profile.useless_rtt_p99_us)} or {words.percent(profile.useless_loss_bp / _BP)}"
    return (
        f"The score is 100 where 99 % of round trips are under {perfect} is lost, 0 from\n"
        f"{useless} on, and falls in a straight line between; the worse of the two counts\n"
        f"(draft-ietf-ippm-qoo). There is no standard for it: put what you agreed into a rules file of your\n"
        f"own.\n"
    )


OBJECTIVE: Final[Kind[ObjectiveProfile]] = Kind(
    grade=grade,
    limits=limits,
    unit="QoO",
    written=lambda value: f"{value} of 100",
    steps=lambda profile: profile.least_score,
    inputs=("rtt_p99", "loss_worse"),
    higher_is_better=True,
    notes=_notes,
)
