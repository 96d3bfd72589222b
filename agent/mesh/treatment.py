"""What a deep trace finds, and how a network treats one protocol differently from another. Pure.

``agent/mesh/deep.py`` makes the traces in a process of its own; ``agent/deep.py`` asks it and shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal

import msgspec

Protocol = Literal["tcp", "icmp", "udp"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("tcp", "icmp", "udp")
ROUNDS: Final = 3
MAX_TTL: Final = 30
DSCP: Final = 10
"""AF11 (RFC 2597), which all probes carry: who clears it is seen in what the next router quotes."""

UNREACHABLE: Final = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port closed",
    4: "too long",
    9: "network prohibited",
    10: "host prohibited",
    13: "filtered",
}
"""Codes of ICMP destination unreachable (RFC 792, RFC 1122, RFC 1812)."""


class DeepOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be traced."""

    address: str  # IPv4
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    protocols: list[Protocol]
    rounds: Annotated[int, msgspec.Meta(ge=1, le=10)] = ROUNDS
    max_ttl: Annotated[int, msgspec.Meta(ge=1, le=64)] = MAX_TTL


class DeepHop(msgspec.Struct, frozen=True, kw_only=True):
    """Who answered one protocol's probes at one TTL."""

    ttl: int
    sent: int
    answered: int = 0
    address: str = ""  # empty = nobody
    others: list[str] = []
    rtt_min_us: int | None = None
    mpls: str = ""  # label/TC/S/TTL of each label, outermost first
    answer: str = ""  # of the end or of who refused: "open", "closed", "echo", "port closed", "filtered" ...
    is_end: bool = False
    dscp: int | None = None  # of the probe as it came in here; None = not told, as by every end


class DeepTrace(msgspec.Struct, frozen=True, kw_only=True):
    """One protocol's way to the service."""

    protocol: Protocol
    hops: list[DeepHop]

    @property
    def reached(self) -> bool:
        """True if the end itself answered."""
        return any(hop.is_end for hop in self.hops)

    @property
    def last_answer(self) -> DeepHop | None:
        """The farthest hop that answered."""
        return next((hop for hop in reversed(self.hops) if hop.address), None)


def differences(traces: Sequence[DeepTrace]) -> list[str]:
    """Say where a protocol fares otherwise than TCP (without it, than ICMP), and where DSCP is changed."""
    first, *others = ordered = sorted(traces, key=lambda trace: PROTOCOLS.index(trace.protocol))
    return [
        *(sentence for other in others for sentence in (*_ends(first, other), *_ways(first, other))),
        *_changed_dscp(ordered),
    ]


def _ends(one: DeepTrace, other: DeepTrace) -> Iterator[str]:
    """Where one of two gets through and the other does not."""
    if one.reached == other.reached:
        return
    through, stuck = (one, other) if one.reached else (other, one)
    name, better = stuck.protocol.upper(), through.protocol.upper()
    last = stuck.last_answer
    if last is None:
        yield f"{name} gets no answer at all, {better} reaches the end."
    elif last.answer:
        # A router that forwards nothing answers for the TTL behind its own too.
        at = next(hop.ttl for hop in stuck.hops if hop.address == last.address)
        yield f"{name} is refused at hop {at} by {last.address} ({last.answer}); {better} gets through."
    elif last.ttl + 1 >= len(through.hops):
        yield f"{name} gets as far as hop {last.ttl} ({last.address}); the end answers {better} only."
    else:
        where = f"{last.ttl} ({last.address})"
        yield f"{name} vanishes after hop {where}, {better} gets through: a filter, likely."


def _ways(one: DeepTrace, other: DeepTrace) -> Iterator[str]:
    """The first hop at which two protocols pass different routers."""
    for a, b in zip(one.hops, other.hops, strict=False):
        if _passes(a) and _passes(b) and not _shared(a, b):
            yield (
                f"{other.protocol.upper()} goes another way than {one.protocol.upper()} at hop {a.ttl}: "
                f"{b.address} instead of {a.address} (a rule by protocol, or load balancing by flow)."
            )
            return


def _changed_dscp(traces: Sequence[DeepTrace]) -> Iterator[str]:
    """Where DSCP is first seen changed, each place once, with the protocols that it befalls."""
    places: dict[str, list[str]] = {}
    for trace in traces:
        hop = next((hop for hop in trace.hops if hop.dscp not in (None, DSCP)), None)
        if hop is not None:
            place = f"DSCP {DSCP} comes in as {hop.dscp} at hop {hop.ttl} ({hop.address})"
            places.setdefault(place, []).append(trace.protocol.upper())
    for place, protocols in places.items():
        yield f"{place}: changed there or just before, for {', '.join(protocols)}."


def _passes(hop: DeepHop) -> bool:
    """True where somebody is known to be on the way here: who refuses may stand before."""
    return bool(hop.address) and (hop.is_end or not hop.answer)


def _shared(a: DeepHop, b: DeepHop) -> bool:
    return bool({a.address, *a.others} & {b.address, *b.others})
