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
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from analytics.rules.load import Study
from analytics.tcp_rates import CUBIC_BETA, Sender, cubic_region, reno_window

SEGMENT_BYTES: Final = 1448
WIRE_BITS: Final = 1500 * 8
INITIAL_WINDOW: Final = 10  # segments (RFC 6928)
RECEIVE_WINDOW: Final = (4 << 20) // SEGMENT_BYTES  # segments: what Linux grants without tuning
STARTUP_GAIN: Final = 2.885  # of BBR v1; a short transfer still takes its share of a round trip
LN_2: Final = math.log(2)  # mean window of a round trip in slow start, of that at its end
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
    took_s = study.setup_round_trips * line.rtt_s + study.setup_us / 1e6
    took_s += study.setup_stalls * (line.rtt_s + DELAYED_ACK_S)
    for run in runs(study):
        took_s += _run_s(study, run, line)
    return round(1e6 * max(took_s, line.rtt_s + line.serialise_s(study.images * image_segments(study))))


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


class Run(NamedTuple):
    """Answers in a row on one connection that are sent alike: its window is open as far as they need it."""

    first: int  # number of its first answer on this connection, from 0
    answers: int
    windows: tuple[int, ...]  # segments of each flight that fills the window
    rest: int  # segments of the last flight
    abreast: int  # connections that run side by side


def image_segments(study: Study) -> int:
    """Segments of one image."""
    return math.ceil(study.image_bytes / SEGMENT_BYTES)


def answer_segments(study: Study) -> int:
    """Segments of one answer: an image, or all of them."""
    return math.ceil(images_an_answer(study) * study.image_bytes / SEGMENT_BYTES)


def images_an_answer(study: Study) -> int:
    """One, or all."""
    return study.images if study.one_answer else 1


@lru_cache(maxsize=256)
def runs(study: Study) -> tuple[Run, ...]:
    """What the busiest connection carries, by its flights in slow start, which no path changes."""
    segments, found, sent = answer_segments(study), list[Run](), 0
    for number, abreast in enumerate(_rounds(study)):
        run = Run(number, 1, *_flights(segments, INITIAL_WINDOW + sent), abreast)
        if found and found[-1][2:] == run[2:]:
            found[-1] = found[-1]._replace(answers=found[-1].answers + 1)
        else:
            found.append(run)
        sent += segments
    return tuple(found)


def _rounds(study: Study) -> list[int]:
    """How many connections are busy while the first answers come, while the second, ..."""
    answers = study.images // images_an_answer(study)
    full, left = divmod(answers, study.connections)
    return [study.connections] * full + ([left] if left else [])


def _flights(segments: int, window: int) -> tuple[tuple[int, ...], int]:
    windows, left, window = list[int](), segments, min(window, RECEIVE_WINDOW)
    while left > window:
        windows.append(window)
        left -= window
        window = min(2 * window, RECEIVE_WINDOW)
    return tuple(windows), left


def _run_s(study: Study, run: Run, line: _Line) -> float:
    """Seconds of one run: asking, serving, the transfers, and what Nagle's algorithm adds."""
    each_s = line.rtt_s + images_an_answer(study) * study.server_us_per_image / 1e6
    transfers_s = line.transfers_s(run, answer_segments(study))
    if not study.nagle:
        return run.answers * each_s + transfers_s
    held_s = each_s + (line.rtt_s + DELAYED_ACK_S)
    return run.answers * held_s + max(run.answers * line.rtt_s, transfers_s)


@dataclass(frozen=True, slots=True)
class _Line:
    """A path as TCP sees it: seconds and segments."""

    rtt_s: float
    loss: float
    segments_per_s: float
    sender: Sender
    last_window: float  # of CUBIC, that the loss leaves in the end; infinite without loss, and for BBR

    @classmethod
    def of(cls, path: PathState, sender: Sender) -> _Line:
        rtt_s, loss = path.rtt_us / 1e6, min(path.loss, MOST_LOSS)
        rate = math.inf if path.capacity_kbps is None else max(1, path.capacity_kbps) * 1e3 / WIRE_BITS
        if sender is Sender.BBR:
            return cls(rtt_s, loss, rate * (1 - loss), sender, math.inf)
        return cls(rtt_s, loss, rate, sender, _loss_window(loss, rtt_s) if loss else math.inf)

    def serialise_s(self, segments: float) -> float:
        """Seconds that the narrowest link needs for so many segments."""
        return segments / self.segments_per_s

    def transfers_s(self, run: Run, segments: int) -> float:
        """Seconds from the first to the last segment of an answer, over all answers of a run."""
        took_s = run.answers * self._slow_start_s(run, segments)
        if not self.loss:
            return took_s
        if self.sender is Sender.CUBIC:
            took_s = max(took_s, self._loss_limited_s(run, segments))
        return took_s + run.answers * self._repair_s(run, segments)

    def _slow_start_s(self, run: Run, segments: int) -> float:
        took_s = 0.0
        for window in run.windows:
            took_s += max(self.rtt_s, self.serialise_s(window * run.abreast))
        took_s += self.serialise_s(run.rest * run.abreast)
        if self.sender is Sender.CUBIC or segments <= INITIAL_WINDOW:
            return took_s
        return max(took_s, self.rtt_s / (STARTUP_GAIN - 1)) + self._sent_again_s(run)

    def _sent_again_s(self, run: Run) -> float:
        """A round trip for each window that BBR sends again before it grows; the last ones grow no more."""
        again = 0.0
        for window in growing(run):
            again += 1 - math.pow(1 - self.loss, window)
        return self.rtt_s * again

    def _loss_limited_s(self, run: Run, segments: int) -> float:
        """Serialisation, and what windows keep it waiting beyond the round trips that requests have paid."""
        start, end = run.first * segments, (run.first + run.answers) * segments
        waits_s = _LossWindow.of(self, run.abreast).waits_s(start, end)
        return self.serialise_s((end - start) * run.abreast) + max(0.0, waits_s - run.answers * self.rtt_s)

    def _repair_s(self, run: Run, segments: int) -> float:
        """A loss in the last flight costs a round trip more, as often as there is one."""
        on_the_way = self.segments_per_s * self.rtt_s / run.abreast if self.rtt_s else 0.0
        flight = min(segments, on_the_way, self.last_window)
        return self.rtt_s * (1 - math.pow(1 - self.loss, flight))


