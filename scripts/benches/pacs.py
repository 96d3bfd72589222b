"""READ FIRST: how long a study takes to open, predicted before it is fetched from a real PACS: Orthanc.

A viewer and Orthanc stand at the ends of an emulated link (scripts/lab/wire.c) of known delay, rate with a
drop-tail queue of 100 ms, and loss towards the viewer. For each link::

    test      pathgrade's own pair test between the two hosts: round trip, loss, capacity; nothing else
    predict   every cell of this link: protocol x congestion control of the PACS's host
    fetch     with DCMTK's getscu, and with curl over WADO-RS: the whole series, and image by image over six
              connections

What the PACS takes for itself is learnt before, from fetches over loopback, of one image and of 20.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Final

from lab import cables

from analytics.rules.load import load_rules
from analytics.tcp_rates import Sender
from analytics.wire import ProbePlan
from benches import pacs_cells, pacs_host
from benches.bench import Bench, Report, Say
from benches.chain import Cable, Chain, chain
from benches.errors import NeedsError, PartError
from benches.figures import Figure, Target, number, percent
from benches.pacs_cells import Cell, Learnt, Link, Outcome, Seen
from benches.pacs_host import LOOPBACK, Pacs
from benches.pairs import pair_test

COLUMN: Final = "pathgrade"
FIGURES: Final = (
    Figure("cells", "cells predicted, then fetched", number(0, ""), Target(24, at_least=True)),
    Figure("clean_p50", "without loss: median |error|", percent, Target(0.15)),
    Figure("clean_p90", "same, 90th percentile", percent, Target(0.30)),
    Figure("lossy_p50", "1 % loss: median |error|", percent, Target(0.25)),
    Figure("lossy_p90", "same, 90th percentile", percent, Target(0.45)),
)
CLEAN: Final = ProbePlan(hop_rounds=0, interval_us=5_000, mtu_every=0)
LOSSY: Final = ProbePlan(hop_rounds=0, interval_us=5_000, mtu_every=0, probes=2_400)
"""As many as eight cycles send: 300 of 1 % lost would be 3, and 3 may be 1 or 6."""
LINK: Final = "1"  # the chain's only cable
LOOPBACK_FETCHES: Final = 5
MOST_FETCHES: Final = 3
AGAIN_WITHIN_S: Final = 4.0
"""A cell's fetch is made again, up to three times in all, while they took less: losses come at random."""
MOST_FETCH_S: Final = 120.0
QUICK: Final = "20 ms, 100 Mbit/s"


@dataclass(slots=True)
class _Run:
    """One run: the PACS, the link, and what came of it."""

    made: Chain
    pacs: Pacs
    say: Say
    learnt: dict[str, Learnt] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    def learn(self) -> None:
        """Learn the PACS's own constants, once a protocol. Raises ``PartError``."""
        for protocol in pacs_cells.PROTOCOLS:
            one, many = (
                [self._fetch_us(protocol, images, self.made.b, LOOPBACK) for _ in range(LOOPBACK_FETCHES)]
                for images in (1, pacs_cells.IMAGES)
            )
            exchange = load_rules().protocols[protocol]
            bytes_each = self.pacs.image_bytes(pacs_cells.IMAGES)
            found = pacs_cells.learn(exchange, bytes_each, one, many, pacs_cells.IMAGES)
            if found is None:
                raise PartError("too few fetches over loopback", remedy="mend the bench")
            self.learnt[protocol] = found
            self.say(f"{protocol}: {found.setup_us / 1e3:.0f} ms, and {self._each(protocol)} an image")

    def _each(self, protocol: str) -> str:
        known = self.learnt[protocol].calibration
        return f"{known.server_us_per_image / 1e3:.1f} ms ({known.low / 1e3:.1f}..{known.high / 1e3:.1f})"

    def of_link(self, link: Link, cells: Sequence[Cell]) -> None:
        """Test the link, predict all its cells, then fetch them. Raises ``PartError``."""
        cables.change(self.made.folder, LINK, link.settings())
        seen = self._test(link)
        predicted = [(cell, self._predict_us(cell, seen)) for cell in cells]
        for cell, predicted_us in predicted:
            pacs_host.set_sender(self.made, cell.sender)
            outcome = Outcome(cell, seen, predicted_us, self._took_us(cell))
            self.outcomes.append(outcome)
            self.say(f"{cell}: {predicted_us / 1e6:.2f} s, took {outcome.took_us / 1e6:.2f} s")

    def _test(self, link: Link) -> Seen:
        a, b = pair_test(self.made, LOSSY if link.loss_ppm else CLEAN)
        seen = pacs_cells.seen(b.reading, a.reading)
        if seen is None:
            raise PartError(f"{link}: too few round trips", remedy="run the bench again")
        return seen

    def _predict_us(self, cell: Cell, seen: Seen) -> int:
        exchange = load_rules().protocols[cell.protocol]
        study = self.learnt[cell.protocol].study(exchange, cell.images, self.pacs.image_bytes(cell.images))
        return pacs_cells.predict(cell, seen.path, study)

    def _took_us(self, cell: Cell) -> int:
        took: list[int] = []
        began = time.monotonic()
        while not took or (len(took) < MOST_FETCHES and time.monotonic() - began < AGAIN_WITHIN_S):
            took.append(self._fetch_us(cell.protocol, cell.images, self.made.a, self.made.b_address))
        return round(median(took))

    def _fetch_us(self, protocol: str, images: int, viewer: str, address: str) -> int:
        took_s = pacs_host.fetch_s(
            self.pacs, protocol, images, viewer=viewer, address=address, most_s=MOST_FETCH_S
        )
        return round(took_s * 1e6)


