"""What an end of a pair test tells the bench: one line of JSON at its end."""

from __future__ import annotations

import msgspec

from analytics.measurement import Hop, Reading


class Trip(msgspec.Struct, frozen=True, kw_only=True):
    """One request of an end and what came of it; times in ns since 1970, of the processes that sent."""

    t1_ns: int  # the requester, just before it sent the request
    t3_ns: int  # the reflector, just before it sent the reply; 0 = no reply came
    rtt_ns: int | None  # as measured
    kernel: bool  # all its stamps are the kernel's
    spoiled: bool


class EndTold(msgspec.Struct, frozen=True, kw_only=True):
    """What an end of a pair test tells."""

    reading: Reading
    hops: list[Hop]
    trips: list[Trip]  # one a request, in order