def growing(run: Run) -> list[int]:
    """The windows of a run that are followed by a larger one."""
    return [window for window in run.windows if window < RECEIVE_WINDOW]


@dataclass(frozen=True, slots=True)
class _LossWindow:
    """CUBIC's window under loss, over the segments s that a connection has sent; on average.

    Slow start until 1/p of them: ln 2 (IW + s). Then, s from there:
    w^2 = last^2 + (first^2 - last^2) exp(-2 (1 - beta) p s).
    """

    rtt_s: float
    half_s: float  # half of what the narrowest link needs for a segment, when all connections are busy
    filling: float  # window from which on nothing waits
    last: float
    begins: float  # s at the first loss
    excess: float  # of the window's square at the first loss over its last
    decay: float  # of the excess, per segment

    @classmethod
    def of(cls, line: _Line, abreast: int) -> _LossWindow:
        begins, last = 1 / line.loss, line.last_window
        first = LN_2 * (INITIAL_WINDOW + begins)
        return cls(
            rtt_s=line.rtt_s,
            half_s=abreast / line.segments_per_s / WINDOWS_THAT_FILL,
            filling=WINDOWS_THAT_FILL * line.segments_per_s * line.rtt_s / abreast if line.rtt_s else 0.0,
            last=last,
            begins=begins,
            excess=max(0.0, first * first - last * last),
            decay=2 * (1 - CUBIC_BETA) * line.loss,
        )

    def waits_s(self, start: int, end: int) -> float:
        """Seconds that segments start..end wait for windows that do not fill the path.

        The integral of (R/w - 1/2C)+. With 1/C it would be for a window that never varies and whose
        serialisation all passes within the round trip. Losses come at random, and a window goes out in
        bursts: on average only a larger one keeps it full. That it is twice as large was chosen among once,
        twice and never by fetches over 20 to 80 ms with 1 % loss; no source gives it.
        """
        waited_s = self._doubling_s(min(start, self.begins), min(end, self.begins))
        if end <= self.begins:
            return waited_s
        return waited_s + self._falling_s(max(0.0, start - self.begins), end - self.begins)

    def _doubling_s(self, start: float, end: float) -> float:
        end = max(start, min(end, self.filling / LN_2 - INITIAL_WINDOW))
        rounds = math.log((INITIAL_WINDOW + end) / (INITIAL_WINDOW + start)) / LN_2
        return self.rtt_s * rounds - (end - start) * self.half_s

    def _falling_s(self, start: float, end: float) -> float:
        start = min(max(start, self._still_full()), end)
        return self.rtt_s * (self._rounds(end) - self._rounds(start)) - (end - start) * self.half_s

    def _still_full(self) -> float:
        """Segments after the first loss until which the window fills the path."""
        over = self.filling * self.filling - self.last * self.last
        if over <= 0:
            return math.inf
        return math.log(self.excess / over) / self.decay if over < self.excess else 0.0

    def _rounds(self, sent: float) -> float:
        """Integral of 1/w over segments after the first loss, up to a constant."""
        window = math.sqrt(self.last * self.last + self.excess * math.exp(-self.decay * sent))
        return (sent + 2 / self.decay * math.log(self.last + window)) / self.last


def _loss_window(loss: float, rtt_s: float) -> float:
    """Mean window of CUBIC in segments that a loss leaves in the end.

    In its Reno-friendly region growth begins again only when the loss is repaired: of the 1/(p w) round trips
    from one loss to the next one is without, and w^2 is less by that share. The kernel counts whole segments
    and rounds down (tcp_cubic.c): half of one is gone on average.
    """
    reno = reno_window(loss)
    friendly = reno * math.sqrt(max(0.0, 1 - loss * reno))
    return max(max(friendly, cubic_region(loss, rtt_s)) - ROUNDED_DOWN, 1.0)
