"""Interaction: how long a person waits for an answer, 95 times in 100 (R95). Pure.

An interaction sends a few packets each way. If the chance that one of them is lost is below 5 %, the 95th
percentile is that of the round trip; else a loss belongs to it, and costs the sender's repair: a tail loss
probe after two smoothed round trips (RFC 8985 section 7), no sooner than the least timeout of Linux (200 ms).
"""

from __future__ import annotations

from typing import Final

from analytics import evidence, words
from analytics.evidence import Estimate
from analytics.kinds.kind import Found, Kind
from analytics.letters import CANNOT, apart, letter_within, rank
from analytics.measurement import Letter, Reading
from analytics.predict import Limit
from analytics.rules.load import InteractionProfile, Samples
from analytics.shapes import PathRow

REPAIR_LEAST_US: Final = 200_000
OFTEN: Final = 0.05
_BP: Final = 10_000


def response_us(rtt_p95_us: float, srtt_us: float, *, loss: float, loss_back: float, packets: int) -> float:
    """R95 in microseconds, for interactions of ``packets`` each way; losses are shares, 0..1."""
    disturbed = 1 - (1 - loss) ** packets * (1 - loss_back) ** packets
    if disturbed < OFTEN:
        return rtt_p95_us
    return rtt_p95_us + max(2 * srtt_us, REPAIR_LEAST_US)


def grade(reading: Reading, back: Reading | None, profile: InteractionProfile, samples: Samples) -> Found:
    """Grade R95, as far as the samples support it."""
    p95 = evidence.p95_rtt(reading, back, least_n=samples.rtt_p95_n)
    p50 = evidence.median_rtt(reading, back, least_n=samples.rtt_p95_n)
    if p95 is None or p50 is None:
        return Found(Letter.UNKNOWN, f"only {reading.rtt_n} round trips measured; {samples.rtt_p95_n} needed")
    counts = [evidence.loss_count(reading), evidence.loss_count(back or reading)]
    losses = [count.interval() for count in counts]
    value, low, high = (_at(profile, p95, p50, losses, part) for part in ("value", "low", "high"))
    best, worst = letter_within(low, profile.most_us), letter_within(high, profile.most_us)
    if (back is None or not back.sent) and rank(best) < CANNOT:
        return Found(Letter.UNKNOWN, "what is lost on the way back is not known")
    told = evidence.loss_in_words(evidence.worse_loss(reading, back))
    within, rtt = words.span(round(value)), words.ms(round(p95.value))
    reason = f"95 % of answers come within {within} ({rtt} ms round trip, {told})"
    if apart(best, worst):
        return Found(Letter.UNKNOWN, f"too few samples for a letter: {reason}", None, round(low), round(high))
    return Found(letter_within(value, profile.most_us), reason, round(value), round(low), round(high))


def _at(
    profile: InteractionProfile, p95: Estimate, p50: Estimate, losses: list[Estimate], part: str
) -> float:
    """R95 where every input is at this end of its interval."""
    loss, loss_back = (getattr(one, part) for one in losses)
    rtt_p95_us, srtt_us = getattr(p95, part), getattr(p50, part)
    return response_us(rtt_p95_us, srtt_us, loss=loss, loss_back=loss_back, packets=profile.packets)


def limits(row: PathRow, profile: InteractionProfile) -> list[Limit]:
    """As ``Kind``: loss where it costs repairs, latency where it alone exceeds what C allows."""
    slow = (row.rtt_p95_us or 0) > profile.most_us[2]
    loss, loss_back = (row.loss_bp or 0) / _BP, (row.loss_back_bp or 0) / _BP
    repairs = response_us(0, 0, loss=loss, loss_back=loss_back, packets=profile.packets) > 0
    return [Limit.LOSS] * repairs + [Limit.LATENCY] * slow


def _notes(profile: InteractionProfile) -> str:
    return (
        f"An interaction is {profile.packets} packets each way. Where at least one of them is lost in\n"
        f"{words.percent(OFTEN)} of interactions or more, a repair is part of the 95th percentile: two\n"
        f"round trips, {words.span(REPAIR_LEAST_US)} at least.\n"
    )


INTERACTION: Final[Kind[InteractionProfile]] = Kind(
    grade=grade,
    limits=limits,
    unit="us",
    written=words.span,
    steps=lambda profile: profile.most_us,
    inputs=("rtt_p95", "rtt_p50", "loss", "loss_back"),
    notes=_notes,
)
