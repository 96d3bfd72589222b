"""The TCP life of one session in words: what held it up, how it went, how it ended, whose it was.

READ FIRST: ``life``. The verdict is ``analytics/tcp_limits.py``'s. Here each fact that the session's numbers
support becomes one sentence; a fact that they do not support becomes none. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import msgspec

from analytics import words
from analytics.measurement import Session
from analytics.tcp_limits import RULES_VERSION, UNREACHABLE, Verdict, error_of, judge
from analytics.tcp_seen import Seen, Shares

RTO_INITIAL_US: Final = 1_000_000
"""When an unanswered SYN is sent again (RFC 6298, 2.1)."""
MATHIS_LOSSES: Final = 10
"""Losses from which the rate that follows from them is known within a third."""
FINE_US: Final = 100
LOSS_BASED: Final = frozenset({"reno", "cubic"})


class Sentence(msgspec.Struct, frozen=True, kw_only=True):
    """One statement, with the rule that makes it."""

    rule: str
    text: str


class TcpLife(msgspec.Struct, frozen=True, kw_only=True):
    """A session judged and told. ``verdict`` and ``headline`` are by ``rule``."""

    session: str
    verdict: Verdict
    rule: str
    rules_version: str
    shares: Shares | None
    headline: str
    sentences: list[Sentence]


def life(session: Session) -> TcpLife:
    """Tell a session's life."""
    seen = Seen(session)
    by = judge(seen)
    told = ((rule, tell(seen)) for rule, tell in SENTENCES.items())
    return TcpLife(
        session=session.id,
        verdict=by.verdict,
        rule=by.id,
        rules_version=RULES_VERSION,
        shares=seen.shares,
        headline=by.say(seen),
        sentences=[Sentence(rule=rule, text=text) for rule, text in told if text],
    )


def _tell_time(seen: Seen) -> str:
    """Where the time went; silent where ticks would be told as shares."""
    shares = seen.shares
    if shares is None or not seen.is_timed or not seen.session.established:
        return ""
    of = "" if shares.busy is None else f", {shares.busy} % of its {words.span(seen.time.life_us or 0)}"
    parts = ", ".join(
        f"{getattr(shares, name)} % {why}" for name, why in WAITS.items() if getattr(shares, name)
    )
    return f"It had data to send for {words.span(seen.time.busy_us)}{of}. Of that it waited {parts}."


WAITS: Final = {
    "waiting": "for acknowledgements",
    "peer_window": "for the peer's window",
    "send_buffer": "for its own send buffer",
}
"""Share of the busy time -> what was waited for."""


def _tell_rtt(seen: Seen) -> str:
    session = seen.session
    if session.srtt_us is None:
        return ""
    least = "" if session.min_rtt_us is None else f", {_fine(session.min_rtt_us)} at least"
    return f"Round trip: {_fine(session.srtt_us)} smoothed{least}."


def _fine(us: int) -> str:
    """Write a round trip: of one inside the host, milliseconds would say 0.00."""
    return f"{us} us" if us < FINE_US else words.span(us)


def _tell_rate(seen: Seen) -> str:
    """A window in each round trip, against what was reached."""
    ceiling, reached = seen.ceiling_kbps, seen.busy_kbps
    if ceiling is None or reached is None or not seen.is_carried:
        return ""
    got = f"while it had data to send, {words.rate(reached)} got through."
    if reached > ceiling:  # the window was larger before
        return words.capital(got)
    whose = "peer's" if seen.is_peer_window_less else "congestion"
    rtt, window = _fine(seen.session.srtt_us or 0), words.size(seen.window_bytes)
    return f"RTT {rtt} x {whose} window {window}, as last seen, allow at most {words.rate(ceiling)}; {got}"


def _tell_delivery(seen: Seen) -> str:
    kbps = seen.session.delivery_kbps
    if not kbps:
        return ""
    limit = ", as much as the application offered" if seen.session.app_limited else ""
    return f"Last delivery rate: {words.rate(kbps)}{limit}."


