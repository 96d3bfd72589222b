"""The vocabulary: one definition of every fact and judgement that leaves a process.

Facts (``Reading``, ``Hop``, ``Flow``, ``Receipt``) are written once and never changed. Judgements (``Grade``,
``Leg``) are recomputed from facts at any time and name the rule behind them.

From these structs, and from nowhere else, come the wire columns, the Arrow and Parquet schemas, the DuckDB
views and ``docs/schema.md``. Integers throughout: microseconds (``_us``), basis points (``_bp``, 1/100 of a
percent), kilobits per second (``_kbps``). A value that was not measured is ``None``, never 0.

This module needs msgspec only, so that the agent can use it without an analytics engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

import msgspec

from analytics.histogram import BUCKETS

NAME_PATTERN: Final = r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?\Z"  # $ would let a newline follow
"""An agent, site or tenant: also usable as a folder and in a URL, hence the narrow alphabet."""


def named(description: str) -> msgspec.Meta:
    """A column that names an agent, site or tenant."""
    return msgspec.Meta(min_length=1, max_length=63, pattern=NAME_PATTERN, description=description)


def text(description: str, *, most: int = 255) -> msgspec.Meta:
    """A column of text of at most ``most`` characters."""
    return msgspec.Meta(max_length=most, description=description)


def choice(description: str) -> msgspec.Meta:
    """A column whose values are those of its enumeration."""
    return msgspec.Meta(description=description)


def whole(description: str, unit: str, *, ge: int = 0, le: int = 2**62) -> msgspec.Meta:
    """A column of integers in ``unit``, bounded; the bounds are checked before a batch is acknowledged."""
    return msgspec.Meta(ge=ge, le=le, description=description, extra={"unit": unit})


def us(description: str) -> msgspec.Meta:
    """A duration in microseconds, at most an hour: longer is a clock fault, not a latency."""
    return whole(description, "us", le=3_600_000_000)


def at_us(description: str) -> msgspec.Meta:
    """A moment in microseconds since 1970-01-01 UTC."""
    return whole(description, "us since 1970")


def histogram(description: str, unit: str) -> msgspec.Meta:
    """A column of sparse histograms (``analytics/histogram.py``): bucket, count, bucket, count ..."""
    return msgspec.Meta(max_length=2 * BUCKETS, description=description, extra={"unit": unit})


def count(description: str) -> msgspec.Meta:
    """A number of things."""
    return whole(description, "")


class Rung(StrEnum):
    """How two agents reached each other; the order is the order of the ladder (RFC 8445 candidate types)."""

    LAN = "lan"
    IPV6 = "ipv6"
    SRFLX = "srflx"
    RELAY_UDP = "relay-udp"
    RELAY_TCP = "relay-tcp"
    RELAY_TLS = "relay-tls"
    NONE = "none"

    @property
    def relayed(self) -> bool:
        """True where the packets pass a TURN server: such a path is never called direct."""
        return self.value.startswith("relay")


class StampSource(StrEnum):
    """Who read the clock: the kernel at the socket, or this process after it was scheduled."""

    KERNEL = "kernel"
    USER = "user"


class CapacityTrust(StrEnum):
    """What a dispersion result may be called."""

    MEASURED = "measured"
    AT_LEAST = "at-least"
    NONE = "none"


class RouteChange(StrEnum):
    """How a test's route stands to those that its sender saw before (``agent/mesh/route.py``)."""

    FIRST = "first"
    SAME = "same"
    COMPATIBLE = "compatible"
    BALANCED = "balanced"
    CHANGED = "changed"
    UNKNOWN = "unknown"


