"""What held a TCP session up: the network, the sender, the receiver or the application.

READ FIRST: ``judge``. Every session gets one verdict, by one rule of ``FIRST``, ``HELD`` or ``LAST``. Waiting
for acknowledgements is called the network's fault only where loss, queues or distance show why. Only the
sending side is known here: of a session that mostly received nothing is claimed. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from analytics import words
from analytics.tcp_seen import AT, Seen

RULES_VERSION: Final = "2026-11-24"
"""Of the rules here and in ``tcp_life``, and of the thresholds they use."""

UNREACHABLE: Final = frozenset({"ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH"})
"""Errors that mean: nothing came back."""


class Verdict(StrEnum):
    """What held a session up, as far as this host can know."""

    NETWORK = "network"
    SENDER = "sender"
    RECEIVER = "receiver"
    APPLICATION = "application"
    NOTHING_WRONG = "nothing wrong"
    TOO_LITTLE_SEEN = "too little seen"


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to a verdict, and its words. ``held_us``: how much of the session's time it explains."""

    id: str
    verdict: Verdict
    holds: Callable[[Seen], bool]
    say: Callable[[Seen], str]
    held_us: Callable[[Seen], int] = lambda _: 0


def judge(seen: Seen) -> Rule:
    """Find the rule that says what held a session up.

    What ends the matter comes first, then what held it up longest, then that there is nothing to say.
    """
    rule = _first(FIRST, seen) or _longest(HELD, seen) or _first(LAST, seen)
    assert rule is not None  # the last of LAST always holds
    return rule


def error_of(seen: Seen) -> str:
    """Write the error a session ended with, in brackets; nothing where it ended without."""
    return f" ({seen.session.error})" if seen.session.error else ""


def _first(rules: Sequence[Rule], seen: Seen) -> Rule | None:
    return next((rule for rule in rules if rule.holds(seen)), None)


def _longest(rules: Sequence[Rule], seen: Seen) -> Rule | None:
    holding = [rule for rule in rules if rule.holds(seen)]
    return max(holding, key=lambda rule: rule.held_us(seen), default=None)  # of equals the first


def _is_refused(seen: Seen) -> bool:
    session = seen.session
    return not session.established and (session.error == "ECONNREFUSED" or session.resets_received)


def _is_unanswered(seen: Seen) -> bool:
    session = seen.session
    repeated = session.segments_retransmitted >= AT.syn_repeats
    return not session.established and (session.error in UNREACHABLE or repeated)


def _is_not_connected(seen: Seen) -> bool:
    return not seen.session.established


def _is_broken_off(seen: Seen) -> bool:
    return seen.session.established and seen.session.error in UNREACHABLE


def _by_loss(seen: Seen) -> bool:
    return seen.is_carried and seen.is_lossy


def _by_queue(seen: Seen) -> bool:
    return seen.is_carried and seen.is_queued


def _by_distance(seen: Seen) -> bool:
    return seen.is_carried and seen.is_far


def _by_trickle(seen: Seen) -> bool:
    return seen.is_carried and seen.is_trickle


def _by_peer_window(seen: Seen) -> bool:
    return _is_held(seen, _peer_window_us(seen))


def _by_send_buffer(seen: Seen) -> bool:
    return _is_held(seen, _send_buffer_us(seen))


def _is_held(seen: Seen, by_us: int) -> bool:
    return by_us >= AT.busy_us and 100 * by_us >= AT.held_percent * seen.time.busy_us


def _by_application(seen: Seen) -> bool:
    session = seen.session
    is_sender = session.bytes_sent >= max(AT.transfer_bytes, session.bytes_received)
    return is_sender and seen.is_idle and (seen.time.life_us or 0) >= AT.life_us


def _waiting_us(seen: Seen) -> int:
    return seen.time.waiting_us


def _peer_window_us(seen: Seen) -> int:
    return seen.time.peer_window_us


def _send_buffer_us(seen: Seen) -> int:
    return seen.time.send_buffer_us


def _idle_us(seen: Seen) -> int:
    return seen.time.idle_us or 0


def _peer(seen: Seen) -> str:
    return f"{seen.session.remote_address} port {seen.session.remote_port}"


def _say_refused(seen: Seen) -> str:
    return f"Refused: {_peer(seen)} answered with a reset. Nothing listens there, or a firewall refuses."


def _say_unanswered(seen: Seen) -> str:
    tries = words.count(1 + seen.session.segments_retransmitted, "time")
    return (
        f"No answer: {_peer(seen)} was called {tries} and did not answer{error_of(seen)}."
        " A route, a firewall or the host itself: this end cannot tell which."
    )


def _say_not_connected(seen: Seen) -> str:
    if seen.session.open:
        return f"Not connected yet: waiting for {_peer(seen)} to answer."
    lasted_us = seen.session.duration_us
    after = "" if lasted_us is None else f" after {words.span(lasted_us)}"
    return f"Never connected: given up{after}, before {_peer(seen)} answered{error_of(seen)}."


def _say_broken_off(seen: Seen) -> str:
    return (
        f"Broken off: {_peer(seen)} no longer answered, and the kernel gave up{error_of(seen)}."
        " A route, a firewall or the host itself: this end cannot tell which."
    )


