"""Numbers as the sentences of grades and of the verdict say them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_S_US: Final = 1_000_000
_MIN_US: Final = 60 * _S_US
_H_US: Final = 60 * _MIN_US


def span(us: int) -> str:
    """Write a duration: '850 ms', '8.4 s', '41 s', '3 min', '2 h'."""
    if us < _S_US:
        return f"{ms(us)} ms"
    if us < 2 * _MIN_US:
        return f"{us / _S_US:.{1 if us < 9_950_000 else 0}f} s"
    if us < 2 * _H_US:
        return f"{us / _MIN_US:.0f} min"
    return f"{us / _H_US:.0f} h"


def ms(us: int) -> str:
    """Write milliseconds without the unit: '0.31', '8.4', '49', '212'."""
    value = us / 1000
    digits = 2 if value < 1 else 1 if value < 10 else 0
    return f"{value:.{digits}f}"


def rate(kbps: int) -> str:
    """Write a rate: '850 kbit/s', '9.4 Mbit/s', '94 Mbit/s', '1.2 Gbit/s'."""
    if kbps < 1_000:
        return f"{kbps} kbit/s"
    if kbps < 1_000_000:
        return f"{kbps / 1e3:.{1 if kbps < 9_950 else 0}f} Mbit/s"
    return f"{kbps / 1e6:.1f} Gbit/s"


def size(count: int) -> str:
    """Write a number of bytes: '812 B', '91 kB', '52.6 MB' (powers of ten, as networks count)."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            value = count / scale
            return f"{value:.{1 if value < 100 else 0}f} {unit}"
    return f"{count} B"


def moment(at_us: int) -> str:
    """Write a moment of the last day or so: '09:41 UTC'; the page beside it says the day."""
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%H:%M} UTC"


def since(at_us: int, now_us: int) -> str:
    """Write since when: '09:41 UTC' of today, else with the day, '23 Nov 09:41 UTC'."""
    at, now = (datetime.fromtimestamp(us / 1e6, UTC) for us in (at_us, now_us))
    day = "" if at.date() == now.date() else f"{at.day} {at:%b} "
    return f"{day}{moment(at_us)}"


def percent(share: float) -> str:
    """Write a share as a percentage: '0.33 %', '1.2 %', '12 %'."""
    value = 100 * share
    digits = 2 if value < 1 else 1 if value < 10 else 0
    return f"{value:.{digits}f} %"


def count(number: int, one: str) -> str:
    """Write a count with its noun in the right number: '1 segment', '1,204 segments'."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def capital(sentence: str) -> str:
    """Begin with a capital letter, the rest as it is."""
    return sentence[:1].upper() + sentence[1:]
