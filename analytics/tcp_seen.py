"""What one TCP session's numbers say together: where its time went, what it lost, what its window allows.

The kernel keeps the time in which a socket had something to send, and of it the time in which the peer's
receive window or the own send buffer was what stopped it (tcpi_busy_time, tcpi_rwnd_limited,
tcpi_sndbuf_limited: Yan, 2016; the idea is RFC 4898's SndLimTime). The rest it waited for acknowledgements::

    life  =  idle  +  busy
                      busy  =  waiting  +  peer window  +  send buffer

From where on a number counts is data: ``Thresholds``. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import msgspec

from analytics.evidence import LossCount
from analytics.measurement import Session


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From where on something counts. Each is a convention; the reason stands under it."""

    busy_us: int = 100_000
    """The kernel counts in ticks of up to 10 ms (HZ=100): of less than ten, shares are rounding."""
    segments: int = 10
    """An initial window (RFC 6928): fewer were never held back by anything."""
    lost_segments: int = 3
    """One or two may be a tail-loss probe (RFC 8985) that no DSACK explained."""
    loss: float = 0.001
    """Share lost, lower end of its interval: over 50 ms it keeps a Reno sender below 10 Mbit/s (Mathis)."""
    queue_segments: int = 50
    queue_us: int = 10_000
    queue_factor: int = 2
    """srtt this far above the least round trip, in both: what is not distance is waiting."""
    delayed_ack_us: int = 200_000
    """The longest that Linux holds an acknowledgement back (TCP_DELACK_MAX): up to here it may be that."""
    filled_part: int = 4
    """Who got through a quarter of window / RTT kept the window filled, so the queue is no delayed ACK."""
    trickle_part: int = 8
    """Who got through less than an eighth of window / RTT sent a little at a time, and waited."""
    far_us: int = 20_000
    """Least round trip from which on it is distance, not the sender, that a window is worn out by."""
    held_percent: int = 20
    """Of the busy time, for the peer's window or the send buffer to be named."""
    idle_percent: int = 50
    """Of the life, for the application to be named."""
    transfer_bytes: int = 1_000_000
    """Less is messages, which end when the application has no more to say."""
    received_bytes: int = 100_000
    received_factor: int = 4
    """This much in, and so many times what went out: the session's work was the peer's to send."""
    syn_repeats: int = 2
    """Unanswered repeats of a SYN that are no coincidence."""
    life_us: int = 1_000_000
    """A shorter life says nothing of an application."""


AT: Final = Thresholds()


@dataclass(frozen=True, slots=True)
class Time:
    """Where a session's time went, us. ``life_us`` is None where its beginning was not seen."""

    life_us: int | None
    waiting_us: int
    peer_window_us: int
    send_buffer_us: int

    @property
    def busy_us(self) -> int:
        """Time with something to send."""
        return self.waiting_us + self.peer_window_us + self.send_buffer_us

    @property
    def idle_us(self) -> int | None:
        """Time with nothing to send."""
        return None if self.life_us is None else self.life_us - self.busy_us


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """Whole percents: ``idle`` and ``busy`` of the life (None = not known), the others of the busy time.

    Each of the two groups sums to 100.
    """

    idle: int | None
    busy: int | None
    waiting: int
    peer_window: int
    send_buffer: int


def time_of(session: Session) -> Time:
    """Take the kernel's time apart. Its parts are rounded one by one, so they are made to fit."""
    window, buffer = session.rwnd_limited_us, session.sndbuf_limited_us
    waiting = max(0, session.busy_us - window - buffer)
    life = session.duration_us
    return Time(
        life_us=None if life is None else max(life, waiting + window + buffer),
        waiting_us=waiting,
        peer_window_us=window,
        send_buffer_us=buffer,
    )


def shares_of(time: Time) -> Shares | None:
    """Write a session's time as shares; None where it never had anything to send."""
    if not time.busy_us:
        return None
    waiting, window, buffer = percents((time.waiting_us, time.peer_window_us, time.send_buffer_us))
    idle, busy = (None, None) if time.idle_us is None else percents((time.idle_us, time.busy_us))
    return Shares(idle=idle, busy=busy, waiting=waiting, peer_window=window, send_buffer=buffer)


