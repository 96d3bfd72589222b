"""How much of what happened a watcher told: its sessions against those the programs themselves reported.

A session has two ends on loopback, each with its own owner and its own bytes; each end counts as one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class End(NamedTuple):
    """One end of a TCP session, seen from that end."""

    local: str
    local_port: int
    remote: str
    remote_port: int


class Truth(NamedTuple):
    """What the program at an end says of it: payload bytes that it sent and read."""

    end: End
    pid: int
    sent: int
    received: int


class Seen(NamedTuple):
    """What a watcher tells of an end.

    ``give`` is how far the truth may be from its bytes, least and most, and it still be right: 0 where bytes
    are told, up to a kilobyte where whole kilobytes are.
    """

    end: End
    pid: int
    sent: int
    received: int
    give: tuple[int, int] = (0, 0)

    def tells(self, truth: Truth) -> bool:
        """True where process and bytes are right."""
        bytes_fit = self._fits(self.sent, truth.sent) and self._fits(self.received, truth.received)
        return self.pid == truth.pid and bytes_fit

    def _fits(self, told: int, true: int) -> bool:
        low, high = self.give
        return told + low <= true <= told + high


class Shares(NamedTuple):
    """Of ``ends``: those that were told at all, and those with the right process and the right bytes."""

    ends: int
    seen: int
    right: int

    @property
    def seen_share(self) -> float:
        """0 to 1."""
        return self.seen / self.ends

    @property
    def right_share(self) -> float:
        """0 to 1."""
        return self.right / self.ends


def shares(truths: Sequence[Truth], seen: Iterable[Seen]) -> Shares:
    """Compare. An end that was told several times (open, then closed) is right if one of them is."""
    by_end = _by_end(seen)
    return Shares(
        ends=len(truths),
        seen=sum(truth.end in by_end for truth in truths),
        right=sum(_is_right(truth, by_end) for truth in truths),
    )


def wrong(truths: Sequence[Truth], seen: Iterable[Seen], *, most: int) -> list[str]:
    """Name some that were not told rightly, and how: for whoever looks into it."""
    by_end = _by_end(seen)
    missed = [truth for truth in truths if not _is_right(truth, by_end)]
    return [_say_both(truth, by_end[truth.end]) for truth in missed[:most]]


def _say_both(truth: Truth, told: Sequence[Seen]) -> str:
    return f"{_say(truth)}, told: {'; '.join(map(_say, told)) or 'nothing'}"


def _is_right(truth: Truth, by_end: dict[End, list[Seen]]) -> bool:
    return any(one.tells(truth) for one in by_end.get(truth.end, ()))


def _by_end(seen: Iterable[Seen]) -> dict[End, list[Seen]]:
    found: dict[End, list[Seen]] = defaultdict(list)
    for one in seen:
        found[one.end].append(one)
    return found


def _say(one: Truth | Seen) -> str:
    end = one.end
    return f"{end.local}:{end.local_port} > {end.remote_port} pid {one.pid} up {one.sent} down {one.received}"
