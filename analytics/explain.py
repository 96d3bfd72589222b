"""The whole derivation of one path's letter: facts, thresholds, what is usual, legs, and the shared cause.

READ FIRST: ``explain``. It computes nothing of its own: each part is what the report was made from, with the
rule behind it, so that somebody with the facts can check every step. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from analytics import detect
from analytics.added import Place
from analytics.fused import Fused
from analytics.grade import NO_NUMBERS
from analytics.inputs import INPUTS, Input
from analytics.kinds.table import kind_of
from analytics.letters import letter_above, letter_within
from analytics.measurement import Grade, Hop, Leg, Letter, Reading, Rung
from analytics.paths import by_pair, hops_of
from analytics.rules.load import Profile, Rules, limits_of
from analytics.shapes import AddedLeg, Finding, PathRow, Report
from analytics.usual import Known, Usual


class Test(msgspec.Struct, frozen=True, kw_only=True):
    """The reading that counts."""

    test: str
    cycle: int
    rung: Rung
    rungs_failed: str
    started_us: int
    ended_us: int  # as the report takes it
    age_s: int
    stamps: str
    spoiled: int
    both_ends: bool  # the other direction of the same test is known
    error: str


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """What A, B, C and D may have at most, or must have at least."""

    key: str
    limits: list[int]


class Corner(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome at one end of what the inputs support, and the letter that it alone would have."""

    name: Literal["best", "expected", "worst"]
    outcome: int | None
    letter: Letter | None


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What is usual, as long as enough is known."""

    tests: int  # looked at, on this rung
    since_us: int | None  # the first of them
    n: int | None = None  # of them, those that the median is of
    of_hour: bool | None = None  # of this hour of the week only
    rtt_us: int | None = None  # median of the tests' medians
    spread_us: int | None = None
    least_us: int | None = None  # median of the tests' least round trips
    outcome: int | None = None  # median outcome of the day before the change that is on


class Detector(msgspec.Struct, frozen=True, kw_only=True):
    """Where the detector of changes stands."""

    rule: str
    state: Literal["learning", "quiet", "slower"]
    cusum: float
    cusum_needed: float
    slower_in_a_row: int
    slower_needed: int
    material_us: int | None  # by so much a round trip must be longer to count
    since_us: int | None
    earlier_changes: int


class HopSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One router as one end's trace has it, now and usually."""

    seen_from: str
    ttl: int
    address: str
    is_end: int
    rtt_min_us: int | None
    usual_us: int | None
    answered: int
    sent: int


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a path has its letter at a moment."""

    src: str
    dst: str
    src_site: str
    dst_site: str
    profile: str
    at_us: int
    rules_version: str
    test: Test
    inputs: list[Input]  # empty where the letter rests on no number
    thresholds: list[Threshold]
    grade: Grade
    corners: list[Corner]
    confidence: Literal["withheld", "high", "low"]
    baseline: Baseline
    detector: Detector
    legs: list[Leg]
    hops: list[HopSeen]
    added: AddedLeg | None
    added_why: str  # why no leg is named
    fused: Fused | None  # what applications' own sessions said; their numbers count before the probes'
    watched: bool  # tested between cycles: the letter is that of many tests, and holds
    letter_since_us: int | None  # of a watched path
    lossy_since_us: int | None
    findings: list[Finding]  # that the path belongs to


def explain(
    src: str,
    dst: str,
    *,
    report: Report,
    readings: Sequence[Reading],
    hops: Sequence[Hop],
    usual: Usual,
    rules: Rules,
) -> Explanation | None:
    """Tell how the row of ``src -> dst`` came to be; None where the report has none.

    ``readings``, ``hops`` and ``usual`` are those that the report was built from.
    """
    row = next((row for row in report.paths if (row.src, row.dst) == (src, dst)), None)
    latest = by_pair(readings, report.members)
    reading = latest.get((src, dst))
    if row is None or reading is None:
        return None
    back = latest.get((dst, src))
    same = back if back is not None and back.test == reading.test else None
    profile, known = rules.profile(report.profile), usual.paths.get((src, dst))
    corners = _corners(row.grade, profile)
    letters = _supported(reading, same, row, profile, rules) or _letters(corners)
    return Explanation(
        src=src,
        dst=dst,
        src_site=row.src_site,
        dst_site=row.dst_site,
        profile=report.profile,
        at_us=report.at_us,
        rules_version=report.rules_version,
        test=_test(reading, row, both_ends=same is not None),
        inputs=_inputs(reading, same, row.grade, profile, rules),
        thresholds=[Threshold(key=key, limits=limits) for key, limits in limits_of(profile).items()],
        grade=row.grade,
        corners=corners,
        confidence=_confidence(row.grade, letters),
        baseline=_baseline(known, row),
        detector=_detector(known),
        legs=row.legs,
        hops=[
            *_seen(reading, hops, usual.hops.get((src, dst), {})),
            *(_seen(same, hops, usual.hops.get((dst, src), {})) if same is not None else ()),
        ],
        added=row.added,
        added_why=_why_silent(row),
        fused=row.fused,
        watched=row.watched,
        letter_since_us=row.letter_since_us,
        lossy_since_us=row.lossy_since_us,
        findings=[finding for finding in report.findings if (src, dst) in finding.explains],
    )


def _test(reading: Reading, row: PathRow, *, both_ends: bool) -> Test:
    return Test(
        test=reading.test,
        cycle=reading.cycle,
        rung=reading.rung,
        rungs_failed=reading.rungs_failed,
        started_us=reading.started_us,
        ended_us=row.at_us,
        age_s=row.age_s,
        stamps=reading.stamps.value,
        spoiled=reading.spoiled,
        both_ends=both_ends,
        error=reading.error,
    )


def _inputs(
    reading: Reading, back: Reading | None, grade: Grade, profile: Profile, rules: Rules
) -> list[Input]:
    if grade.rule in NO_NUMBERS:
        return []
    return [INPUTS[name](reading, back, rules.samples) for name in kind_of(profile).inputs]


def _corners(grade: Grade, profile: Profile) -> list[Corner]:
    kind = kind_of(profile)
    letter_of = letter_above if kind.higher_is_better else letter_within
    ends = (grade.outcome_low, grade.outcome, grade.outcome_high)
    best, expected, worst = ends[::-1] if kind.higher_is_better else ends
    told: list[tuple[Literal["best", "expected", "worst"], int | None]] = [
        ("best", best),
        ("expected", expected),
        ("worst", worst),
    ]
    return [
        Corner(
            name=name,
            outcome=value,
            letter=None if value is None else letter_of(value, kind.steps(profile)),
        )
        for name, value in told
    ]


def _letters(corners: Sequence[Corner]) -> list[Letter]:
    return [corner.letter for corner in corners if corner.letter is not None]


def _supported(
    reading: Reading, back: Reading | None, row: PathRow, profile: Profile, rules: Rules
) -> Sequence[Letter]:
    """At best and at worst where loss or rate may decide; nothing where the letter is of other numbers."""
    if row.grade.rule in NO_NUMBERS or row.fused is not None:
        return ()
    return kind_of(profile).grade(reading, back, profile, rules.samples).letters


def _confidence(grade: Grade, letters: Sequence[Letter]) -> Literal["withheld", "high", "low"]:
    """High where best and worst have the same letter; where nothing but being cut off decides, too."""
    if grade.letter is Letter.UNKNOWN:
        return "withheld"
    return "low" if len(set(letters)) > 1 else "high"


def _baseline(known: Known | None, row: PathRow) -> Baseline:
    if known is None:
        return Baseline(tests=0, since_us=None)
    found = known.history.usual
    if found is None:
        return Baseline(tests=known.tests, since_us=known.since_us)
    return Baseline(
        tests=known.tests,
        since_us=known.since_us,
        n=found.n,
        of_hour=found.of_hour,
        rtt_us=found.rtt_us,
        spread_us=found.spread_us,
        least_us=known.least_us,
        outcome=row.usual_outcome,
    )


def _detector(known: Known | None) -> Detector:
    history = None if known is None else known.history
    usual = None if history is None else history.usual
    change = None if history is None else history.change
    return Detector(
        rule=detect.RULE,
        state="learning" if usual is None else "quiet" if change is None else "slower",
        cusum=0.0 if history is None else round(history.cusum, 1),
        cusum_needed=detect.THRESHOLD,
        slower_in_a_row=0 if history is None else history.slower_in_a_row,
        slower_needed=detect.IN_A_ROW,
        material_us=None if usual is None else detect.material_us(usual.rtt_us),
        since_us=None if change is None else change.since_us,
        earlier_changes=0 if history is None else len(history.past),
    )


def _seen(reading: Reading, hops: Sequence[Hop], usual: Mapping[Place, int]) -> list[HopSeen]:
    return [
        HopSeen(
            seen_from=reading.src,
            ttl=hop.ttl,
            address=hop.address,
            is_end=hop.is_end,
            rtt_min_us=hop.rtt_min_us,
            usual_us=usual.get((hop.ttl, hop.address)),
            answered=hop.answered,
            sent=hop.sent,
        )
        for hop in hops_of(reading, hops)
    ]


def _why_silent(row: PathRow) -> str:
    """Why no leg is named as the one that added time; empty where one is."""
    if row.added is not None:
        return ""
    if row.slower_since_us is None:
        return "the path is no slower than usual" if row.usual_rtt_us is not None else "nothing is usual yet"
    return row.added_why or "nobody can tell"