def percents(parts: Sequence[int]) -> tuple[int, ...]:
    """Round the parts of a sum > 0 to whole percents that sum to 100 (largest remainder, Hamilton)."""
    whole = sum(parts)
    floors = [100 * part // whole for part in parts]
    by_remainder = sorted(range(len(parts)), key=lambda place: -(100 * parts[place] % whole))
    up = set(by_remainder[: 100 - sum(floors)])
    return tuple(floor + (place in up) for place, floor in enumerate(floors))


@dataclass(frozen=True)
class Seen:
    """A session with what follows from its numbers."""

    session: Session

    @cached_property
    def time(self) -> Time:
        """Where its time went."""
        return time_of(self.session)

    @cached_property
    def shares(self) -> Shares | None:
        """The same as shares."""
        return shares_of(self.time)

    @property
    def lost(self) -> LossCount:
        """Segments sent again, without those that the peer says it had already (DSACK, RFC 2883)."""
        session = self.session
        again = max(0, session.segments_retransmitted - session.dsack_duplicates)
        return LossCount(lost=min(again, session.segments_sent), sent=session.segments_sent)

    @property
    def queue_us(self) -> int | None:
        """Smoothed above least round trip; None where the segments do not carry it."""
        session = self.session
        if session.srtt_us is None or session.min_rtt_us is None:
            return None
        if session.segments_sent < AT.queue_segments:
            return None
        return max(0, session.srtt_us - session.min_rtt_us)

    @property
    def is_peer_window_less(self) -> bool:
        """True where the peer takes less than the congestion window; a shut one (0) says it was not seen."""
        return 0 < self.session.peer_window < self.session.cwnd * self.session.mss

    @property
    def window_bytes(self) -> int:
        """What may be on the way at once, as last seen."""
        session = self.session
        return session.peer_window if self.is_peer_window_less else session.cwnd * session.mss

    @property
    def ceiling_kbps(self) -> int | None:
        """A window in each round trip: the most that this window and this RTT allow."""
        srtt_us = self.session.srtt_us
        return self.window_bytes * 8000 // srtt_us if srtt_us and self.window_bytes else None

    @property
    def busy_kbps(self) -> int | None:
        """Mean rate while there was something to send; None where that was too short to tell."""
        busy_us = self.time.busy_us
        return self.session.bytes_sent * 8000 // busy_us if busy_us >= AT.busy_us else None

    @property
    def is_lossy(self) -> bool:
        """True where losses are enough to slow a sender, and are no coincidence."""
        return self.lost.lost >= AT.lost_segments and self.lost.interval().low >= AT.loss

    @property
    def is_queued(self) -> bool:
        """True where the round trip is well above the least one, and not for delayed acknowledgements."""
        queue_us, least_us = self.queue_us, self.session.min_rtt_us
        if queue_us is None or least_us is None:
            return False
        is_long = queue_us >= max(AT.queue_us, (AT.queue_factor - 1) * least_us)
        return is_long and (queue_us > AT.delayed_ack_us or self.has_used(AT.filled_part))

    @property
    def is_trickle(self) -> bool:
        """True where it had data to send most of its life, and yet left its window all but empty."""
        known = self.time.life_us is not None and self.ceiling_kbps is not None
        return known and not self.is_idle and not self.has_used(AT.trickle_part)

    def has_used(self, part: int) -> bool:
        """Tell whether 1/``part`` of what window and round trip allow got through while there was data."""
        ceiling, reached = self.ceiling_kbps, self.busy_kbps
        return ceiling is not None and reached is not None and part * reached >= ceiling

    @property
    def is_far(self) -> bool:
        """True where the path is long even when it is empty."""
        return (self.session.min_rtt_us or 0) >= AT.far_us

    @property
    def is_timed(self) -> bool:
        """True where it had data to send for long enough to say how that time went."""
        return self.time.busy_us >= AT.busy_us

    @property
    def is_carried(self) -> bool:
        """True where enough was sent, for long enough, to judge the way."""
        enough = self.session.segments_sent >= AT.segments or self.lost.lost >= AT.lost_segments
        return self.is_timed and enough

    @property
    def is_idle(self) -> bool:
        """True where it mostly had nothing to send."""
        idle_us, life_us = self.time.idle_us, self.time.life_us
        return bool(life_us) and 100 * (idle_us or 0) >= AT.idle_percent * (life_us or 0)

    @property
    def is_receiving(self) -> bool:
        """True where the session's work was the peer's to send."""
        session = self.session
        mostly = session.bytes_received >= max(AT.received_bytes, AT.received_factor * session.bytes_sent)
        return mostly and (self.is_idle or self.time.life_us is None)
