"""What alerts are made of: a cause, a condition that is seen now, and an alert that lasts. Pure data.

::

    Condition (seen in one look) ── lifecycle.py ── Alert (pending, open, closed) ── Event ── receivers
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

import msgspec

from analytics.measurement import text

MOST_PAIRS: Final = 500
"""Paths of a cause that an alert remembers, to know it again and to know when nothing is known of it."""
ID_DIGITS: Final = 12


class Severity(StrEnum):
    """How bad it is, by who cannot work."""

    INFO = "info"  # nobody is kept from work
    WARNING = "warning"  # somebody is
    CRITICAL = "critical"  # many are, or a service is out of reach

    @property
    def rank(self) -> int:
        """0 for the mildest."""
        return _ORDER.index(self)


_ORDER: Final = tuple(Severity)


class Cause(NamedTuple):
    """What an alert is about. Two looks that see the same cause see the same alert."""

    rule: str  # name in the rules
    kind: str  # host, uplink, region, relay, transit; workplaces; agents; own
    where: str  # agent, site, service ...
    profile: str = ""  # empty: of no profile

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that stay the same for ever."""
        return hashlib.sha256("\0".join(self).encode()).hexdigest()[:ID_DIGITS]


Pair = tuple[str, str]
"""A directed path."""


class Condition(NamedTuple):
    """One cause as it is seen now."""

    cause: Cause
    severity: Severity
    title: str  # a line: "Hotel uplink"
    text: str  # sentences: what it is, and who cannot work
    cannot: tuple[str, ...] = ()  # agents whose people cannot work
    agents: tuple[str, ...] = ()  # agents that are concerned: those, those at fault, those that are away
    pairs: tuple[Pair, ...] = ()  # directed paths that the cause explains
    since_us: int | None = None  # of the cause itself, where that is known


class Phase(StrEnum):
    """How far an alert is."""

    PENDING = "pending"  # seen, not for long enough yet
    OPEN = "open"
    CLOSED = "closed"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One cause that lasts, from when it was first seen until it has been gone for a while."""

    id: str  # of the cause: the same each time it comes back
    rule: str
    rules_version: str
    kind: str
    where: str
    profile: str
    phase: Phase
    severity: Severity  # the worst since it opened
    title: str
    text: str
    cannot: list[str]
    agents: list[str] = []
    pairs: list[Pair]
    first_us: int  # seen first; with ``id`` the key of this occurrence
    since_us: int  # since when it is so: of the cause where known, else ``first_us``
    seen_us: int  # seen last
    opened_us: int | None = None
    closed_us: int | None = None
    closed_why: str = ""  # "gone", "not known any more"
    held_us: int = 0  # how long it has been seen while pending
    quiet_us: int = 0  # how long it has not been seen while open
    known: bool = True  # False: nothing is known of its paths right now
    told: Severity | None = None  # the worst that receivers were told; None = nothing yet
    acked_us: int | None = None
    acked_by: str = ""
    ack_note: str = ""
    silence: str = ""  # id of the silence that keeps it quiet now

    @property
    def cause(self) -> Cause:
        """What it is about."""
        return Cause(self.rule, self.kind, self.where, self.profile)


class Event(StrEnum):
    """What receivers are told of an alert."""

    OPENED = "opened"
    WORSE = "worse"  # its severity rose
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"
    STILL = "still"  # for receivers that forget what is not repeated
    TEST = "test"


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One event of one alert on its way to receivers: what the queue keeps, and what a webhook gets."""

    version: int = 1
    event: Event
    tenant: str
    at_us: int
    alert: Alert
    before: Severity | None = None  # of a rise: what it was


Pattern = Annotated[str, text("text, with * for any", most=200)]


class Matcher(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which alerts a silence or a receiver is for. What is empty matches all; ``*`` stands for any text."""

    id: Pattern = ""
    rule: Pattern = ""
    kind: Pattern = ""
    where: Pattern = ""
    profile: Pattern = ""
    agent: Pattern = ""  # one of those that are concerned


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts that nobody is told of until a moment."""

    id: str
    matcher: Matcher
    until_us: int
    made_us: int
    by: str
    note: str = ""


class ReceiverStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One receiver: ``GET /v1/alerts/receivers``."""

    name: str
    kind: str
    least: str
    waiting: int
    sent: int
    failed: int
    refused: int
    given_up: int
    dropped: int
    last_error: str = ""  # empty once it has taken something again
    last_sent_us: int | None = None
