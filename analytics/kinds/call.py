"""Call: how a conversation with picture would be (E-model R, ITU-T G.107), capped by loss and by rate. Pure.

Mouth to ear: half a round trip, as long as clocks do not tell the ways apart; coding and packets; and the
buffer that the receiver needs against jitter. The loss is that of the worse direction: both talk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from analytics import emodel, evidence, words
from analytics.emodel import Codec, Talk
from analytics.evidence import Estimate
from analytics.kinds.kind import Found, Kind
from analytics.letters import LETTERS, apart, letter_above, worse
from analytics.measurement import CapacityTrust, Letter, Reading
from analytics.predict import Limit
from analytics.rules.load import CallProfile, Samples
from analytics.shapes import PathRow

CODING_MS: Final = 40.0  # coding and packetisation
BUFFER_LEAST_MS, BUFFER_MOST_MS = 20.0, 200.0
_BP: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Way:
    """What a call meets."""

    rtt_us: float
    jitter_us: float  # by which one round trip in twenty exceeds the median
    loss: float  # of the worse direction
    capacity_kbps: float | None  # None = no limit is known


def rating(profile: CallProfile, *, rtt_us: float, jitter_us: float, loss: float) -> float:
    """R of a call over such a path."""
    buffer_ms = min(BUFFER_MOST_MS, max(BUFFER_LEAST_MS, 2 * jitter_us / 1000))
    return emodel.rating(
        Talk(
            delay_ms=rtt_us / 2000 + CODING_MS + buffer_ms,
            loss_percent=100 * loss,
            codec=Codec(impairment=profile.codec_impairment, robustness=profile.codec_robustness),
        )
    )


def grade(reading: Reading, back: Reading | None, profile: CallProfile, samples: Samples) -> Found:
    """Grade R, as far as the samples of both directions support it."""
    missing = next(_missing(reading, back, samples), "")
    if missing:
        return Found(Letter.UNKNOWN, missing)
    count = evidence.worse_loss(reading, back)
    ways = {part: _way(reading, back, samples, part) for part in ("value", "low", "high")}
    scores = {part: _score(profile, way) for part, way in ways.items()}
    best, letter, worst = (_letter(profile, ways[part]) for part in ("low", "value", "high"))
    told = (
        f"R {scores['value']} of 93, MOS {emodel.mos(scores['value']):.1f} "
        f"({words.ms(round(ways['value'].rtt_us))} ms round trip, {evidence.loss_in_words(count)})"
    )
    bounds = (scores["high"], scores["low"])
    if apart(best, worst):
        return Found(Letter.UNKNOWN, f"too few samples for a letter: {told}", None, *bounds)
    return Found(letter, told, scores["value"], *bounds, letters=(best, worst))


def _missing(reading: Reading, back: Reading | None, samples: Samples) -> Iterator[str]:
    if back is None or not back.sent:
        yield "what is lost on the way back is not known"
    p50 = evidence.median_rtt(reading, back, least_n=samples.rtt_p50_n)
    if p50 is None or evidence.p95_rtt(reading, back, least_n=samples.rtt_p95_n) is None:
        yield f"only {reading.rtt_n} round trips measured; {samples.rtt_p95_n} needed"
    if evidence.likely_loss(evidence.worse_loss(reading, back), least_n=samples.loss_n) is None:
        yield f"only {reading.sent} probes; {samples.loss_n} needed to exclude loss"


def _way(reading: Reading, back: Reading | None, samples: Samples, part: str) -> _Way:
    """The path with every input at this end of its interval."""
    p50 = evidence.median_rtt(reading, back, least_n=samples.rtt_p50_n)
    p95 = evidence.p95_rtt(reading, back, least_n=samples.rtt_p95_n)
    loss = evidence.likely_loss(evidence.worse_loss(reading, back), least_n=samples.loss_n)
    assert p50 is not None
    assert p95 is not None
    assert loss is not None
    jitter_us = _part(_jitter(p50, p95), part)
    return _Way(_part(p50, part), jitter_us, _part(loss, part), _capacity_kbps(reading, back))


def _jitter(p50: Estimate, p95: Estimate) -> Estimate:
    """By how much the 95th percentile exceeds the median: a difference is least with the greatest median."""
    return Estimate(
        max(0.0, p95.value - p50.value), max(0.0, p95.low - p50.high), max(0.0, p95.high - p50.low)
    )


def _part(estimate: Estimate, part: str) -> float:
    return float(getattr(estimate, part))


def _capacity_kbps(reading: Reading, back: Reading | None) -> float | None:
    """The lesser rate of the two ways; "at least so much" limits nothing."""
    known = [
        end.capacity_kbps
        for end in (reading, back)
        if end is not None and end.capacity_kbps is not None and end.capacity_trust is CapacityTrust.MEASURED
    ]
    return min(known, default=None)


def _score(profile: CallProfile, way: _Way) -> int:
    return max(0, round(rating(profile, rtt_us=way.rtt_us, jitter_us=way.jitter_us, loss=way.loss)))


def _letter(profile: CallProfile, way: _Way) -> Letter:
    rate = LETTERS[0] if way.capacity_kbps is None else letter_above(way.capacity_kbps, profile.least_kbps)
    by_loss = [cap.letter for cap in profile.loss_caps if way.loss * _BP > cap.above_bp]
    return worse(letter_above(_score(profile, way), profile.least_r), rate, *by_loss)


def limits(row: PathRow, profile: CallProfile) -> list[Limit]:
    """As ``Kind``: the rate where it caps the letter, then loss and latency by what each takes from R."""
    rtt_us, loss = row.rtt_p50_us or 0, row.worse_loss_bp / _BP
    jitter_us = max(0, (row.rtt_p95_us or 0) - rtt_us)
    limited = (
        row.capacity_trust == CapacityTrust.MEASURED and (row.capacity_kbps or 0) < profile.least_kbps[2]
    )
    whole = rating(profile, rtt_us=rtt_us, jitter_us=jitter_us, loss=loss)
    gains = {
        Limit.LOSS: rating(profile, rtt_us=rtt_us, jitter_us=jitter_us, loss=0) - whole,
        Limit.LATENCY: rating(profile, rtt_us=0, jitter_us=0, loss=loss) - whole,
    }
    by_gain = sorted(gains, key=lambda limit: -gains[limit])
    return [Limit.CAPACITY] * limited + [
        limit for limit in by_gain if 2 * gains[limit] >= max(gains.values()) > 0
    ]


def _notes(profile: CallProfile) -> str:
    caps = ", ".join(f"{words.percent(cap.above_bp / _BP)} at most {cap.letter}" for cap in profile.loss_caps)
    buffer = f"{BUFFER_LEAST_MS:.0f} to {BUFFER_MOST_MS:.0f} ms"
    return (
        f"R is the E-model's (ITU-T G.107, all terms). Mouth to ear counts half a round trip,\n"
        f"{CODING_MS:.0f} ms of coding and packets, and twice the jitter as a buffer ({buffer}).\n"
        f"Loss is that of the worse direction: above {caps}.\n"
        'A measured rate counts; one known as "at least" limits nothing.\n'
    )


CALL: Final[Kind[CallProfile]] = Kind(
    grade=grade,
    limits=limits,
    unit="R",
    written=lambda r: f"{emodel.mos(r):.1f} of 4.5",
    steps=lambda profile: profile.least_r,
    inputs=("rtt_p50", "rtt_p95", "loss_worse", "capacity_lesser"),
    outcome_is_all=False,
    higher_is_better=True,
    notes=_notes,
)