class Direction(StrEnum):
    """Who opened a TCP session, seen from this host."""

    OUT = "out"
    IN = "in"
    UNKNOWN = "unknown"


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """ONE DIRECTION of one pair test, told by the end that sent it."""

    tenant: Annotated[str, named("tenant the agents belong to")]
    cycle: Annotated[int, whole("cycle the test belongs to: its start", "s since 1970")]
    test: Annotated[str, text("id of the pair test, shared by both directions", most=32)]
    src: Annotated[str, named("agent that sent")]
    dst: Annotated[str, named("agent that received")]
    started_us: Annotated[int, at_us("when the test began, by src's clock")]
    ended_us: Annotated[int, at_us("when the test ended, by src's clock")]
    rung: Annotated[Rung, choice("rung of the ladder the test ran over; none = unreachable")]
    rungs_failed: Annotated[str, text("why each higher rung failed: 'lan: why; ipv6: why'", most=1000)] = ""
    local_candidate: Annotated[str, text("src's end of the nominated pair: 'type address port'")] = ""
    remote_candidate: Annotated[str, text("dst's end of the nominated pair: 'type address port'")] = ""
    connect_us: Annotated[int, us("from the first check to the DTLS session")] | None = None
    connect_total_us: (
        Annotated[int, us("from the order to the DTLS session, rungs that failed included")] | None
    ) = None
    sent: Annotated[int, count("probes src sent to dst")] = 0
    received: Annotated[int, count("different probes that dst received, by dst's own count")] = 0
    duplicated: Annotated[int, count("probes dst received more than once")] = 0
    reordered: Annotated[int, count("probes dst received after a later one (RFC 4737)")] = 0
    loss_bursts: Annotated[int, count("runs of probes lost in a row (RFC 3357), by dst's record")] | None = (
        None
    )
    loss_longest: Annotated[int, count("probes lost in the longest of them")] | None = None
    rtt_n: Annotated[int, count("round trips measured by src, spoiled ones left out")] = 0
    rtt_min_us: Annotated[int, us("least round trip")] | None = None
    rtt_p10_us: Annotated[int, us("10th percentile of the round trip")] | None = None
    rtt_p25_us: Annotated[int, us("25th percentile of the round trip")] | None = None
    rtt_p50_us: Annotated[int, us("median round trip")] | None = None
    rtt_p75_us: Annotated[int, us("75th percentile of the round trip")] | None = None
    rtt_p90_us: Annotated[int, us("90th percentile of the round trip")] | None = None
    rtt_p95_us: Annotated[int, us("95th percentile of the round trip")] | None = None
    rtt_p99_us: Annotated[int, us("99th percentile of the round trip")] | None = None
    ipdv_us: Annotated[int, us("mean |difference| of successive one-way delays (RFC 3393)")] | None = None
    one_way_min_us: (
        Annotated[int, us("least delay src -> dst; None where the clocks do not allow to tell")] | None
    ) = None
    one_way_p50_us: Annotated[int, us("median delay src -> dst")] | None = None
    one_way_bound_us: Annotated[int, us("how far the truth may be from these two")] | None = None
    queueing_p50_us: (
        Annotated[int, us("median delay src -> dst above its own least; needs no common clock")] | None
    ) = None
    queueing_p95_us: Annotated[int, us("95th percentile of it")] | None = None
    capacity_kbps: (
        Annotated[int, whole("capacity src -> dst by packet-train dispersion, IP layer", "kbit/s")] | None
    ) = None
    capacity_trust: Annotated[CapacityTrust, choice("measured, at-least (a lower bound), or none")] = (
        CapacityTrust.NONE
    )
    capacity_why: Annotated[str, text("what keeps capacity from being measured", most=80)] = ""
    rtt_loaded_n: Annotated[int, count("round trips during one of src's packet trains")] = 0
    rtt_loaded_p50_us: (
        Annotated[int, us("median round trip while src's train filled the path; None = too short to tell")]
        | None
    ) = None
    rtt_loaded_p95_us: Annotated[int, us("95th percentile of it")] | None = None
    stamps: Annotated[StampSource, choice("clock of the round trips")] = StampSource.USER
    spoiled: Annotated[int, count("round trips left out because this agent was not scheduled in time")] = 0
    timer_late_p50_us: Annotated[int, us("median lateness of src's own pacing timers")] | None = None
    timer_late_p99_us: Annotated[int, us("99th percentile of it")] | None = None
    sent_bytes: (
        Annotated[int, whole("all that src sent on the test's 5-tuple, IP headers included", "B")] | None
    ) = None
    route_id: Annotated[str, text("name of the route; the same while nothing speaks against it", most=16)] = (
        ""
    )
    route_change: Annotated[
        RouteChange,
        choice("same, compatible (hops unknown), balanced (an earlier one again), changed, first"),
    ] = RouteChange.UNKNOWN
    path_mtu: Annotated[int, whole("largest IP packet that src got to dst; 1500 = or more", "B")] | None = (
        None
    )
    mtu_black_hole: (
        Annotated[int, whole("1 = larger packets vanish without an ICMP error", "", le=1)] | None
    ) = None
    mtu_probes: Annotated[int, count("datagrams sent to find path_mtu")] = 0
    class_sent: (
        Annotated[int, whole("traffic class (DSCP, ECN) that src's hop probes left with", "", le=255)] | None
    ) = None
    class_arrived: (
        Annotated[int, whole("traffic class that most of them reached dst with", "", le=255)] | None
    ) = None
    error: Annotated[str, text("why the test broke off; empty if it ended", most=500)] = ""


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """One hop of one route in one cycle, on the 5-tuple of the probes."""

    tenant: Annotated[str, named("tenant the agents belong to")]
    cycle: Annotated[int, whole("cycle the test belongs to: its start", "s since 1970")]
    test: Annotated[str, text("id of the pair test", most=32)]
    src: Annotated[str, named("agent that sent")]
    dst: Annotated[str, named("agent at the other end")]
    ttl: Annotated[int, whole("hops from src", "", ge=1, le=255)]
    address: Annotated[str, text("who answered; empty = nobody", most=45)] = ""
    is_end: Annotated[int, whole("1 = the end of the 5-tuple (dst, or the relay) answered", "", le=1)] = 0
    sent: Annotated[int, count("TTL-limited probes sent")] = 0
    answered: Annotated[int, count("of them answered")] = 0
    rtt_min_us: Annotated[int, us("least round trip to this hop")] | None = None
    rtt_p50_us: Annotated[int, us("median round trip to this hop")] | None = None
    rtt_p95_us: Annotated[int, us("95th percentile of the round trip to this hop")] | None = None
    route_id: Annotated[str, text("name of the route it is on, as in the reading", most=16)] = ""
    others: Annotated[str, text("who else answered here on this one flow, by spaces: balanced by packet")] = (
        ""
    )
    rate_limited: Annotated[
        int, whole("1 = answered some only, while a later hop answered all", "", le=1)
    ] = 0
    mpls: Annotated[str, text("label/TC/S/TTL of each MPLS label (RFC 4950), outermost first", most=400)] = ""
    rewritten: Annotated[
        str, text("'address port' that the probe was going to here, if not dst's", most=60)
    ] = ""
    traffic_class: (
        Annotated[int, whole("DSCP and ECN of the probe as it came in here; needs a raw socket", "", le=255)]
        | None
    ) = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What both ends of a pair test signed of one direction's reading (``analytics/receipts.py``)."""

    tenant: Annotated[str, named("tenant the agents belong to")]
    cycle: Annotated[int, whole("cycle the test belongs to: its start", "s since 1970")]
    test: Annotated[str, text("id of the pair test, as in the reading", most=32)]
    src: Annotated[str, named("agent that sent, and wrote the reading")]
    dst: Annotated[str, named("agent that received")]
    layout: Annotated[int, count("schema version whose columns of a reading are signed")]
    signed_us: Annotated[int, at_us("when src signed, by src's clock")]
    src_key: Annotated[str, text("src's identity key: 'ed25519:' and base64", most=60)]
    src_signature: Annotated[str, text("src's signature of the reading, base64", most=88)]
    dst_key: Annotated[str, text("dst's identity key, as src knows it", most=60)] = ""
    dst_signature: Annotated[str, text("dst's signature of the same, base64; empty = none", most=88)] = ""
    why_not: Annotated[str, text("why dst did not sign; empty where it did", most=40)] = ""


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """TCP sessions of one process with one remote service in one window, summed."""

    tenant: Annotated[str, named("tenant the agent belongs to")]
    agent: Annotated[str, named("agent that saw the sessions")]
    window_us: Annotated[int, at_us("start of the window")]
    window_length_us: Annotated[int, us("length of the window")]
    process: Annotated[str, text("command name (comm) of the owner; empty = unknown", most=64)] = ""
    pid: Annotated[int, whole("thread group id of the owner, the last one seen", "")] | None = None
    uid: Annotated[int, whole("user the owner runs as", "")] | None = None
    executable: Annotated[str, text("path of the owner's program, in its own root; empty = unknown")] = ""
    unit: Annotated[str, text("systemd unit of the owner; empty = none, or unknown")] = ""
    container: Annotated[str, text("id of the owner's container; empty = none", most=64)] = ""
    direction: Annotated[Direction, choice("out = this host connected")] = Direction.UNKNOWN
    local_address: Annotated[str, text("this host's address", most=45)] = ""
    remote_address: Annotated[str, text("the peer's address", most=45)] = ""
    service_port: Annotated[int, whole("port of the side that listened", "", le=65535)] = 0
    netns: Annotated[int, whole("inode of the network namespace", "")] = 0
    opened: Annotated[int, count("sessions established in the window")] = 0
    closed: Annotated[int, count("sessions closed in the window, established before")] = 0
    failed: Annotated[int, count("attempts refused or never answered")] = 0
    resets_sent: Annotated[int, count("sessions that this host ended with a reset")] = 0
    resets_received: Annotated[int, count("sessions that the peer ended with a reset")] = 0
    guessed: Annotated[int, count("sessions whose owner is a guess: never used, so the listener's")] = 0
    bytes_sent: Annotated[int, whole("payload bytes the peer acknowledged", "B")] = 0
    bytes_received: Annotated[int, whole("payload bytes received", "B")] = 0
    bytes_retransmitted: Annotated[int, whole("payload bytes sent again", "B")] = 0
    segments_sent: Annotated[int, count("segments with data sent, repeats included")] = 0
    segments_retransmitted: Annotated[int, count("segments sent again")] = 0
    dsack_duplicates: Annotated[int, count("segments the peer had already (RFC 2883)")] = 0
    reordering_seen: Annotated[int, count("times the kernel saw segments overtake each other")] = 0
    duration_us: Annotated[int, whole("time from open to close, summed over closed sessions", "us")] = 0
    busy_us: Annotated[int, whole("time with something to send, summed", "us")] = 0
    rwnd_limited_us: Annotated[int, whole("of it, held up by the peer's receive window", "us")] = 0
    sndbuf_limited_us: Annotated[int, whole("of it, held up by this host's send buffer", "us")] = 0
    rtt_min_us: Annotated[int, us("least min_rtt of the sessions (kernel)")] | None = None
    srtt_us: Annotated[int, us("median over sessions of the kernel's smoothed round trip")] | None = None
    srtt_histogram: Annotated[tuple[int, ...], histogram("smoothed round trips of the sessions", "us")] = ()
    srtt_lasting_histogram: Annotated[
        tuple[int, ...], histogram("of those, of sessions that lasted 0.5 s or longer", "us")
    ] = ()
    connect_us: Annotated[int, us("median time from SYN to established, active side only")] | None = None
    delivery_kbps: (
        Annotated[int, whole("greatest delivery rate that the application did not limit", "kbit/s")] | None
    ) = None
    congestion: Annotated[str, text("congestion control of this host's end, the last seen", most=16)] = ""
    source: Annotated[Literal["ebpf", "inet_diag"], choice("what saw the sessions")] = "ebpf"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One TCP session of one process. Stays on its host: agents hand on flows."""

    id: str  # of this life of the agent
    at_us: int  # when it was looked at: its close, or now
    open: bool
    state: str
    process: str
    pid: int | None
    thread: int | None
    uid: int | None
    executable: str
    unit: str
    container: str
    guessed: bool  # the owner is a guess
    netns: int
    direction: Direction
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    service_port: int
    established: bool
    connect_us: int | None
    duration_us: int | None  # None where its beginning was not seen
    srtt_us: int | None
    rttvar_us: int | None
    min_rtt_us: int | None
    bytes_sent: int  # payload the peer acknowledged
    bytes_received: int
    bytes_retransmitted: int
    segments_sent: int  # with data, repeats included
    segments_received: int
    segments_retransmitted: int
    segments_lost: int
    reordering_seen: int
    dsack_duplicates: int
    busy_us: int
    rwnd_limited_us: int
    sndbuf_limited_us: int
    mss: int
    cwnd: int
    peer_window: int
    delivery_kbps: int | None
    app_limited: bool
    congestion: str
    resets_sent: bool
    resets_received: bool
    error: str  # name of the errno it ended with; empty = none
    fast_open: bool
    source: Literal["ebpf", "inet_diag"] = "ebpf"


class Letter(StrEnum):
    """A grade. ``X`` is counted as F and said as 'cannot connect'; ``?`` is a letter withheld."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"
    F = "F"
    UNREACHABLE = "X"
    UNKNOWN = "?"


