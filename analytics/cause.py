"""Where on a path the time is, as far as the evidence carries: nothing is blamed on a guess. Pure."""

from __future__ import annotations

from analytics.measurement import Leg
from analytics.shapes import PathRow


def blamed_leg(row: PathRow) -> Leg | None:
    """The leg that makes up at least half of the round trip, if the evidence puts it there.

    None where no leg is that large, or where it or a neighbour has silent hops: the time may be the
    neighbour's.
    """
    largest = max(row.legs, key=lambda leg: leg.rtt_us, default=None)
    if largest is None or 2 * largest.rtt_us < sum(leg.rtt_us for leg in row.legs):
        return None
    at = row.legs.index(largest)
    around = row.legs[max(0, at - 1) : at + 2]
    return largest if all(leg.measured for leg in around) else None
