"""How long a study takes to open over a path: what TCP and the PACS's protocol make of it.

An answer (an image, or with WADO-RS a whole series) costs a round trip to ask for it, the PACS's own time,
and its transfer over one connection. What a connection does, in segments sent on it so far:

    slow start  windows double, the last costs only its serialisation (Kurose and Ross)
    the rate    never faster; connections that run side by side have equal shares of it
    loss        each connection has its own window. Slow start ends at the first loss, expected after 1/p
                segments (Cardwell, Savage, Anderson 2000). From there each loss takes 1 - beta of the
                window, so it falls towards the one that p allows in the end (RFC 9438, section 5): w^2
                grows by what is acknowledged and falls with each loss, so it approaches that limit
                exponentially (the fluid model of Misra, Gong and Towsley 2000). A study over several
                connections is often over before that
    BBR         a loss takes nothing from the rate; while it starts, a window that lost a segment is sent
                again before it grows (packet conservation, tcp_bbr.c), and a transfer takes its share of a
                round trip
    Nagle       a reply in two writes waits for the first one's acknowledgement, which the other end delays
                (RFC 896, RFC 1122 section 4.2.3.2); an image's last short segment waits for that of the
                first

``scripts/bench pacs`` compares it with a real Orthanc (docs/measurements.md has the table).
``MODEL_ERROR_PERCENT`` is wider than what it finds on purpose: measured inputs differ more in the field.

Longer round trip, more loss or less capacity never makes the result smaller. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec

from analytics.rules.load import Study
from analytics.tcp_rates import CUBIC_BETA, Sender, cubic_region, reno_window

SEGMENT_BYTES: Final = 1448
WIRE_BITS: Final = 1500 * 8
INITIAL_WINDOW: Final = 10  # segments (RFC 6928)
RECEIVE_WINDOW: Final = (4 << 20) // SEGMENT_BYTES  # segments: what Linux grants without tuning
STARTUP_GAIN: Final = 2.885  # of BBR v1; a short transfer still takes its share of a round trip
MEAN_OF_DOUBLING: Final = math.log(2)  # mean window of a round trip in slow start, of that at its end
WINDOWS_THAT_FILL: Final = 2  # so many times what is on the path must a window be that losses shake
ROUNDED_DOWN: Final = 0.5  # segments
DELAYED_ACK_S: Final = 0.04  # TCP_DELACK_MIN of Linux; RFC 1122 allows 0.5 s
MOST_LOSS: Final = 0.5  # beyond, nothing opens and the formulas do not hold

MODEL_ERROR_PERCENT: Final = 15
MODEL_ERROR_LOSSY_PERCENT: Final = 40
LOSS_MATTERS: Final = 0.0005  # below, both senders and the loss-free model agree


class Limit(StrEnum):
    """What an outcome would gain most from."""

    LATENCY = "latency"
    CAPACITY = "capacity"
    LOSS = "loss"


@dataclass(frozen=True, slots=True)
class PathState:
    """What a transfer meets."""

    rtt_us: float
    loss: float  # 0..1, towards the receiver
    capacity_kbps: float | None  # IP layer, towards the receiver; None = no limit


def study_us(study: Study, path: PathState, sender: Sender) -> int:
    """Microseconds from the click to the last byte of the last image."""
    line = _Line.of(path, sender)
    answer, took_s, sent = Answer.of(study), _setup_s(study, line), 0
    for abreast in rounds_of(study):
        took_s += answer.took_s(line.shared(abreast), sent)
        sent += answer.segments
    return round(1e6 * max(took_s, line.rtt_s + line.serialise_s(every_segment(study))))


def rounds_of(study: Study) -> Iterator[int]:
    """Answers that come side by side, one round after the other."""
    answers = 1 if study.one_answer else study.images
    while answers:
        abreast = min(answers, study.connections)
        yield abreast
        answers -= abreast


def every_segment(study: Study) -> int:
    """Segments of all images."""
    return math.ceil(study.image_bytes / SEGMENT_BYTES) * study.images


def first_image_us(study: Study, path: PathState, sender: Sender) -> int:
    """Microseconds from the click to the last byte of the first image."""
    return study_us(msgspec.structs.replace(study, images=1), path, sender)


def study_limit(study: Study, path: PathState) -> Limit:
    """Find what the study waits for most.

    Loss, if half of the time goes with it: a loss costs round trips, so without latency it would cost
    nothing, yet it is not latency that is at fault.
    """

    def took_us(changed: PathState) -> int:
        return study_us(study, changed, study.sender or Sender.CUBIC)

    if 2 * took_us(replace(path, loss=0)) <= took_us(path):
        return Limit.LOSS
    latency_gone_us = took_us(replace(path, rtt_us=0))
    return Limit.LATENCY if latency_gone_us < took_us(replace(path, capacity_kbps=None)) else Limit.CAPACITY


def _setup_s(study: Study, line: _Line) -> float:
    stalls_s = study.setup_stalls * (line.rtt_s + DELAYED_ACK_S)
    return study.setup_round_trips * line.rtt_s + stalls_s + study.setup_us / 1e6


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request brings, and what it costs beside its transfer."""

    segments: int
    server_s: float
    nagle: bool

    @classmethod
    def of(cls, study: Study) -> Answer:
        """An image, or all of them."""
        images = study.images if study.one_answer else 1
        segments = math.ceil(images * study.image_bytes / SEGMENT_BYTES)
        return cls(segments, images * study.server_us_per_image / 1e6, study.nagle)

    def took_s(self, line: _Line, sent_before: int) -> float:
        """Seconds on a connection that sent some before."""
        transfer_s = line.transfer_s(self.segments, sent_before)
        if not self.nagle:
            return line.rtt_s + self.server_s + transfer_s
        return 2 * line.rtt_s + DELAYED_ACK_S + self.server_s + max(line.rtt_s, transfer_s)