class Grade(msgspec.Struct, frozen=True, kw_only=True):
    """A judgement of one directed path for one application profile, with the rule behind it."""

    profile: str
    letter: Letter
    outcome: int | None = None  # in `unit`; None where nothing could be predicted
    outcome_low: int | None = None  # the interval that the inputs support
    outcome_high: int | None = None
    unit: str = ""
    reason: str = ""  # one clause in plain English
    rule: str = ""
    rules_version: str = ""


class LegKind(StrEnum):
    """Where on a path a piece of the round trip was spent, from the source's end to the destination's."""

    SOURCE_HOST = "source-host"
    SOURCE_ACCESS = "source-access"
    TRANSIT = "transit"
    DESTINATION_ACCESS = "destination-access"
    DESTINATION_HOST = "destination-host"


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """One leg's share of a path's least round trip. The legs of a path sum to it exactly."""

    kind: LegKind
    site: str  # whose leg it is; empty for transit
    rtt_us: int
    measured: bool = True  # False: no hop answered here, so the time is counted in the neighbouring leg


FACTS: Final[dict[str, type[msgspec.Struct]]] = {
    "readings": Reading,
    "hops": Hop,
    "flows": Flow,
    "receipts": Receipt,
}
"""Table name -> the struct one row is. The name is also the folder of its Parquet files."""

