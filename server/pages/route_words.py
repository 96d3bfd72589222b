"""What a test found out about the way itself, in words: for the terminal and the page alike. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from analytics.measurement import Hop, Reading, RouteChange
from server.pages.load_words import load_notes

ECN: Final = ("not ECT", "ECT(1)", "ECT(0)", "CE")  # RFC 3168 section 5
CE: Final = 3
FULL_MTU: Final = 1500

CHANGES: Final[dict[RouteChange, str]] = {
    RouteChange.FIRST: "the first that was seen",
    RouteChange.SAME: "unchanged",
    RouteChange.COMPATIBLE: "unchanged as far as hops answered",
    RouteChange.BALANCED: "one of several in use: load is balanced",
    RouteChange.CHANGED: "new: it was another before",
    RouteChange.UNKNOWN: "",
}


def hop_notes(hop: Hop, reading: Reading) -> list[str]:
    """What is to be said of one hop, besides its times."""
    return [
        *(["limits its answers"] if hop.rate_limited else []),
        *([f"balanced with {hop.others.replace(' ', ', ')}"] if hop.others else []),
        *([f"MPLS {_labels(hop.mpls)}"] if hop.mpls else []),
        *([f"bound for {hop.rewritten.replace(' ', ' port ')} here"] if hop.rewritten else []),
        *([f"came in with {class_words(hop.traffic_class)}"] if _is_changed(hop, reading) else []),
    ]


def path_notes(reading: Reading, hops: Sequence[Hop]) -> list[str]:
    """What is to be said of the whole way, a sentence each."""
    return [*_route(reading), *_mtu(reading), *_classes(reading, hops), *load_notes(reading)]


def class_words(traffic_class: int | None) -> str:
    """DSCP and ECN of a traffic class."""
    if traffic_class is None:
        return "not known"
    return f"DSCP {traffic_class >> 2}, {ECN[traffic_class & 3]}"


def changed_at(reading: Reading, hops: Sequence[Hop]) -> Hop | None:
    """Find the first hop that a probe came in to with another traffic class than it left with."""
    return next((hop for hop in sorted(hops, key=lambda hop: hop.ttl) if _is_changed(hop, reading)), None)


def _is_changed(hop: Hop, reading: Reading) -> bool:
    return None not in (hop.traffic_class, reading.class_sent) and hop.traffic_class != reading.class_sent


def _labels(stack: str) -> str:
    """'16004/0/1/1' as people say it."""
    parts = (entry.split("/") for entry in stack.split())
    return ", ".join(f"label {part[0]}" for part in parts)


def _route(reading: Reading) -> Iterator[str]:
    if reading.route_id:
        yield f"Route {reading.route_id}: {CHANGES[reading.route_change]}."


def _mtu(reading: Reading) -> Iterator[str]:
    if reading.path_mtu is None:
        return
    more = " or more" if reading.path_mtu >= FULL_MTU else ""
    hole = "; larger packets vanish without a word (black hole)" if reading.mtu_black_hole else ""
    yield f"Path MTU {reading.path_mtu} B{more}{hole}."


def _classes(reading: Reading, hops: Sequence[Hop]) -> Iterator[str]:
    sent, arrived = reading.class_sent, reading.class_arrived
    if sent is None or arrived is None:
        return
    if sent == arrived:
        yield "DSCP and ECN arrive as they left."
        return
    dscp = f"DSCP {sent >> 2} arrives as {arrived >> 2}" if sent >> 2 != arrived >> 2 else ""
    if sent | CE == arrived:
        yield "Routers on the way mark most hop probes as congested (CE)."
        return
    ecn = f"{ECN[sent & 3]} arrives as {ECN[arrived & 3]}" if sent & 3 != arrived & 3 else ""
    at = changed_at(reading, hops)
    where = f"changed by hop {at.ttl} ({at.address}) or just before it" if at else "where is not known"
    yield f"{' and '.join(part for part in (dscp, ecn) if part)}: {where}."
