"""How a sentence is put together: clauses in order, each with what joins it to those before it. Pure.

A clause that knows nothing says nothing and takes its joint with it: what is withheld is left out, never
guessed. Text of other hosts (labels, reasons) is made fit for a sentence here, and bounded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

NAMES_TOLD: Final = 3
CALLED_MOST: Final = 60
WHY_MOST: Final = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clause(Generic[T]):
    """One part of a sentence; ``say`` gives it, or an empty text where there is nothing to say."""

    say: Callable[[T], str]
    before: str = " "
    after: str = ""


def sentence(clauses: Iterable[Clause[T]], told: T) -> str:
    """Say all clauses that have something to say, and end with a full stop. Empty where none has."""
    parts: list[str] = []
    for clause in clauses:
        said = clause.say(told)
        if said:
            parts.append(f"{clause.before if parts else ''}{said}{clause.after}")
    return f"{''.join(parts)}." if parts else ""


def spoken(text: str, *, most: int) -> str:
    """Make text of another host fit for a sentence: one line, no control characters, no stop, bounded.

    Control, format and unassigned characters (Unicode C*) count as blanks: they can hide or reorder text.
    """
    seen = "".join(" " if unicodedata.category(sign).startswith(("C", "Z")) else sign for sign in text)
    said = " ".join(seen.split()).rstrip(". ")
    return said if len(said) <= most else f"{said[: most - 1].rstrip('. ')}…"


def called(text: str, otherwise: str = "") -> str:
    """Write a label or a name; ``otherwise`` where it has no letter and no digit to read."""
    return spoken(text, most=CALLED_MOST) if any(map(str.isalnum, text)) else otherwise


def why(reason: str) -> str:
    """Write a reason."""
    return spoken(reason, most=WHY_MOST) or "the reason is not known"


def names(of: Sequence[str], told: int = NAMES_TOLD) -> str:
    """'a', 'a and b', 'a, b and c', 'a, b, c and 4 more'."""
    shown = list(of[:told])
    if len(of) > told:
        shown.append(f"{len(of) - told} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def says_site(text: str, site: str) -> bool:
    """Whether a name already says its site, as a word of its own."""
    return site in re.findall(r"[\w.-]+", text)