SORT_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "readings": ("tenant", "src", "dst", "cycle"),
    "hops": ("tenant", "src", "dst", "cycle", "ttl"),
    "flows": ("tenant", "agent", "window_us"),
    "receipts": ("tenant", "src", "dst", "cycle"),
}

OWNER: Final[dict[str, str]] = {"readings": "src", "hops": "src", "flows": "agent", "receipts": "src"}
"""The column that must name the agent whose credential sent the row."""


Kind = Literal["int", "str", "ints"]
"""What a column holds: an integer, text, or a sparse histogram (``analytics/histogram.py``)."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a fact table, as derived from its struct."""

    name: str
    kind: Kind
    nullable: bool
    default: Any  # of a row that says nothing; None where the struct has no default
    description: str
    unit: str
    ge: int | None
    le: int | None
    choices: tuple[str, ...]  # of an enumeration; empty = any text
    max_length: int | None
    pattern: str | None


def columns(table: type[msgspec.Struct]) -> tuple[Column, ...]:
    """Derive the columns of a fact table from its struct, in field order."""
    hints = get_type_hints(table, include_extras=True)
    info = msgspec.inspect.type_info(table)
    assert isinstance(info, msgspec.inspect.StructType)
    return tuple(_column(field, hints[field.name]) for field in info.fields)