def flights(segments: int, sent_before: int) -> tuple[tuple[int, ...], int]:
    """Flights that fill the window of slow start without loss, and the last one: no path changes them."""
    windows, left, window = list[int](), segments, min(INITIAL_WINDOW + sent_before, RECEIVE_WINDOW)
    while left > window:
        windows.append(window)
        left -= window
        window = min(2 * window, RECEIVE_WINDOW)
    return tuple(windows), left


@dataclass(frozen=True, slots=True)
class _Line:
    """A path as one connection sees it: seconds and segments."""

    rtt_s: float
    loss: float
    segments_per_s: float
    sender: Sender

    @classmethod
    def of(cls, path: PathState, sender: Sender) -> _Line:
        loss = min(path.loss, MOST_LOSS)
        rate = math.inf if path.capacity_kbps is None else max(1, path.capacity_kbps) * 1e3 / WIRE_BITS
        if sender is Sender.BBR:
            rate *= 1 - loss
        return cls(path.rtt_us / 1e6, loss, rate, sender)

    def shared(self, connections: int) -> _Line:
        """One of so many that run side by side."""
        return replace(self, segments_per_s=self.segments_per_s / connections)

    def serialise_s(self, segments: float) -> float:
        """Seconds that the narrowest link needs for so many segments."""
        return segments / self.segments_per_s

    def transfer_s(self, segments: int, sent_before: int) -> float:
        """Seconds from the first to the last segment of one answer on a connection that sent some before."""
        took_s = self._slow_start_s(segments, INITIAL_WINDOW + sent_before)
        if self.sender is Sender.BBR and segments > INITIAL_WINDOW:
            took_s = max(took_s, self.rtt_s / (STARTUP_GAIN - 1))
        if not self.loss:
            return took_s
        if self.sender is Sender.CUBIC:
            took_s = max(took_s, self._loss_limited_s(segments, sent_before))
        return took_s + self._repair_s(segments)

    def _slow_start_s(self, segments: float, window: float) -> float:
        took_s, left, window = 0.0, segments, min(window, RECEIVE_WINDOW)
        while left > window:
            took_s += max(self.rtt_s, self.serialise_s(window))
            left -= window
            window = min(self._grown(window), RECEIVE_WINDOW)
        return took_s + self.serialise_s(left)

    def _grown(self, window: float) -> float:
        """The next window of slow start. What a loss does to CUBIC's is not in here."""
        if self.sender is Sender.CUBIC:
            return 2 * window
        return window * (1 + math.pow(1 - self.loss, window))

    def _loss_limited_s(self, segments: int, sent_before: int) -> float:
        """Serialisation, and what windows keep it waiting beyond the round trip that the request has paid."""
        waits_s = _LossWindow.of(self).waits_s(sent_before, sent_before + segments)
        return self.serialise_s(segments) + max(0.0, waits_s - self.rtt_s)

    def _repair_s(self, segments: float) -> float:
        """A loss in the last flight costs a round trip more, as often as there is one."""
        window = math.inf if self.sender is Sender.BBR else _loss_window(self.loss, self.rtt_s)
        flight = min(segments, self.segments_per_s * self.rtt_s, window) if self.rtt_s else 0.0
        return self.rtt_s * (1 - math.pow(1 - self.loss, flight))


