"""Numbers and names as people read them: used by the pages and by the terminal, so that both say the same.

``None`` (not measured) is a dash everywhere, never 0. A number and its unit are joined by a no-break space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from analytics import words
from analytics.measurement import Direction, Flow, Grade, Leg, LegKind, Letter, Rung
from analytics.passive import Application, percent_of_busy
from analytics.report import Member, PathRow

NOTHING: Final = "\N{EN DASH}"
NBSP: Final = "\N{NO-BREAK SPACE}"

RUNG_SHORT: Final[dict[Rung, str]] = {
    Rung.LAN: "direct · LAN",
    Rung.IPV6: "direct · IPv6",
    Rung.SRFLX: "direct · NAT",
    Rung.RELAY_UDP: "relay · UDP",
    Rung.RELAY_TCP: "relay · TCP",
    Rung.RELAY_TLS: "relay · TLS",
    Rung.NONE: "no way through",
}
RUNG_LONG: Final[dict[Rung, str]] = {
    Rung.LAN: "direct, in the same network",
    Rung.IPV6: "direct over IPv6",
    Rung.SRFLX: "direct through NAT, server reflexive",
    Rung.RELAY_UDP: "through a relay, TURN over UDP",
    Rung.RELAY_TCP: "through a relay, TURN over TCP",
    Rung.RELAY_TLS: "through a relay, TURN over TLS",
    Rung.NONE: "not connected",
}
RUNG_NAME: Final[dict[str, str]] = {
    "lan": "LAN",
    "ipv6": "IPv6",
    "srflx": "server reflexive",
    "relay-udp": "relay over UDP",
    "relay-tcp": "relay over TCP",
    "relay-tls": "relay over TLS",
}

WAY: Final[dict[Direction, str]] = {
    Direction.OUT: "to",
    Direction.IN: "from",
    Direction.UNKNOWN: "with",
}
LETTER_MEANING: Final[dict[Letter, str]] = {
    Letter.A: "excellent",
    Letter.B: "good",
    Letter.C: "fair",
    Letter.D: "poor",
    Letter.F: "unusable",
    Letter.UNREACHABLE: "cannot connect",
    Letter.UNKNOWN: "withheld",
}


_S_PER_MIN: Final = 60
_S_PER_H: Final = 3600
_S_PER_DAY: Final = 86_400


def ms(us: int | None) -> str:
    """Write a duration in milliseconds: 0.31, 8.4, 49.2, 260. Columns keep a digit more than sentences do."""
    if us is None:
        return NOTHING
    value = us / 1000
    digits = 2 if value < 1 else 1 if value < 100 else 0
    return f"{value:.{digits}f}{NBSP}ms"


def tenths(us: int | None) -> str:
    """Write a duration in milliseconds with one decimal and no unit: for columns that are compared."""
    return NOTHING if us is None else f"{us / 1000:.1f}"


def duration(us: int | None) -> str:
    """Write a duration in the unit that suits it: 850 ms, 4.1 s, 41 s, 3 min."""
    return NOTHING if us is None else _joined(words.span(us))


_US_PER: Final[dict[str, int]] = {"us": 1, "ms": 1000, "s": 1_000_000}


def outcome(value: int | None, unit: str) -> str:
    """Write a grade's outcome: a duration in the unit that suits it, anything else as it is."""
    if value is None:
        return NOTHING
    if unit in _US_PER:
        return duration(value * _US_PER[unit])
    return f"{value}{NBSP}{unit}".rstrip(NBSP)


def expected(grade: Grade) -> str:
    """Write what a grade expects; '≤ 20 s' where that is already the most that the inputs allow."""
    shown = outcome(grade.outcome, grade.unit)
    low, high = grade.outcome_low, grade.outcome_high
    is_time = grade.unit in _US_PER
    is_bound = is_time and grade.outcome is not None and low is not None and low < grade.outcome == high
    return f"≤{NBSP}{shown}" if is_bound else shown


def interval(low: int | None, high: int | None, unit: str) -> str:
    """Write what the inputs support: '38 s to 44 s', 'at most 44 s', or nothing where there is one value."""
    if low is None and high is None:
        return ""
    if low is None:
        return f"at most {outcome(high, unit)}"
    if high is None:
        return f"at least {outcome(low, unit)}"
    return "" if low == high else f"{outcome(low, unit)} to {outcome(high, unit)}"


def loss(bp: int | None) -> str:
    """Write a loss given in basis points as a percentage."""
    if bp is None:
        return NOTHING
    return _joined(words.percent(bp / 10_000)) if bp else f"0{NBSP}%"


def rate(kbps: int | None) -> str:
    """Write a rate: 850 kbit/s, 18 Mbit/s, 1.2 Gbit/s."""
    return NOTHING if kbps is None else _joined(words.rate(kbps))


