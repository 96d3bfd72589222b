"""Path rows: the latest reading of each directed path, graded and split into legs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from analytics.fused import Fused
from analytics.fusion import NOTHING_SEEN, Passive, judge
from analytics.grade import measured_at_us
from analytics.kinds.table import kind_of
from analytics.legs import legs
from analytics.measurement import Grade, Hop, Leg, Letter, Reading
from analytics.rules.load import Rules
from analytics.shapes import Member, PathRow
from analytics.slower import Ends, with_usual
from analytics.usual import NOTHING_KNOWN, Pair, Usual
from analytics.usual_outcome import usual_outcome
from analytics.watched import with_watch

WORST_FIRST: Final = (Letter.UNREACHABLE, Letter.F, Letter.D, Letter.C, Letter.B, Letter.A, Letter.UNKNOWN)
"""Order of the ranked list; what is not known comes last, however bad it may be."""


def path_rows(
    profile: str,
    readings: Sequence[Reading],
    hops: Sequence[Hop],
    members: Sequence[Member],
    *,
    at_us: int,
    rules: Rules,
    usual: Usual = NOTHING_KNOWN,
    passive: Passive = NOTHING_SEEN,
) -> list[PathRow]:
    """Grade every directed path and split it into legs, worst first.

    ``usual`` is what is known of each path, ``passive`` what applications' sessions on it said.
    """
    latest = by_pair(readings, members)
    sites = {member.name: member.site for member in members}
    traces: dict[Pair, list[Hop]] = {}  # (test, who traced) -> hops
    for hop in hops:
        traces.setdefault((hop.test, hop.src), []).append(hop)
    wanted = rules.profile(profile)
    rows = []
    for (src, dst), reading in latest.items():
        if wanted.sites and not {sites[src], sites[dst]} & set(wanted.sites):
            continue
        back = _same_test(reading, latest.get((dst, src)))
        near, far = traces.get((reading.test, src), []), traces.get((reading.test, dst), [])
        split = legs(reading, near, far, src_site=sites[src], dst_site=sites[dst])
        graded, fused = judge(reading, back, profile, rules, at_us=at_us, passive=passive)
        row = _row(reading, back, graded, fused, split, sites=(sites[src], sites[dst]), at_us=at_us)
        row = with_watch(row, usual.watched)
        row = with_usual(row, usual, Ends(reading, back, near, far))
        if row.slower_since_us is not None:
            before = usual_outcome((src, dst), usual, wanted, rules.samples)
            row = msgspec.structs.replace(row, usual_outcome=before)
        rows.append(row)
    return sorted(rows, key=_worst_first(better=-1 if kind_of(wanted).higher_is_better else 1))


def loss_bp(reading: Reading) -> int | None:
    """Loss of a reading's direction in basis points, rounded; None where nothing was sent."""
    if not reading.sent:
        return None
    return round(10_000 * max(0, reading.sent - reading.received) / reading.sent)


def by_pair(readings: Sequence[Reading], members: Sequence[Member]) -> dict[Pair, Reading]:
    """Key readings by pair, without those of agents that are not enrolled."""
    enrolled = {member.name for member in members}
    return {(r.src, r.dst): r for r in readings if {r.src, r.dst} <= enrolled and r.src != r.dst}


def _same_test(reading: Reading, back: Reading | None) -> Reading | None:
    """The other direction, unless it is of another test: its upload may still be on the way."""
    return back if back is not None and back.test == reading.test else None


def hops_of(reading: Reading, hops: Sequence[Hop]) -> list[Hop]:
    """Pick what the sender of a reading traced in its test, by TTL."""
    own = (hop for hop in hops if hop.test == reading.test and hop.src == reading.src)
    return sorted(own, key=lambda hop: hop.ttl)


def _row(
    reading: Reading,
    back: Reading | None,
    graded: Grade,
    fused: Fused | None,
    split: list[Leg],
    *,
    sites: Pair,
    at_us: int,
) -> PathRow:
    ended_us = measured_at_us(reading, at_us)
    return PathRow(
        src=reading.src,
        dst=reading.dst,
        src_site=sites[0],
        dst_site=sites[1],
        grade=graded,
        at_us=ended_us,
        age_s=max(0, at_us - ended_us) // 1_000_000,
        rung=reading.rung,
        rungs_failed=reading.rungs_failed,
        rtt_min_us=reading.rtt_min_us,
        rtt_p50_us=reading.rtt_p50_us,
        rtt_p95_us=reading.rtt_p95_us,
        rtt_n=reading.rtt_n,
        loss_bp=loss_bp(reading),
        loss_back_bp=None if back is None else loss_bp(back),
        sent=reading.sent,
        received=reading.received,
        ipdv_us=reading.ipdv_us,
        capacity_kbps=reading.capacity_kbps,
        capacity_trust=reading.capacity_trust.value,
        stamps=reading.stamps.value,
        connect_us=reading.connect_us,
        error=reading.error,
        legs=split,
        fused=fused,
    )


def _worst_first(*, better: int) -> Callable[[PathRow], tuple[int, int, int, str, str]]:
    """Letter, then outcome, then round trip; names last, so that the order never depends on the input's.

    ``better`` is -1 where a higher outcome is.
    """

    def key(row: PathRow) -> tuple[int, int, int, str, str]:
        outcome = better * (row.grade.outcome or row.grade.outcome_low or 0)
        return (WORST_FIRST.index(row.grade.letter), -outcome, -(row.rtt_p50_us or 0), row.src, row.dst)

    return key
