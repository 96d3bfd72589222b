"""What an agent costs, from what it says now and then. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from analytics.wire import Health
from server.api.agent_info import Vitals

REMEMBERED: Final = 20
"""Of an agent's words: ten minutes of them, so that one test is not taken for what it always costs."""
US_PER_S: Final = 1_000_000
HOUR_S: Final = 3_600


class Told(NamedTuple):
    """What an agent said, and when."""

    at_us: int
    health: Health


def vitals_of(told: Sequence[Told]) -> Vitals | None:
    """Work out rates over all that is remembered of one connection; None where nothing was said."""
    if not told:
        return None
    first, last = told[0], told[-1]
    over_us = last.at_us - first.at_us
    cpu_us = _more(first.health.cpu_us, last.health.cpu_us)
    sent = _more(first.health.bytes_sent, last.health.bytes_sent)
    return Vitals(
        at_us=last.at_us,
        over_s=over_us // US_PER_S,
        cpu_bp=None if cpu_us is None or over_us <= 0 else 10_000 * cpu_us // over_us,
        bytes_per_hour=None if sent is None or over_us <= 0 else sent * HOUR_S * US_PER_S // over_us,
        latest=last.health,
    )


def _more(before: int | None, after: int | None) -> int | None:
    """Difference of a counter that only grows; None where one is not known, or where it began anew."""
    if before is None or after is None or after < before:
        return None
    return after - before