_KINDS: Final[dict[type[msgspec.inspect.Type], Kind]] = {
    msgspec.inspect.IntType: "int",
    msgspec.inspect.VarTupleType: "ints",
}
"""Anything else is text, or an enumeration of texts."""


def _column(field: msgspec.inspect.Field, hint: Any) -> Column:
    meta = _meta(hint)
    base, nullable = _strip(field.type)
    of = _KINDS.get(type(base), "str")
    return Column(
        name=field.name,
        kind=of,
        nullable=nullable,
        default=None if field.default is msgspec.NODEFAULT else field.default,
        description=meta.description or "",
        unit=(meta.extra or {}).get("unit", ""),
        ge=meta.ge if of == "int" else None,  # type: ignore[arg-type]  # every bound here is an int
        le=meta.le if of == "int" else None,  # type: ignore[arg-type]
        choices=_choices(base),
        max_length=meta.max_length,
        pattern=meta.pattern,
    )


def _meta(hint: Any) -> msgspec.Meta:
    """Find the description of a field in its annotation, under ``| None`` too."""
    for part in (hint, *get_args(hint)):
        for meta in getattr(part, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta):
                return meta
    raise TypeError(f"{hint!r} has no description")


def _strip(kind: Any) -> tuple[Any, bool]:
    """Take annotations and ``| None`` off a msgspec type."""
    nullable = False
    while True:
        if isinstance(kind, msgspec.inspect.Metadata):
            kind = kind.type
        elif isinstance(kind, msgspec.inspect.UnionType):
            nullable = True
            (kind,) = (t for t in kind.types if not isinstance(t, msgspec.inspect.NoneType))
        else:
            return kind, nullable


def _choices(base: Any) -> tuple[str, ...]:
    if isinstance(base, msgspec.inspect.EnumType):
        return tuple(str(member.value) for member in base.cls)
    if isinstance(base, msgspec.inspect.LiteralType):
        return tuple(str(value) for value in base.values)
    return ()
