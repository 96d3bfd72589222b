"""A path row with what is usual on it and, where it is slower now, the leg that made it so. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from analytics.added import Silence
from analytics.attribution import Facts, OneWay, Trace, attribute
from analytics.measurement import Hop, LegKind, Reading
from analytics.shapes import AddedLeg, PathRow
from analytics.usual import Known, Usual


class Ends(NamedTuple):
    """What both ends of the path's test told."""

    there: Reading
    back: Reading | None
    near: Sequence[Hop]  # as the source traced them
    far: Sequence[Hop]  # as the destination did


def with_usual(row: PathRow, usual: Usual, ends: Ends) -> PathRow:
    """Say what is usual; of a path that is slower, since when, and which leg made it so, or why none is."""
    known = usual.paths.get((row.src, row.dst))
    if known is None or known.history.usual is None:
        return row
    row = msgspec.structs.replace(row, usual_rtt_us=known.history.usual.rtt_us)
    if known.history.change is None:
        return row
    leg = _added(row, known, usual, ends)
    told = {"added_why": leg.why} if isinstance(leg, Silence) else {"added": leg}
    return msgspec.structs.replace(row, slower_since_us=known.history.change.since_us, **told)


def _added(row: PathRow, known: Known, usual: Usual, ends: Ends) -> AddedLeg | Silence:
    if row.rtt_min_us is None or known.least_us is None:
        return Silence("no round trip to compare")
    back = usual.paths.get((row.dst, row.src))
    found = attribute(
        Facts(row.rtt_min_us, _one_way(ends.there, ends.back)),
        Facts(known.least_us, _usual_one_way(known, back)),
        from_src=Trace(ends.near, usual.hops.get((row.src, row.dst), {})),
        from_dst=Trace(ends.far, usual.hops.get((row.dst, row.src), {})),
    )
    if isinstance(found, Silence):
        return found
    return AddedLeg(
        kind=found.leg,
        site=_site_of(found.leg, row),
        added_us=found.added_us,
        of_us=found.of_us,
        direction=found.direction or "",
    )


def _one_way(there: Reading, back: Reading | None) -> OneWay:
    bounds = [reading.one_way_bound_us or 0 for reading in (there, back) if reading is not None]
    return OneWay(there.one_way_min_us, back.one_way_min_us if back else None, max(bounds))


def _usual_one_way(there: Known, back: Known | None) -> OneWay:
    return OneWay(
        there.one_way_us,
        back.one_way_us if back else None,
        max(known.one_way_bound_us for known in (there, back) if known is not None),
    )


def _site_of(leg: LegKind, row: PathRow) -> str:
    if leg is LegKind.TRANSIT:
        return ""
    return row.src_site if leg in (LegKind.SOURCE_HOST, LegKind.SOURCE_ACCESS) else row.dst_site
