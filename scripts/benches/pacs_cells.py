"""The cells of ``scripts/bench pacs``: which there are, what is predicted for each, how far off it was.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from statistics import median
from typing import Final, NamedTuple

import msgspec

from analytics import evidence, words
from analytics.calibrate import Calibration, ObservedFetch, from_fetches, study_with
from analytics.measurement import CapacityTrust, Reading
from analytics.predict import PathState, study_us
from analytics.rules.load import Exchange, Study, load_rules
from analytics.tcp_rates import Sender
from benches.figures import Cell as Figured

RTTS_MS: Final = (0, 20, 80)
RATES_MBPS: Final = (20, 100, None)
LOSSES_PPM: Final = (0, 10_000)
PROTOCOLS: Final = ("c_get_nagle", "wado_series", "wado_instances")
QUEUE_US: Final = 100_000  # of the link; drop-tail
IMAGES: Final = 20
IMAGES_LOSSY: Final = 10  # one window that a loss keeps small fetches them for 25 s
LEAST_RTT_N: Final = load_rules().samples.rtt_p50_n
LOOPBACK: Final = PathState(rtt_us=50, loss=0, capacity_kbps=None)
UNKNOWN_US: Final = 1  # in place of a constant that is being learnt


class Link(NamedTuple):
    """What the emulated link is set to; the prediction never sees it."""

    rtt_ms: int
    mbps: int | None
    loss_ppm: int

    def settings(self) -> dict[str, int]:
        """For the cable: the loss is towards the viewer."""
        both = {"delay_us": self.rtt_ms * 500, "rate_kbps": 1_000 * (self.mbps or 0), "queue_us": QUEUE_US}
        return {
            **{f"{way}.{key}": value for way in ("up", "down") for key, value in both.items()},
            "down.loss_ppm": self.loss_ppm,
        }

    def __str__(self) -> str:
        rate = f"{self.mbps} Mbit/s" if self.mbps else "no limit"
        return f"{self.rtt_ms} ms, {rate}, {self.loss_ppm / 1e4:g} % loss"


class Cell(NamedTuple):
    """One fetch to be predicted."""

    link: Link
    protocol: str
    sender: Sender

    @property
    def images(self) -> int:
        """Of its study."""
        return IMAGES_LOSSY if self.link.loss_ppm else IMAGES

    def __str__(self) -> str:
        return f"{self.link}, {self.protocol}, {self.sender}"


class Seen(NamedTuple):
    """What pathgrade's own test told of the link."""

    path: PathState
    lost: int
    sent: int
    trust: CapacityTrust


class Outcome(NamedTuple):
    """A cell, its prediction, and what it took."""

    cell: Cell
    seen: Seen
    predicted_us: int
    took_us: int

    @property
    def error(self) -> float:
        """Of the prediction, as a share of what it took; above 0 = too slow."""
        return self.predicted_us / self.took_us - 1


def cells(senders: Sequence[Sender], chosen: Callable[[str], bool]) -> list[Cell]:
    """All cells whose name is chosen, link by link."""
    links = [Link(*one) for one in product(RTTS_MS, RATES_MBPS, LOSSES_PPM)]
    every = (Cell(*one) for one in product(links, PROTOCOLS, senders))
    return [cell for cell in every if chosen(str(cell))]


def seen(towards_viewer: Reading, back: Reading) -> Seen | None:
    """Take from a test what the grading takes; None if it has too few round trips."""
    rtt = evidence.median_rtt(towards_viewer, back, least_n=LEAST_RTT_N)
    if rtt is None:
        return None
    count = evidence.loss_count(towards_viewer)
    trust = towards_viewer.capacity_trust
    capacity = None if trust is CapacityTrust.NONE else towards_viewer.capacity_kbps
    return Seen(PathState(rtt.value, count.share, capacity), count.lost, count.sent, trust)


# --- the PACS's own constants -----------------------------------------------------------------------------