def _say_received(seen: Seen) -> str:
    session = seen.session
    return (
        f"This host received: {words.size(session.bytes_received)} in, {words.size(session.bytes_sent)} out."
        f" What held the data up, the sender's own kernel knows: ask the agent on {session.remote_address}."
    )


def _share(seen: Seen, percent: int) -> str:
    return f"{percent} % of the {words.span(seen.time.busy_us)} that it had data to send"


def _network(seen: Seen) -> str:
    waiting = seen.shares.waiting if seen.shares else 0
    return f"Held up by the network: {_share(seen, waiting)} it waited for acknowledgements"


def _say_loss(seen: Seen) -> str:
    lost = seen.lost
    return (
        f"{_network(seen)}, and {words.percent(lost.share)} of its {words.count(lost.sent, 'segment')}"
        " had to be sent again."
    )


def _say_queue(seen: Seen) -> str:
    rtt, queue = words.span(seen.session.srtt_us or 0), words.span(seen.queue_us or 0)
    return (
        f"{_network(seen)}, and {queue} of the {rtt} of a round trip are not distance but queues on the way."
    )


def _say_distance(seen: Seen) -> str:
    least_us = seen.session.min_rtt_us or 0
    return f"{_network(seen)}, and a round trip takes {words.span(least_us)} even on an empty path."


def _say_trickle(seen: Seen) -> str:
    waiting = seen.shares.waiting if seen.shares else 0
    return (
        f"Held up by the sender: {_share(seen, waiting)} it waited for acknowledgements, its window all but"
        " empty. It sends a little and waits: small writes, Nagle's algorithm, or a small send buffer."
    )


def _say_peer_window(seen: Seen) -> str:
    full = seen.shares.peer_window if seen.shares else 0
    return (
        f"Held up by the receiver: {_share(seen, full)} the receive window of {_peer(seen)} was full."
        " The program there reads too slowly, or its receive buffer is too small for the path."
    )


def _say_send_buffer(seen: Seen) -> str:
    full = seen.shares.send_buffer if seen.shares else 0
    return (
        f"Held up by the sender: {_share(seen, full)} this host's send buffer was too small for the path."
        " The program (SO_SNDBUF) or net.ipv4.tcp_wmem limits it."
    )


def _say_application(seen: Seen) -> str:
    idle, life = words.span(_idle_us(seen)), words.span(seen.time.life_us or 0)
    who = seen.session.process or "the process"
    return (
        f"Held up by the application: for {idle} of {life} {who} gave the kernel nothing to send."
        " It worked, or waited for its user or for the peer's answers; the way to the peer was free."
    )


def _say_little(seen: Seen) -> str:
    sent = words.count(seen.session.segments_sent, "segment")
    busy_us = seen.time.busy_us
    span = f", data to send for {words.span(busy_us)}" if busy_us else ""  # 0: less than a tick
    return f"Too little to judge: {sent} with data sent{span}."


def _say_idle(_: Seen) -> str:
    return "Nothing wrong on this side: what it had to send left without loss, queue or stall that matters."


def _say_quick(_: Seen) -> str:
    return "Nothing wrong: no loss, queue, distance, peer's window or send buffer that matters held it up."


FIRST: Final = (
    Rule("tcp.refused.v1", Verdict.RECEIVER, _is_refused, _say_refused),
    Rule("tcp.unanswered.v1", Verdict.NETWORK, _is_unanswered, _say_unanswered),
    Rule("tcp.not-connected.v1", Verdict.TOO_LITTLE_SEEN, _is_not_connected, _say_not_connected),
    Rule("tcp.broken-off.v1", Verdict.NETWORK, _is_broken_off, _say_broken_off),
    Rule("tcp.received.v1", Verdict.TOO_LITTLE_SEEN, lambda seen: seen.is_receiving, _say_received),
)
"""The first that holds decides."""

HELD: Final = (
    Rule("tcp.loss.v1", Verdict.NETWORK, _by_loss, _say_loss, _waiting_us),
    Rule("tcp.queue.v1", Verdict.NETWORK, _by_queue, _say_queue, _waiting_us),
    Rule("tcp.distance.v1", Verdict.NETWORK, _by_distance, _say_distance, _waiting_us),
    Rule("tcp.trickle.v1", Verdict.SENDER, _by_trickle, _say_trickle, _waiting_us),
    Rule("tcp.peer-window.v1", Verdict.RECEIVER, _by_peer_window, _say_peer_window, _peer_window_us),
    Rule("tcp.send-buffer.v1", Verdict.SENDER, _by_send_buffer, _say_send_buffer, _send_buffer_us),
    Rule("tcp.application.v1", Verdict.APPLICATION, _by_application, _say_application, _idle_us),
)
"""Of those that hold, the one that explains most of the time decides."""

LAST: Final = (
    Rule("tcp.little.v1", Verdict.TOO_LITTLE_SEEN, lambda seen: not seen.is_carried, _say_little),
    Rule("tcp.idle.v1", Verdict.NOTHING_WRONG, lambda seen: seen.is_idle, _say_idle),
    Rule("tcp.quick.v1", Verdict.NOTHING_WRONG, lambda _: True, _say_quick),
)
"""The first that holds decides; the last one always does."""