def _tell_repeats(seen: Seen) -> str:
    session = seen.session
    if not session.established or not session.segments_retransmitted:
        return ""
    spurious = min(session.dsack_duplicates, session.segments_retransmitted)
    needless = f"; {spurious:,} of them the peer had already (DSACK)" if spurious else ""
    sent = words.count(session.segments_sent, "segment")
    return f"Sent again: {session.segments_retransmitted:,} of {sent} with data{needless}."


def _tell_mathis(seen: Seen) -> str:
    """The rate that loss allows: MSS / RTT x sqrt(3/2) / sqrt(p) (Mathis, Semke, Mahdavi, Ott 1997)."""
    session, lost = seen.session, seen.lost
    known = lost.lost >= MATHIS_LOSSES and session.congestion in LOSS_BASED
    if not (known and seen.is_lossy and session.srtt_us and session.mss):
        return ""
    kbps = int(session.mss * 8000 / session.srtt_us * math.sqrt(1.5 / lost.share))
    cubic = ", CUBIC the same or more" if session.congestion == "cubic" else ""
    return f"At this RTT so much loss leaves a Reno sender about {words.rate(kbps)} (Mathis 1997){cubic}."


def _tell_order(seen: Seen) -> str:
    times = seen.session.reordering_seen
    return f"Segments overtook each other on the way: seen {words.count(times, 'time')}." if times else ""


def _tell_connect(seen: Seen) -> str:
    session = seen.session
    if session.connect_us is None:
        return ""
    said = f"Connecting took {words.span(session.connect_us)}"
    if session.min_rtt_us is None or session.connect_us - session.min_rtt_us < RTO_INITIAL_US:
        return f"{said}."
    return f"{said}: the SYN was sent again, because it or its answer was lost, or the peer's queue was full."


def _tell_end(seen: Seen) -> str:
    session = seen.session
    if session.open or not session.established:
        return ""
    resets = (session.resets_sent, session.resets_received)
    if session.source == "inet_diag" and not any(resets):
        return "How it ended is not known: it was gone at the next poll."
    how = "The kernel ended it" if session.error in UNREACHABLE else ENDS[resets]
    return f"{how}{error_of(seen)}."


ENDS: Final = {
    (False, False): "It ended without a reset",
    (True, False): "This host ended it with a reset",
    (False, True): "The peer ended it with a reset",
    (True, True): "Both ends sent a reset",
}
"""(sent, received) -> what the resets mean."""


def _tell_owner(seen: Seen) -> str:
    session = seen.session
    if not session.process and session.pid is None:
        return "Whose it was is not known: no process was seen to use it."
    marks = ", ".join(f"{what} {value}" for what, value in _marks(session) if value not in (None, ""))
    owner = f"{session.process or 'unknown'} ({marks})" if marks else session.process
    if session.guessed:
        return f"Owner, a guess: {owner}. It listened; nobody was seen to use the session."
    return f"Owner: {owner}."


def _marks(session: Session) -> tuple[tuple[str, str | int | None], ...]:
    return (
        ("pid", session.pid),
        ("program", session.executable),
        ("unit", session.unit),
        ("container", session.container[:12]),
        ("uid", session.uid),
    )


def _tell_source(seen: Seen) -> str:
    """What the numbers cannot be trusted for."""
    if seen.session.source == "inet_diag":
        return "Seen by polling (inet_diag): the numbers are those of the last poll."
    return "" if seen.time.life_us is not None else "Its beginning was not seen: it is older than the agent."


SENTENCES: Final[dict[str, Callable[[Seen], str]]] = {
    "tcp.time.v1": _tell_time,
    "tcp.rtt.v1": _tell_rtt,
    "tcp.rate.v1": _tell_rate,
    "tcp.delivery.v1": _tell_delivery,
    "tcp.repeats.v1": _tell_repeats,
    "tcp.mathis.v1": _tell_mathis,
    "tcp.order.v1": _tell_order,
    "tcp.connect.v1": _tell_connect,
    "tcp.end.v1": _tell_end,
    "tcp.owner.v1": _tell_owner,
    "tcp.source.v1": _tell_source,
}
"""Rule -> the sentence it makes, empty for none; in the order they are told."""
