"""Two moments beside each other: which paths changed, by how much, and which causes came and went.

READ FIRST: ``compare``. A path has changed where its letter has, or where a number moved by what somebody
notices (``MOVED_RULE``); what changed is grouped by the cause that explains it. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from analytics.detect import material_us
from analytics.letters import rank
from analytics.measurement import CapacityTrust, Letter, Rung
from analytics.shapes import Finding, PathRow, Report
from analytics.verdict import LIKELY_PERCENT

MOVED_RULE: Final = "path.moved.v1"
LOSS_MOVED_BP: Final = 100
"""From one in a hundred packets on, either way: three of a test's 300 probes."""
CAPACITY_MOVED: Final = 1.25
"""As a ratio, of two measured capacities: packet trains agree with each other to a tenth."""
MOST_CHANGES: Final = 500
"""Told one by one, the worst; the rest are counted."""

Pair = tuple[str, str]


class What(StrEnum):
    """How a path stands to how it was, the worst first."""

    WORSE = "worse"
    GONE = "gone"  # no reading of it any more
    UNKNOWN = "unknown"  # the letter is withheld now
    NEW = "new"  # no reading of it then
    KNOWN = "known"  # the letter was withheld then
    MOVED = "moved"  # the letter is the same, a number or the rung is not
    BETTER = "better"
    SAME = "same"


class PathChange(msgspec.Struct, frozen=True, kw_only=True):
    """One directed path, then and now; None: no reading of it, or not measured."""

    src: str
    dst: str
    src_site: str
    dst_site: str
    what: What
    before: Letter | None
    after: Letter | None
    rtt_before_us: int | None  # median
    rtt_after_us: int | None
    loss_before_bp: int | None  # src -> dst
    loss_after_bp: int | None
    capacity_before_kbps: int | None
    capacity_after_kbps: int | None
    rung_before: Rung | None
    rung_after: Rung | None
    reason: str  # of the letter it has now; of the earlier one where it is gone


