"""The shapes of what fusion says of a path, beside its grade."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from analytics.measurement import CapacityTrust, Grade


class Origin(StrEnum):
    """Who measured a number that a grade rests on."""

    ACTIVE = "active"  # probes between the two agents
    PASSIVE = "passive"  # the applications' own sessions


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a grade; ``value`` is None where nobody measured it."""

    name: str  # round trip, loss, capacity
    value: int | None
    unit: str
    origin: Origin
    n: int | None = None  # samples behind it; None where it is not made of samples


class HeldUp(msgspec.Struct, frozen=True, kw_only=True):
    """What a path's sessions waited for that is not the network."""

    whose: str  # agent
    what: str  # receive window, send buffer, application
    percent: int  # of the time with something to send; of the sessions' life for the application
    rule: str
    sentence: str


class Fused(msgspec.Struct, frozen=True, kw_only=True):
    """What the applications' sessions on a path said, and what the probes alone would have given."""

    services: list[str]  # "PACS": whose sessions
    active: Grade  # by the probes alone
    numbers: list[Number]
    rtt_p95_us: int | None = None  # that counts, as those in ``numbers`` do
    loss_back_bp: int | None = None  # that counts, of the other direction
    capacity_trust: CapacityTrust = CapacityTrust.NONE  # of the capacity that counts
    sessions: int = 0  # opened in the time that counts
    until_us: int = 0  # end of the newest window; 0 = no session
    congestion: str = ""  # of the sending end; empty = not known, or several
    apart: str = ""  # why probes and application are on different paths; empty = nothing says so
    apart_rule: str = ""
    held_up: HeldUp | None = None
    server_us_per_image: int | None = None  # learnt; None = the profile's is taken
    learnt_from: int = 0  # fetches
    rule: str = ""

    @property
    def passive(self) -> list[str]:
        """Names of the numbers that the sessions gave."""
        return [number.name for number in self.numbers if number.origin is Origin.PASSIVE]
