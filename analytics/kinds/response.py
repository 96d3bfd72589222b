"""Response: does it feel quick. The 95th percentile of the round trip, and loss; the worse decides. Pure."""

from __future__ import annotations

from typing import Final

from analytics import evidence, words
from analytics.kinds.kind import Found, Kind
from analytics.letters import CANNOT, apart, letter_within, rank, worse
from analytics.measurement import Letter, Reading
from analytics.predict import Limit
from analytics.rules.load import ResponseProfile, Samples
from analytics.shapes import PathRow


def grade(reading: Reading, back: Reading | None, profile: ResponseProfile, samples: Samples) -> Found:
    """Grade by the worse of round trip and loss, as far as the samples support it."""
    rtt = evidence.p95_rtt(reading, back, least_n=samples.rtt_p95_n)
    if rtt is None:
        return Found(Letter.UNKNOWN, f"only {reading.rtt_n} round trips measured; {samples.rtt_p95_n} needed")
    count = evidence.worse_loss(reading, back)
    loss = count.interval()
    if (back is None or not back.sent) and rank(_letter(profile, rtt.low, loss.low)) < CANNOT:
        return Found(Letter.UNKNOWN, "what is lost on the way back is not known")
    best = _letter(profile, rtt.low, loss.low)
    worst = _letter(profile, rtt.high, loss.high)
    told = f"95 % of round trips are under {words.ms(round(rtt.value))} ms, {evidence.loss_in_words(count)}"
    bounds = (round(rtt.low), round(rtt.high))
    if apart(best, worst):
        return Found(Letter.UNKNOWN, f"too few samples for a letter: {told}", None, *bounds)
    letter = _letter(profile, rtt.value, loss.value)
    return Found(letter, told, round(rtt.value), *bounds, letters=(best, worst))


def _letter(profile: ResponseProfile, rtt_us: float, loss: float) -> Letter:
    return worse(
        letter_within(rtt_us, profile.most_rtt_p95_us), letter_within(10_000 * loss, profile.most_loss_bp)
    )


def limits(row: PathRow, profile: ResponseProfile) -> list[Limit]:
    """As ``Kind``: whichever exceeds what C allows."""
    slow = (row.rtt_p95_us or 0) > profile.most_rtt_p95_us[2]
    lossy = row.worse_loss_bp > profile.most_loss_bp[2]
    return [Limit.LOSS] * lossy + [Limit.LATENCY] * slow


RESPONSE: Final[Kind[ResponseProfile]] = Kind(
    grade=grade,
    limits=limits,
    unit="us",
    written=words.span,
    steps=lambda profile: profile.most_rtt_p95_us,
    inputs=("rtt_p95", "loss_worse"),
    outcome_is_all=False,
    notes=lambda _: "The letter is the worse of the two.\n",
)