class CauseChange(msgspec.Struct, frozen=True, kw_only=True):
    """A cause at either moment, and the changes that it explains."""

    kind: str
    where: str
    state: str  # appeared, ended, stayed
    explains_before: int
    explains_after: int
    since_us: int | None
    sentence: str  # of the later moment; of the earlier one where it ended
    changes: list[PathChange]  # worst first


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two reports of one fleet and profile beside each other."""

    tenant: str
    profile: str
    before_us: int
    after_us: int
    rules_version: str
    rule: str  # by which a path counts as changed
    headline: str
    verdict_before: str
    verdict_after: str
    causes: list[CauseChange]  # those that appeared first, then what explains most
    others: list[PathChange]  # that no cause explains, worst first
    counts: dict[str, int]  # of each ``What``, the same included
    left_out: int  # changes that are counted, and not told
    lost: list[str]  # workplaces that could and cannot
    regained: list[str]
    members_new: list[str]
    members_gone: list[str]


def compare(before: Report, after: Report) -> Comparison:
    """Put two reports of one profile beside each other."""
    then, now = _rows(before), _rows(after)
    every = [_change(then.get(pair), now.get(pair)) for pair in sorted(then.keys() | now.keys())]
    changed = sorted((one for one in every if one.what is not What.SAME), key=_worst_first)
    told = changed[:MOST_CHANGES]
    causes = _causes(before, after, told)
    explained = {(one.src, one.dst) for cause in causes for one in cause.changes}
    counts = Counter(one.what.value for one in every)
    names = [{member.name for member in made.members} for made in (before, after)]
    lost, regained = _workplaces(before, after)
    return Comparison(
        tenant=after.tenant,
        profile=after.profile,
        before_us=before.at_us,
        after_us=after.at_us,
        rules_version=after.rules_version,
        rule=MOVED_RULE,
        headline=_headline(counts, causes, lost, regained),
        verdict_before=before.verdict.headline,
        verdict_after=after.verdict.headline,
        causes=causes,
        others=[one for one in told if (one.src, one.dst) not in explained],
        counts={what.value: counts[what.value] for what in What},
        left_out=len(changed) - len(told),
        lost=lost,
        regained=regained,
        members_new=sorted(names[1] - names[0]),
        members_gone=sorted(names[0] - names[1]),
    )


def _rows(report: Report) -> dict[Pair, PathRow]:
    return {(row.src, row.dst): row for row in report.paths}


def _change(before: PathRow | None, after: PathRow | None) -> PathChange:
    row = after or before
    assert row is not None  # one of the two has it
    return PathChange(
        src=row.src,
        dst=row.dst,
        src_site=row.src_site,
        dst_site=row.dst_site,
        what=_what(before, after),
        before=before.grade.letter if before else None,
        after=after.grade.letter if after else None,
        rtt_before_us=before.rtt_p50_us if before else None,
        rtt_after_us=after.rtt_p50_us if after else None,
        loss_before_bp=before.loss_bp if before else None,
        loss_after_bp=after.loss_bp if after else None,
        capacity_before_kbps=before.capacity_kbps if before else None,
        capacity_after_kbps=after.capacity_kbps if after else None,
        rung_before=before.rung if before else None,
        rung_after=after.rung if after else None,
        reason=row.grade.reason,
    )


def _what(before: PathRow | None, after: PathRow | None) -> What:
    if before is None or after is None:
        return What.GONE if after is None else What.NEW
    was, now = before.grade.letter, after.grade.letter
    if was is not now:
        return _by_letter(was, now)
    return What.MOVED if _is_moved(before, after) else What.SAME


def _by_letter(was: Letter, now: Letter) -> What:
    if now is Letter.UNKNOWN:
        return What.UNKNOWN
    if was is Letter.UNKNOWN:
        return What.KNOWN
    return What.WORSE if _badness(now) > _badness(was) else What.BETTER


def _badness(letter: Letter | None) -> float:
    """A to F, then X: who cannot connect is worse off than who waits for ever. Unknown is nothing."""
    if letter is None or letter is Letter.UNKNOWN:
        return -1
    return rank(letter) + 0.5 * (letter is Letter.UNREACHABLE)


def _is_moved(before: PathRow, after: PathRow) -> bool:
    return (
        before.rung is not after.rung
        or _is_rtt_moved(before.rtt_p50_us, after.rtt_p50_us)
        or abs((before.loss_bp or 0) - (after.loss_bp or 0)) >= LOSS_MOVED_BP
        or _is_capacity_moved(before, after)
    )


def _is_rtt_moved(before_us: int | None, after_us: int | None) -> bool:
    if before_us is None or after_us is None:
        return False
    return abs(before_us - after_us) > material_us(min(before_us, after_us))


def _is_capacity_moved(before: PathRow, after: PathRow) -> bool:
    """A lower bound that moved says nothing of the path."""
    low, high = sorted((before.capacity_kbps or 0, after.capacity_kbps or 0))
    trusted = {before.capacity_trust, after.capacity_trust} == {CapacityTrust.MEASURED.value}
    return trusted and low > 0 and high > CAPACITY_MOVED * low


def _worst_first(change: PathChange) -> tuple[int, float, float, int, str, str]:
    """By how it changed; then the letter it ended with, how far it fell, and how much slower it is."""
    fell = _badness(change.after) - _badness(change.before)
    slower_us = (change.rtt_after_us or 0) - (change.rtt_before_us or 0)
    return (_ORDER[change.what], -_badness(change.after), -fell, -slower_us, change.src, change.dst)


_ORDER: Final = {what: place for place, what in enumerate(What)}


# --- causes -------------------------------------------------------------------------------------------------


def _causes(before: Report, after: Report, changes: Sequence[PathChange]) -> list[CauseChange]:
    """Every cause of either moment; each change under the cause that explains it best."""
    then, now = (_likely(made.findings) for made in (before, after))
    explains_then, explains_now = _explained(then.values()), _explained(now.values())
    under: dict[Pair, list[PathChange]] = {key: [] for key in [*now, *then]}
    for one in changes:
        sides = (explains_then, explains_now) if one.what is What.BETTER else (explains_now, explains_then)
        pair = (one.src, one.dst)
        key = next((side[pair] for side in sides if pair in side), None)
        if key is not None:
            under[key].append(one)
    made = [_cause(then.get(key), now.get(key), own) for key, own in under.items()]
    return sorted(made, key=lambda one: (_STATES.index(one.state), -len(one.changes), -one.explains_after))


_STATES: Final = ("appeared", "stayed", "ended")


def _likely(findings: Iterable[Finding]) -> dict[Pair, Finding]:
    """Causes by kind and place, those that are likely."""
    return {(one.kind, one.where): one for one in findings if one.confidence_percent >= LIKELY_PERCENT}


def _explained(findings: Iterable[Finding]) -> Mapping[Pair, Pair]:
    """Which cause explains a path, by path; of several the one that explains most, which comes first."""
    found: dict[Pair, Pair] = {}
    for one in findings:
        for src, dst in one.explains:
            found.setdefault((src, dst), (one.kind, one.where))
    return found


def _cause(then: Finding | None, now: Finding | None, changes: list[PathChange]) -> CauseChange:
    told = now or then
    assert told is not None  # one of the two has it
    return CauseChange(
        kind=told.kind,
        where=told.where,
        state="appeared" if then is None else "ended" if now is None else "stayed",
        explains_before=len(then.explains) if then else 0,
        explains_after=len(now.explains) if now else 0,
        since_us=told.since_us,
        sentence=told.sentence,
        changes=changes,
    )


# --- words --------------------------------------------------------------------------------------------------


def _workplaces(before: Report, after: Report) -> tuple[list[str], list[str]]:
    lost = set(before.verdict.can) & set(after.verdict.cannot)
    return sorted(lost), sorted(set(before.verdict.cannot) & set(after.verdict.can))


def _headline(
    counts: Mapping[str, int], causes: Sequence[CauseChange], lost: Sequence[str], regained: Sequence[str]
) -> str:
    """Say '3 paths are worse; 1 path is better; 1 workplace can no longer work; 1 cause appeared'."""
    states = Counter(cause.state for cause in causes)
    worse, better = counts.get(What.WORSE, 0), counts.get(What.BETTER, 0)
    told = [
        *([f"{_paths(worse)} worse"] if worse else []),
        *([f"{_paths(better)} better"] if better else []),
        *([] if worse or better else ["No path is worse or better"]),
        *([f"{_places(len(lost))} can no longer work"] if lost else []),
        *([f"{_places(len(regained))} can work again"] if regained else []),
        *([f"{_of_causes(states['appeared'])} appeared"] if states["appeared"] else []),
        *([f"{_of_causes(states['ended'])} ended"] if states["ended"] else []),
    ]
    return "; ".join(told) + "."


def _paths(count: int) -> str:
    return "1 path is" if count == 1 else f"{count:,} paths are"


def _places(count: int) -> str:
    return "1 workplace" if count == 1 else f"{count:,} workplaces"


def _of_causes(count: int) -> str:
    return "1 cause" if count == 1 else f"{count:,} causes"
