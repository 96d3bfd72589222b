"""What a trial finds: one row a step, and whether it is as expected. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

EXPECTED_LEFT: Final = re.compile(
    r"^/(run|tmp|proc|sys|dev)(/|$)"  # of this run of the machine
    r"|^/var/(log|tmp|cache)(/|$)"
    r"|^/var/lib/(apt|dpkg|systemd)(/|$)"
    r"|^/etc/(passwd|group|shadow|gshadow)-?$"  # the agent's account stays, as Debian's policy has it
    r"|^/etc/(machine-id|\.updated|\.pwd\.lock|mtab|resolv\.conf)$|^/var/\.updated$"
    r"|^/var/lib/(private|dbus)$"  # systemd makes it for any dynamic user
    r"|/__pycache__(/|$)"  # of Debian's own Python, which compiles what it first imports
)
"""What a machine has after packages came and went that is not theirs to take away."""


@dataclass(frozen=True, slots=True)
class Row:
    """One step."""

    step: str
    expected: str
    seen: str
    ok: bool
    after_s: float


@dataclass(slots=True)
class Findings:
    """All steps so far."""

    rows: list[Row] = field(default_factory=list)

    def add(self, step: str, expected: str, seen: object, ok: bool, after_s: float) -> None:
        """Note a step."""
        self.rows.append(Row(step, expected, str(seen), ok, after_s))

    @property
    def all_ok(self) -> bool:
        """Whether every step was as expected; not where there was none."""
        return bool(self.rows) and all(row.ok for row in self.rows)


EVENTS: Final = {
    "server ready": r"pathgrade\.server ready ",
    "second agent on line": r"agent online name=clinic ",
    "test begins": r"cycle started ",
    "test ends": r"test ended pair=",
}
"""What the server's unit says on the way to the first letter."""


def parts_of(journal: str, began_at_s: float) -> str:
    """Tell when each was first said, since the first command (``journalctl -o short-unix``)."""
    found = {}
    for name, pattern in EVENTS.items():
        said = re.search(rf"^([0-9.]+) .*{pattern}", journal, re.MULTILINE)
        if said is not None:
            found[name] = float(said[1]) - began_at_s
    return ", ".join(f"{name} {after_s:.1f} s" for name, after_s in found.items())


def left_over(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """List the paths that are there now, were not before, and should not be; of a folder only itself."""
    new = sorted(path for path in set(after) - set(before) if not EXPECTED_LEFT.search(path))
    tops: list[str] = []
    for path in new:
        if not (tops and path.startswith(f"{tops[-1]}/")):
            tops.append(path)
    return tops


def capabilities_of(status: str) -> dict[str, int]:
    """Read uid, sets of capabilities, no_new_privs and seccomp out of /proc/PID/status (proc(5))."""
    found = dict(re.findall(r"^(\w+):\s*(\S+)", status, re.MULTILINE))
    sets = {name: int(found[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb")}
    return sets | {name: int(found[name]) for name in ("Uid", "NoNewPrivs", "Seccomp")}


def drawn(rows: Sequence[Row]) -> str:
    """Lay the rows out as a table."""
    heads = ("", "after", "step", "expected", "seen")
    cells = [heads, *((_mark(r), f"{r.after_s:.0f} s", r.step, r.expected, r.seen) for r in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def _mark(row: Row) -> str:
    return "ok" if row.ok else "NO"
