"""When a path began to lose packets: a Bernoulli CUSUM of the log-likelihood ratio, one direction. Pure.

Each probe moves a sum by how much more likely its fate is at a loss of 2 % than at 0.1 % (Page 1954; Reynolds
and Stoumbos 1999 for Bernoulli data). A loss adds 3.0, an arrival takes 0.019 away; never below zero. What
one reading says is winsorised: losses come in bursts, and a single gap of a second is no rate. Loss is
called when the sum passes ``THRESHOLD``; from then on the sum is frozen, and a second one runs the other way
round until it says as surely that the loss is over. The test is sequential: how often and how deeply somebody
looks may depend on what was seen before. ``scripts/bench detect`` prints how soon, and how often for nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

RULE: Final = "path.lossy.v1"
CALM: Final = 0.001
LOSSY: Final = 0.02
THRESHOLD: Final = 8.0
CLIP: Final = 4.0
"""What one reading may add at most: two of them at least make a change."""
LOST: Final = math.log(LOSSY / CALM)
ARRIVED: Final = math.log((1 - LOSSY) / (1 - CALM))


@dataclass(frozen=True, slots=True)
class Loss:
    """Where the sum of one direction stands."""

    sum: float = 0.0
    began_us: int = 0  # the reading since which the sum is above zero
    since_us: int | None = None  # of loss that is called; None: there is none
    lost: int = 0  # since ``began_us``
    sent: int = 0

    @property
    def share(self) -> float:
        """Lost share since it began."""
        return self.lost / self.sent if self.sent else 0.0


NO_LOSS: Final = Loss()


def after(known: Loss, *, at_us: int, sent: int, lost: int) -> Loss:
    """Take in the counts of one reading. Raises ``ValueError`` where more is lost than was sent."""
    if not 0 <= lost <= sent:
        raise ValueError(f"{lost} of {sent} probes lost")
    if not sent:
        return known
    step = min(CLIP, lost * LOST + (sent - lost) * ARRIVED)
    if known.since_us is not None:
        return _towards_its_end(known, step, sent, lost)
    height = max(0.0, known.sum + step)
    if not height:
        return NO_LOSS
    began = known if known.sum else Loss(began_us=at_us)
    found = replace(began, sum=height, lost=began.lost + lost, sent=began.sent + sent)
    return replace(found, sum=0.0, since_us=found.began_us) if height >= THRESHOLD else found


def _towards_its_end(known: Loss, step: float, sent: int, lost: int) -> Loss:
    height = max(0.0, known.sum - step)
    if height >= THRESHOLD:
        return NO_LOSS
    return replace(known, sum=height, lost=known.lost + lost, sent=known.sent + sent)
