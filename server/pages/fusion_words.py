"""What applications' own sessions said of a path, in sentences: for the path page and ``pathgrade hops``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from analytics import words
from analytics.fused import Fused, Number, Origin
from analytics.measurement import CapacityTrust
from analytics.report import PathRow
from server.pages import text

_WRITTEN: Final[dict[str, Callable[[int], str]]] = {
    "us": lambda us: f"{words.ms(us)} ms",
    "bp": lambda bp: words.percent(bp / 10_000) if bp else "0 %",
    "kbit/s": words.rate,
}
_ORIGINS: Final = {Origin.ACTIVE: "by probes", Origin.PASSIVE: "by sessions"}


def fusion_notes(row: PathRow) -> list[str]:
    """Say what counts of probes and sessions, and what follows; empty where no session said anything."""
    return [] if row.fused is None else fused_in_words(row.fused)


def fused_in_words(fused: Fused) -> list[str]:
    """Say the same of what was fused alone."""
    return [sentence for say in _SENTENCES if (sentence := say(fused))]


def told_by(row: PathRow) -> str:
    """Say who measured what the letter rests on, in a word or two."""
    passive = row.fused.passive if row.fused else []
    return f"sessions ({', '.join(passive)})" if passive else "probes"


def _numbers(fused: Fused) -> str:
    if not fused.numbers:
        return ""
    whose = " and ".join(fused.services) or "the service"
    seen = f"Sessions of {whose}, last {text.clock(fused.until_us)[11:19]} UTC. " if fused.until_us else ""
    return f"{seen}What counts: {', '.join(_number(one, fused) for one in fused.numbers)}."


def _number(number: Number, fused: Fused) -> str:
    if number.value is None:
        return f"{number.name} not measured"
    samples = f", n {number.n:,}" if number.n is not None else ""
    is_bound = number.unit == "kbit/s" and fused.capacity_trust is CapacityTrust.AT_LEAST
    value = f"{'at least ' if is_bound else ''}{_WRITTEN[number.unit](number.value)}"
    return f"{number.name} {value} ({_ORIGINS[number.origin]}{samples})"


def _active(fused: Fused) -> str:
    return f"By the probes alone it is {fused.active.letter}: {fused.active.reason}."


def _apart(fused: Fused) -> str:
    if not fused.apart:
        return ""
    return f"{words.capital(fused.apart)}; it is graded by the application's (rule {fused.apart_rule})."


def _learnt(fused: Fused) -> str:
    if fused.server_us_per_image is None:
        return ""
    took = words.ms(fused.server_us_per_image)
    return f"The server takes {took} ms for an image, learnt from {fused.learnt_from:,} fetches."


def _held_up(fused: Fused) -> str:
    return f"{fused.held_up.sentence} Rule {fused.held_up.rule}." if fused.held_up else ""


_SENTENCES: Final[tuple[Callable[[Fused], str], ...]] = (_numbers, _active, _apart, _learnt, _held_up)