def capacity(kbps: int | None, trust: str) -> str:
    """Write a capacity with its trust: what came in bunches is a lower bound."""
    return f"≥{NBSP}{rate(kbps)}" if kbps is not None and trust == "at-least" else rate(kbps)


def size(count: int) -> str:
    """Write a number of bytes: 812 B, 52.6 MB (powers of ten, as networks count)."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            value = count / scale
            return f"{value:.{1 if value < 100 else 0}f}{NBSP}{unit}"
    return f"{count}{NBSP}B"


def _joined(sentence_part: str) -> str:
    return sentence_part.replace(" ", NBSP)


def share(part: int, whole: int) -> int | None:
    """Give a share in basis points; None of nothing."""
    return 10_000 * part // whole if whole else None


def limited(flow: Flow) -> str:
    """Write which end held the sending up, and for what share of it: 'receiver 68 %'."""
    part_us, whose = max((flow.rwnd_limited_us, "receiver"), (flow.sndbuf_limited_us, "sender"))
    percent = percent_of_busy(flow, part_us)
    return f"{whose} {percent}{NBSP}%" if percent else NOTHING


def service(told: Flow | Application) -> str:
    """Say with whom a session was: 'to 198.51.100.66 port 443'."""
    return f"{WAY[told.direction]} {told.remote_address} port {told.service_port}"


def subject(application: Application) -> str:
    """Name a row of applications: the process, or the destination."""
    return service(application) if application.remote_address else application.process or "unknown"


def hours(letters: Sequence[Letter | None]) -> str:
    """Say a timeline: '20 h A, 3 h B, 1 h no session'."""
    counts = Counter(letters)
    named = [f"{counts[letter]} h {letter.value}" for letter in Letter if counts[letter]]
    return ", ".join([*named, f"{counts[None]} h no session"] if counts[None] else named)


def why(application: Application) -> str:
    """Say why an application has its letter, and what else held it up."""
    return "; ".join(filter(None, (application.grade.reason, application.held_up)))


def age(seconds: int) -> str:
    """Write an age in its largest whole unit."""
    if seconds < 2 * _S_PER_MIN:
        return f"{max(0, seconds)}{NBSP}s"
    if seconds < 2 * _S_PER_H:
        return f"{seconds // _S_PER_MIN}{NBSP}min"
    if seconds < 2 * _S_PER_DAY:
        return f"{seconds // _S_PER_H}{NBSP}h"
    return f"{seconds // _S_PER_DAY}{NBSP}d"


def age_of(row: PathRow) -> str:
    """Write the age of a path, and that it is this old because the budget put its test off."""
    return f"{age(row.age_s)}: budget" if row.put_off else age(row.age_s)


def since(row: PathRow) -> str:
    """Say of a watched path since when it is as it is, in a sentence; empty for another."""
    if not row.watched:
        return ""
    told = (
        (f"{row.grade.letter.value} since", row.letter_since_us),
        ("loses packets since", row.lossy_since_us),
    )
    moments = ", ".join(f"{what} {clock(at_us)}" for what, at_us in told if at_us is not None)
    return f"Tested between cycles, too{moments and ': '}{moments}."


def clock(us: int) -> str:
    """Write a moment in UTC to the second."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(us: int) -> str:
    """Write a moment in UTC as a machine reads it (RFC 3339)."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def plural(count: int, one: str, many: str = "") -> str:
    """Write a count with its noun in the right number."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def person(member: Member) -> str:
    """Say what people call an agent."""
    return member.label or member.name


def possessive(name: str) -> str:
    """Write whose it is: radiologist's, pacs'."""
    return f"{name}'" if name.endswith("s") else f"{name}'s"


def leg_name(leg: Leg, row: PathRow) -> str:
    """Name a leg of a path: 'hotel access', 'transit', 'radiologist's host'."""
    if row.rung is Rung.LAN:
        return "local network"
    names = {
        LegKind.SOURCE_HOST: f"{possessive(row.src)} host",
        LegKind.SOURCE_ACCESS: f"{leg.site or row.src_site} access",
        LegKind.TRANSIT: "transit",
        LegKind.DESTINATION_ACCESS: f"{leg.site or row.dst_site} access",
        LegKind.DESTINATION_HOST: f"{possessive(row.dst)} host",
    }
    return names[leg.kind]


def rungs_failed(told: str) -> list[tuple[str, str]]:
    """Read ``Reading.rungs_failed`` ('lan: why; ipv6: why') as pairs of rung name and reason."""
    pairs = (item.partition(":") for item in told.split(";") if item.strip())
    return [(RUNG_NAME.get(rung.strip(), rung.strip()), why.strip()) for rung, _, why in pairs]