class Learnt(NamedTuple):
    """What a PACS takes for itself over one protocol."""

    setup_us: int
    calibration: Calibration

    def study(self, exchange: Exchange, images: int, image_bytes: int) -> Study:
        """A study of this PACS."""
        return study_with(_study(exchange, images, image_bytes, self.setup_us), self.calibration)


def learn(
    exchange: Exchange, image_bytes: int, one_us: Sequence[int], many_us: Sequence[int], images: int
) -> Learnt | None:
    """Learn from fetches over loopback: of one image, and of many. None from too few.

    What the many take longer is server times; what is left of the one is the setup.
    """
    one, many = (_study(exchange, count, image_bytes, UNKNOWN_US) for count in (1, images))
    rest_us = round(median(one_us)) - study_us(one, LOOPBACK, Sender.CUBIC)
    expected_us = rest_us + study_us(many, LOOPBACK, Sender.CUBIC)
    waits = images if exchange.one_answer else math.ceil(images / exchange.connections)  # in a row
    found = from_fetches([ObservedFetch(expected_us, took, waits - 1, UNKNOWN_US) for took in many_us])
    if found is None:
        return None
    return Learnt(max(UNKNOWN_US, rest_us - found.server_us_per_image), found)


def _study(exchange: Exchange, images: int, image_bytes: int, setup_us: int) -> Study:
    told = {"images": images, "image_bytes": image_bytes, "setup_us": setup_us}
    return msgspec.convert(
        {**msgspec.to_builtins(exchange), **told, "server_us_per_image": UNKNOWN_US}, type=Study
    )


def predict(cell: Cell, path: PathState, study: Study) -> int:
    """Microseconds that the fetch of this cell will take."""
    return study_us(study, path, cell.sender)


# --- the figures ------------------------------------------------------------------------------------------


def figures(outcomes: Sequence[Outcome]) -> dict[str, Figured]:
    """Median and 90th percentile of the errors, without and with loss."""
    found: dict[str, Figured] = {"cells": len(outcomes)}
    for name, lossy in (("clean", False), ("lossy", True)):
        errors = sorted(abs(one.error) for one in outcomes if bool(one.cell.link.loss_ppm) is lossy)
        if errors:
            found |= {f"{name}_p50": median(errors), f"{name}_p90": _p90(errors)}
    return found


def _p90(ascending: Sequence[float]) -> float:
    """Nearest rank."""
    return ascending[math.ceil(0.9 * len(ascending)) - 1]


def lines(outcomes: Sequence[Outcome]) -> list[str]:
    """The table, a line a cell."""
    rows = [
        [
            "link",
            "measured: RTT",
            "capacity",
            "lost",
            "protocol",
            "TCP",
            "images",
            "predicted",
            "took",
            "error",
        ],
        *map(_row, outcomes),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _row(one: Outcome) -> list[str]:
    cell, seen = one.cell, one.seen
    rate = "-" if seen.path.capacity_kbps is None else words.rate(round(seen.path.capacity_kbps))
    return [
        str(cell.link),
        f"{words.ms(round(seen.path.rtt_us))} ms",
        f"{rate} ({seen.trust})",
        f"{seen.lost} of {seen.sent}",
        cell.protocol,
        cell.sender,
        str(cell.images),
        f"{one.predicted_us / 1e6:.2f} s",
        f"{one.took_us / 1e6:.2f} s",
        f"{100 * one.error:+.0f} %",
    ]


def told(outcomes: Sequence[Outcome]) -> list[Mapping[str, object]]:
    """The same for the JSON."""
    return [
        {
            **one.cell.link._asdict(),
            "protocol": one.cell.protocol,
            "sender": one.cell.sender,
            "images": one.cell.images,
            "rtt_us": one.seen.path.rtt_us,
            "capacity_kbps": one.seen.path.capacity_kbps,
            "capacity_trust": one.seen.trust,
            "lost": one.seen.lost,
            "sent": one.seen.sent,
            "predicted_us": one.predicted_us,
            "took_us": one.took_us,
        }
        for one in outcomes
    ]
