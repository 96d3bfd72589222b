"""What makes a path slow, as far as the evidence carries: nothing is blamed on a guess. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from analytics.measurement import CapacityTrust, Leg
from analytics.predict import Limit, PathState, Sender, study_limit, study_us
from analytics.rules.load import Profile, ResponseProfile, StudyProfile
from analytics.shapes import PathRow

_BP: Final = 10_000


def limits(row: PathRow, profile: Profile) -> list[Limit]:
    """What a path that cannot be worked over waits for, the greatest first; empty without a round trip."""
    if isinstance(profile, ResponseProfile):
        return _response_limits(row, profile)
    if row.rtt_p50_us is None:
        return []
    # "At least so much" is no limit: it must not be blamed.
    capacity_kbps = row.capacity_kbps if row.capacity_trust == CapacityTrust.MEASURED else None
    path = PathState(row.rtt_p50_us, (row.loss_bp or 0) / _BP, capacity_kbps)
    first = study_limit(profile.study, path)
    if first is not Limit.LOSS:
        return [first]
    clean = replace(path, loss=0)
    return [first, study_limit(profile.study, clean)] if _still_slow(clean, profile) else [first]


def worse_loss_bp(row: PathRow) -> int:
    """Loss of the direction that loses more, basis points."""
    return max(row.loss_bp or 0, row.loss_back_bp or 0)


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


def _response_limits(row: PathRow, profile: ResponseProfile) -> list[Limit]:
    """Whichever exceeds what C allows."""
    slow = (row.rtt_p95_us or 0) > profile.most_rtt_p95_us[2]
    lossy = worse_loss_bp(row) > profile.most_loss_bp[2]
    return [Limit.LOSS] * lossy + [Limit.LATENCY] * slow


def _still_slow(path: PathState, profile: StudyProfile) -> bool:
    return study_us(profile.study, path, Sender.CUBIC) > 1000 * profile.most_ms[2]