@dataclass(frozen=True, slots=True)
class _LossWindow:
    """CUBIC's window under loss, over the segments s that a connection has sent; on average.

    Slow start until 1/p of them: ln 2 (IW + s). Then, s from there:
    w^2 = last^2 + (first^2 - last^2) exp(-2 (1 - beta) p s).
    """

    line: _Line
    last: float
    begins: float  # s at the first loss

    @classmethod
    def of(cls, line: _Line) -> _LossWindow:
        return cls(line, _loss_window(line.loss, line.rtt_s), 1 / line.loss)

    def waits_s(self, start: float, end: float) -> float:
        """Seconds that segments start..end wait for windows that do not fill the path.

        The integral of (R/w - 1/2C)+. With 1/C it would be for a window that never varies and whose
        serialisation all passes within the round trip. Losses come at random, and a window goes out in
        bursts: on average only one of twice the path keeps it full.
        """
        doubling_end = min(end, self.begins)
        waited_s = self._doubling_s(start, doubling_end) if start < doubling_end else 0.0
        start = max(start, self.begins)
        return waited_s + (self._falling_s(start - self.begins, end - self.begins) if start < end else 0.0)

    def _doubling_s(self, start: float, end: float) -> float:
        full = self._filling / MEAN_OF_DOUBLING - INITIAL_WINDOW  # s at which the window fills the path
        end = min(end, full)
        if end <= start:
            return 0.0
        doublings = math.log2((INITIAL_WINDOW + end) / (INITIAL_WINDOW + start))
        return self.line.rtt_s * doublings - self.line.serialise_s(end - start) / WINDOWS_THAT_FILL

    def _falling_s(self, start: float, end: float) -> float:
        start = max(start, self._still_full)
        if end <= start:
            return 0.0
        rounds = self._rounds(end) - self._rounds(start)
        return self.line.rtt_s * rounds - self.line.serialise_s(end - start) / WINDOWS_THAT_FILL

    @property
    def _filling(self) -> float:
        """Segments of a window from which on nothing waits."""
        return WINDOWS_THAT_FILL * self.line.segments_per_s * self.line.rtt_s if self.line.rtt_s else 0.0

    @property
    def _excess(self) -> float:
        """Of the window's square at the first loss over its last."""
        first = MEAN_OF_DOUBLING * (INITIAL_WINDOW + self.begins)
        return max(0.0, first**2 - self.last**2)

    @property
    def _decay(self) -> float:
        """Of the excess, per segment."""
        return 2 * (1 - CUBIC_BETA) * self.line.loss

    @property
    def _still_full(self) -> float:
        """Segments after the first loss until which the window fills the path."""
        over = self._filling**2 - self.last**2
        if over <= 0:
            return math.inf
        return math.log(self._excess / over) / self._decay if over < self._excess else 0.0

    def _rounds(self, sent: float) -> float:
        """Integral of 1/w over segments after the first loss, up to a constant."""
        window = math.sqrt(self.last**2 + self._excess * math.exp(-self._decay * sent))
        return (sent + 2 / self._decay * math.log(self.last + window)) / self.last


def _loss_window(loss: float, rtt_s: float) -> float:
    """Mean window of CUBIC in segments that a loss leaves in the end.

    In its Reno-friendly region growth begins again only when the loss is repaired: of the 1/(p w) round trips
    from one loss to the next one is without, and w^2 is less by that share. The kernel counts whole segments
    and rounds down (tcp_cubic.c): half of one is gone on average.
    """
    reno = reno_window(loss)
    friendly = reno * math.sqrt(max(0.0, 1 - loss * reno))
    return max(max(friendly, cubic_region(loss, rtt_s)) - ROUNDED_DOWN, 1.0)