def _senders() -> list[Sender]:
    known = pacs_host.congestion_controls()
    return [sender for sender in Sender if sender in known]


def _measure(chosen: Callable[[str], bool], quick: bool, folder: Path, say: Say) -> Report:
    for end in ("a", "b"):
        (folder / end).mkdir()  # for its identity
    senders = _senders()
    cells = pacs_cells.cells(senders, (lambda name: QUICK in name) if quick else chosen)
    sizes = (1, pacs_cells.IMAGES_LOSSY, pacs_cells.IMAGES)
    with chain(folder, [Cable({})]) as made, pacs_host.serving(made.b, folder, sizes) as pacs:
        run = _Run(made, pacs, say)
        run.learn()
        for link, of_it in groupby(cells, key=lambda cell: cell.link):
            run.of_link(link, list(of_it))
    details = [*pacs_cells.lines(run.outcomes), "", *_explained(senders, run.learnt)]
    return Report(
        {COLUMN: pacs_cells.figures(run.outcomes)}, details, {"outcomes": pacs_cells.told(run.outcomes)}
    )


def _explained(senders: Sequence[Sender], learnt: dict[str, Learnt]) -> list[str]:
    constants = "; ".join(
        f"{name} {one.setup_us / 1e3:.0f} ms and {one.calibration.server_us_per_image / 1e3:.1f} ms an image"
        for name, one in learnt.items()
    )
    missing = [sender for sender in Sender if sender not in senders]
    return [
        "Predicted before the fetch, from the pair test over that very link alone.",
        f"The PACS's own time, from fetches over loopback: {constants}.",
        "Took: the median of up to three fetches; the client's start and end are in it.",
        *([f"This kernel has no {' and no '.join(missing)}: its cells are missing."] if missing else []),
    ]


def _figures(chosen: Callable[[str], bool]) -> list[Figure]:
    """Those that the chosen cells can have; how many cells there are is judged of all only."""
    lossy = {bool(cell.link.loss_ppm) for cell in pacs_cells.cells(list(Sender), chosen)}
    wanted = [name for name, with_loss in (("clean", False), ("lossy", True)) if with_loss in lossy]
    return [FIGURES[0]._replace(target=None), *(one for one in FIGURES if one.key[:5] in wanted)]


def _bench(chosen: Callable[[str], bool], figures: Sequence[Figure]) -> Bench:
    return Bench(
        name="pacs",
        words="how long a study takes to open: predicted, then fetched from a real PACS",
        description=__doc__.partition(": ")[2],
        figures=figures,
        headings={COLUMN: "pathgrade"},
        judged=COLUMN,
        needs=pacs_host.needs,
        measure=lambda quick, folder, say: _measure(chosen, quick, folder, say),
        chosen=_chosen,
    )


def _chosen(words: str) -> Bench:
    """Only cells with these words; "0 ms" is not "20 ms". Raises ``NeedsError``."""

    def chosen(name: str) -> bool:
        return f" {words}" in f" {name}"

    if not pacs_cells.cells(list(Sender), chosen):
        raise NeedsError(
            f"no cell is called {words!r}", remedy='words as in "80 ms, 20 Mbit/s, 1 % loss, wado_series"'
        )
    return _bench(chosen, _figures(chosen))


BENCH: Final = _bench(lambda _name: True, FIGURES)
