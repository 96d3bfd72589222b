"""Number by number: what sessions saw in place of what probes saw, where it carries. Pure.

Each number of the sessions needs the samples that it needs from probes. A smoothed round trip hides its own
tail, so a percentile above the 75th is never called better than the probes found it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from analytics.evidence import loss_count
from analytics.fused import Fused, Number, Origin
from analytics.measurement import CapacityTrust, Reading, Rung
from analytics.rules.load import (
    CallProfile,
    InteractionProfile,
    ObjectiveProfile,
    Profile,
    ResponseProfile,
    Samples,
    StudyProfile,
)
from analytics.sent import SENDERS, Sent
from analytics.shapes import PathRow

NAMES: Final = ("round trip", "loss", "capacity")

_RTT_NEEDED: Final[dict[type, Callable[[Samples], int]]] = {
    StudyProfile: lambda samples: samples.rtt_p50_n,
    ResponseProfile: lambda samples: samples.rtt_p95_n,
    InteractionProfile: lambda samples: samples.rtt_p95_n,
    CallProfile: lambda samples: samples.rtt_p95_n,
    ObjectiveProfile: lambda samples: samples.rtt_p99_n,
}
"""Round trips that each kind of profile needs."""

_PARTS: Final = {"rtt_p10_us": 0.1, "rtt_p25_us": 0.25, "rtt_p50_us": 0.5, "rtt_p75_us": 0.75}
_TAIL: Final = {"rtt_p90_us": 0.9, "rtt_p95_us": 0.95, "rtt_p99_us": 0.99}

Changes = dict[str, Any]
"""Columns of a reading."""


def round_trip(reading: Reading, sent: Sent, profile: Profile, samples: Samples, *, alone: bool) -> Changes:
    """Percentiles of the smoothed round trip; ``alone``: however few, as there is nothing else."""
    if not sent.rtt_n or (sent.rtt_n < _RTT_NEEDED[type(profile)](samples) and not alone):
        return {}
    told: Changes = {name: sent.rtt_us(part) for name, part in _PARTS.items()}
    tail = {name: max(sent.rtt_us(part) or 0, getattr(reading, name) or 0) for name, part in _TAIL.items()}
    return told | tail | {"rtt_n": sent.rtt_n, "rtt_min_us": sent.rtt_min_us}


def loss(sent: Sent, samples: Samples, *, alone: bool) -> Changes:
    """Segments lost while the sender's own queue was short."""
    count = sent.loss
    if not count.sent or (count.sent < samples.loss_n and not alone):
        return {}
    return {"sent": count.sent, "received": count.sent - count.lost}


def rate(reading: Reading, sent: Sent) -> Changes:
    """A rate that filled the path is its capacity now; any other is a lower bound, used where it is more."""
    kbps, trust = sent.rate
    if kbps is None:
        return {}
    known_kbps = 0 if reading.capacity_trust is CapacityTrust.NONE else reading.capacity_kbps or 0
    if trust is CapacityTrust.AT_LEAST and kbps <= known_kbps:
        return {}
    return {"capacity_kbps": kbps, "capacity_trust": trust}


def without_probes(reading: Reading, until_us: int) -> Reading:
    """The reading as if no probe had been sent, as old as the sessions are."""
    nothing = dict.fromkeys((*_PARTS, *_TAIL, "rtt_min_us", "capacity_kbps"))
    return msgspec.structs.replace(
        reading,
        **nothing,
        rtt_n=0,
        sent=0,
        received=0,
        capacity_trust=CapacityTrust.NONE,
        cycle=until_us // 1_000_000,
        started_us=until_us,
        ended_us=until_us,
        rung=Rung.LAN if reading.rung is Rung.NONE else reading.rung,  # some way there is
        error="",
    )


def numbers(reading: Reading, passive: frozenset[str]) -> list[Number]:
    """The inputs of a grade, with who measured each; ``passive`` names those of sessions."""
    rows = (
        (reading.rtt_p50_us, "us", reading.rtt_n),
        (share_bp(reading), "bp", reading.sent),
        (reading.capacity_kbps, "kbit/s", None),
    )
    return [
        Number(name=name, value=value, unit=unit, origin=_origin(name in passive), n=n)
        for name, (value, unit, n) in zip(NAMES, rows, strict=True)
    ]


def share_bp(reading: Reading) -> int | None:
    """Lost share in basis points; None where nothing was sent."""
    count = loss_count(reading)
    return round(10_000 * count.share) if count.sent else None


def as_graded(row: PathRow) -> PathRow:
    """The row with the numbers that its letter rests on, where sessions gave some of them.

    What the probes say of where the time is says nothing where the application takes another path.
    """
    fused = row.fused
    if fused is None:
        return row
    value = {number.name: number.value for number in fused.numbers}
    row = msgspec.structs.replace(
        row,
        rtt_p50_us=value["round trip"],
        rtt_p95_us=fused.rtt_p95_us,
        loss_bp=value["loss"],
        loss_back_bp=fused.loss_back_bp,
        capacity_kbps=value["capacity"],
        capacity_trust=fused.capacity_trust.value,
    )
    if not fused.apart:
        return row
    return msgspec.structs.replace(
        row, rtt_min_us=None, legs=[], added=None, usual_rtt_us=None, slower_since_us=None
    )


def as_served(profile: Profile, fused: Fused | None) -> Profile:
    """The profile that a fused letter was given by: with the PACS's own time and its congestion control."""
    if fused is None or not isinstance(profile, StudyProfile):
        return profile
    study = profile.study
    if fused.server_us_per_image is not None:
        study = msgspec.structs.replace(study, server_us_per_image=fused.server_us_per_image)
    if fused.congestion in SENDERS:
        study = msgspec.structs.replace(study, sender=SENDERS[fused.congestion])
    return msgspec.structs.replace(profile, study=study)


def _origin(is_passive: bool) -> Origin:
    return Origin.PASSIVE if is_passive else Origin.ACTIVE
