"""The derivation of a letter in words, section by section: for the page and for the terminal. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from analytics import words
from analytics.explain import Baseline, Corner, Detector, Explanation, HopSeen
from analytics.inputs import Input
from analytics.limit_words import LIMITS
from analytics.measurement import LegKind
from analytics.rules.load import BUILT_IN
from server.pages import text
from server.pages.fusion_words import fused_in_words

Line = tuple[str, str]
"""What, and what is known of it."""


@dataclass(frozen=True, slots=True)
class Section:
    """One step of the derivation, and the rule behind it; empty where it is a fact."""

    title: str
    rule: str
    lines: Sequence[Line]


def sections(told: Explanation) -> list[Section]:
    """Lay the derivation out in the order in which it is made; steps that say nothing are left out."""
    made = (
        Section("The test that counts", "", list(_test(told))),
        Section("What it measured", "", [_input(one) for one in told.inputs]),
        Section("What the sessions said", told.fused.rule if told.fused else "", list(_fused(told))),
        Section("What the letters ask for", told.grade.rule if told.inputs else "", list(_thresholds(told))),
        Section("The letter", told.grade.rule, list(_letter(told))),
        Section("What is usual", "", list(_baseline(told.baseline, told.grade.unit))),
        Section("Whether it became slower", told.detector.rule, list(_detector(told.detector))),
        Section("Where the time is", "", list(_legs(told))),
        Section("Which leg added it", "", list(_added(told))),
        Section("The hops behind it", "", [_hop(hop) for hop in told.hops]),
        Section("Causes it shares", "", [(finding.kind, finding.sentence) for finding in told.findings]),
    )
    return [section for section in made if section.lines]


def version(told: Explanation) -> str:
    """Say which rules, and where they stand."""
    return f"rules {told.rules_version} ({BUILT_IN.parent.name}/{BUILT_IN.name}; docs/grades.md)"


def _test(told: Explanation) -> Iterator[Line]:
    test = told.test
    yield "test", f"{test.test}, cycle {text.clock(test.cycle * 1_000_000)}"
    yield "ended", f"{text.clock(test.ended_us)}, {text.age(test.age_s)} before"
    yield "reached", text.RUNG_LONG[test.rung]
    for rung, why in text.rungs_failed(test.rungs_failed):
        yield f"not {rung}", why or "failed"
    spoiled = f", {test.spoiled} left out because the host was busy" if test.spoiled else ""
    yield "stamps", f"{test.stamps}{spoiled}"
    yield "other end", "told of the same test" if test.both_ends else "has not told of this test"
    if test.error:
        yield "broke off", test.error


def _bp(value: float) -> str:
    return words.percent(value / 10_000) if value else "0 %"


_WRITTEN: Final[dict[str, Callable[[float], str]]] = {
    "us": lambda value: words.span(round(value)),
    "bp": _bp,
    "kbit/s": lambda value: words.rate(round(value)),
}


def _input(one: Input) -> Line:
    """'260 ms (259 ms to 262 ms), of 300 samples, 10 needed, told by pacs'."""
    return one.name, ", ".join(filter(None, _of_input(one)))


def _of_input(one: Input) -> Iterator[str]:
    write = _WRITTEN[one.unit]
    if one.value is None:
        yield one.note or "not measured"
        return
    is_interval = one.low is not None and one.high is not None and one.low != one.high
    interval = f" ({write(one.low)} to {write(one.high)})" if is_interval else ""  # type: ignore[arg-type]  # both are
    yield f"at least {write(one.value)}" if one.note == "at least" else f"{write(one.value)}{interval}"
    if one.note != "at least":
        yield one.note
    if one.n and one.unit != "bp":  # a loss says its own count
        yield f"of {one.n:,} samples"
    if one.needed:
        yield f"{one.needed:,} needed{'' if one.enough else ': too few'}"
    yield f"told by {one.told_by}" if one.told_by else ""


def _fused(told: Explanation) -> Iterator[Line]:
    """What applications' own sessions measured counts before the probes' numbers."""
    if told.fused is not None:
        yield from (("", sentence) for sentence in fused_in_words(told.fused))


def _thresholds(told: Explanation) -> Iterator[Line]:
    for one in told.thresholds:
        name, written = LIMITS[one.key]
        sign = "≤" if one.key.startswith("most_") else "≥"
        yield (
            name,
            ", ".join(
                f"{letter} {sign} {written(limit)}" for letter, limit in zip("ABCD", one.limits, strict=True)
            ),
        )


def _letter(told: Explanation) -> Iterator[Line]:
    grade = told.grade
    yield from (_corner(corner, grade.unit) for corner in told.corners if corner.outcome is not None)
    yield f"{grade.letter.value}: {text.LETTER_MEANING[grade.letter]}", grade.reason
    yield "confidence", _CONFIDENCE[told.confidence]
    if told.letter_since_us is not None:
        yield "held", f"since {text.clock(told.letter_since_us)}, over the tests between cycles"
    if told.lossy_since_us is not None:
        yield "loses", f"packets since {text.clock(told.lossy_since_us)}"


_CONFIDENCE: Final = {
    "withheld": "no letter is given",
    "high": "best and worst that the samples support have the same letter",
    "low": "the samples support a letter beside it too",
}


def _corner(corner: Corner, unit: str) -> Line:
    letter = "" if corner.letter is None else f": {corner.letter.value} by itself"
    return corner.name, f"{text.outcome(corner.outcome, unit)}{letter}"


def _baseline(told: Baseline, unit: str) -> Iterator[Line]:
    if told.since_us is not None:
        yield "tests", f"{told.tests:,} over the same rung since {text.clock(told.since_us)}"
    elif told.rtt_us is None:
        yield "tests", "none before this one"
        return
    else:
        yield "tests", "summed up to the last full hour: the latest gives no reason to look closer"
    if told.rtt_us is None:
        yield "median", "not known: 30 tests over a day are needed"
        return
    hour = ", of this hour of the week" if told.of_hour else ""
    yield "median", f"{text.ms(told.rtt_us)} round trip, of {told.n:,} tests{hour}"
    yield "spread", f"{text.ms(told.spread_us)} as a standard deviation"
    if told.least_us is not None:
        yield "least", f"{text.ms(told.least_us)} round trip"
    if told.outcome is not None:
        yield "outcome", f"{text.outcome(told.outcome, unit)} before it became slower"


_STATES: Final = {
    "learning": "too little is known to tell",
    "quiet": "no",
    "slower": "yes",
}


def _detector(told: Detector) -> Iterator[Line]:
    since = f", since {text.clock(told.since_us)}" if told.since_us is not None else ""
    yield "slower", f"{_STATES[told.state]}{since}"
    if told.material_us is not None:
        yield "sum", f"{told.cusum:g} of {told.cusum_needed:g} (CUSUM)"
        more = f"{text.ms(told.material_us)} or more above the median"
        yield "in a row", f"{told.slower_in_a_row} of {told.slower_needed} tests by {more}"
    if told.earlier_changes:
        yield "earlier", f"{words.count(told.earlier_changes, 'change')} that are over"


def _legs(told: Explanation) -> Iterator[Line]:
    total_us = sum(leg.rtt_us for leg in told.legs)
    for leg in told.legs:
        share = f", {round(100 * leg.rtt_us / total_us)} %" if total_us else ""
        silent = "" if leg.measured else "; no hop answered here"
        yield leg_called(leg.kind, leg.site, told), f"{text.ms(leg.rtt_us)}{share}{silent}"


def leg_called(kind: LegKind, site: str, told: Explanation) -> str:
    """Name a leg of a path."""
    return {
        LegKind.SOURCE_HOST: f"{text.possessive(told.src)} host",
        LegKind.SOURCE_ACCESS: f"{site or told.src_site} access",
        LegKind.TRANSIT: "transit",
        LegKind.DESTINATION_ACCESS: f"{site or told.dst_site} access",
        LegKind.DESTINATION_HOST: f"{text.possessive(told.dst)} host",
    }[kind]


def _added(told: Explanation) -> Iterator[Line]:
    added = told.added
    if added is None:
        yield "none named", told.added_why
        return
    way = {"forward": f", on the way to {told.dst}", "back": f", on the way from {told.dst}"}
    more = f"{text.ms(added.added_us)} of {text.ms(added.of_us)} more than usual"
    yield leg_called(added.kind, added.site, told), f"{more}{way.get(added.direction, '')}"


def _hop(hop: HopSeen) -> Line:
    where = f"{hop.seen_from} {hop.ttl}"
    if hop.rtt_min_us is None:
        return where, "no answer"
    end = " (end)" if hop.is_end else ""
    usual = f", usually {text.ms(hop.usual_us)}" if hop.usual_us is not None else ""
    return (
        where,
        f"{hop.address}{end} least {text.ms(hop.rtt_min_us)}{usual}, {hop.answered} of {hop.sent} answered",
    )
