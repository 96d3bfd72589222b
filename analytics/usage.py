"""What applications did with their TCP sessions, summed by process or by destination and by hour.

``Usage`` is what the store answers; ``merged`` adds up any number of them, in any order. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from analytics.histogram import Histogram, counts_of, pack
from analytics.measurement import Direction


class By(StrEnum):
    """What sessions are summed by, beside the agent."""

    PROCESS = "process"
    DESTINATION = "destination"  # remote address, service port, and who connected


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the sessions of one process, or with one destination, in one hour; as in ``Flow``."""

    agent: str
    process: str = ""
    direction: Direction = Direction.UNKNOWN
    remote_address: str = ""
    service_port: int = 0
    hour_us: int = 0  # start of the hour
    opened: int = 0
    closed: int = 0
    failed: int = 0
    resets_sent: int = 0
    resets_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    segments_sent: int = 0
    segments_retransmitted: int = 0
    dsack_duplicates: int = 0
    busy_us: int = 0
    rwnd_limited_us: int = 0
    sndbuf_limited_us: int = 0
    srtt_lasting_histogram: Histogram = ()

    @property
    def key(self) -> tuple[str, ...]:
        """Whose sessions these are."""
        return tuple(str(getattr(self, name)) for name in ("agent", *_EVERY_KEY))

    @property
    def connected(self) -> bool:
        """True where at least one session was established, in this hour or before it."""
        return any((self.opened, self.closed, self.segments_sent, self.bytes_sent, self.bytes_received))


KEYS: Final[dict[By, tuple[str, ...]]] = {
    By.PROCESS: ("process",),
    By.DESTINATION: ("direction", "remote_address", "service_port"),
}
"""Columns of a flow that sessions are summed by, beside agent and hour."""
_EVERY_KEY: Final = (*KEYS[By.PROCESS], *KEYS[By.DESTINATION])

SUMS: Final = (
    *("opened", "closed", "failed", "resets_sent", "resets_received", "bytes_sent", "bytes_received"),
    *("segments_sent", "segments_retransmitted", "dsack_duplicates"),
    *("busy_us", "rwnd_limited_us", "sndbuf_limited_us"),
)
"""Columns of a flow that are added up."""


def merged(hours: Iterable[Usage]) -> Usage:
    """Add up the hours of one group; at least one. The result carries the first hour's start."""
    all_hours = list(hours)
    if len(all_hours) == 1:  # most often: each hour of a group is asked for by itself
        return all_hours[0]
    first = min(all_hours, key=lambda usage: usage.hour_us)
    totals = {name: sum(getattr(usage, name) for usage in all_hours) for name in SUMS}
    counts = counts_of(usage.srtt_lasting_histogram for usage in all_hours)
    return msgspec.structs.replace(first, **totals, srtt_lasting_histogram=pack(counts))
