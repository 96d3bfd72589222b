"""The fleet as it was at a moment of the past, as far as facts tell. Pure.

What nobody kept is taken from now: names, labels, sites, services, addresses. Who was enrolled and who was
connected is told by the time of enrolment and by the tests themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from analytics.grade import measured_at_us
from analytics.measurement import Reading
from analytics.shapes import Member

FROM_NOW: Final = "names, sites, services and rules are those of now; an agent that is gone is not shown"
"""What a page of the past says of itself."""


def members_then(
    members: Iterable[Member],
    enrolled_us: Mapping[str, int],
    readings: Sequence[Reading],
    *,
    at_us: int,
    stale_us: int,
) -> list[Member]:
    """Those who had enrolled by then, or were tested already (a name may have been enrolled again since).

    Online is who had sent a test that was not stale then.
    """
    tested = {end for one in readings for end in (one.src, one.dst)}
    sent = {one.src for one in readings if at_us - measured_at_us(one, at_us) <= stale_us}
    return [
        msgspec.structs.replace(member, online=member.name in sent)
        for member in members
        if member.name in tested or enrolled_us.get(member.name, 0) <= at_us
    ]


def when(at_us: int) -> str:
    """As a sentence ends with a moment: 'on 25 Nov 2026 at 09:45 UTC'."""
    at = datetime.fromtimestamp(at_us / 1e6, UTC)
    return f"on {at.day} {at:%b %Y} at {at:%H:%M} UTC"
