"""Path MTU by probing (RFC 8899, DPLPMTUD) on the test's own 5-tuple.

::

    1500 ──acknowledged──► done: the path takes at least what Ethernet does
      │ too long, told by ICMP: next is what the router says (checked, never just believed)
      │ silence, three times: a smaller one; then between the two, at sizes that links really have

One datagram is outstanding at a time. Nothing is fragmented: what is too long is dropped. A black hole is a
size that vanishes without a word while a smaller one gets through. Pure but for ``search``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agent.mesh.packet import Raw, RawKind, quoted_raw
from agent.mesh.stamps import IcmpError

MAX_PACKETS: Final = 10
FIRST_TRIES: Final = 3  # RFC 8899 section 5.1.2, MAX_PROBES
LATER_TRIES: Final = 2
FIRST_SEQUENCE: Final = 1 << 30
"""Sequences of these probes: no trace sends that many, so that the two are told apart by the answer."""

SIZES: Final = (1500, 1492, 1480, 1460, 1450, 1440, 1420, 1400, 1380, 1360, 1320, 1280)
"""IP packets as links have them: Ethernet, PPPoE, IP in IP, GRE, VXLAN, WireGuard, VPNs, IPv6's least."""
SMALLEST: Final = {False: 576, True: 1280}  # RFC 791 section 3.2, RFC 8200 section 5
NEAR: Final = 8
"""Closer bounds than this are not worth another datagram."""

SHORTEST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 1.0
RTTS_WAITED: Final = 3
MOST_LOSS_BP: Final = 500
"""Above that, silence says nothing of size: the search is left out."""


@dataclass(frozen=True, slots=True)
class PathMtu:
    """What the search found. ``mtu`` is None where not even the smallest size was acknowledged."""

    mtu: int | None = None
    black_hole: bool | None = None
    packets: int = 0


UNKNOWN: Final = PathMtu()


@dataclass(slots=True)
class MtuSearch:
    """The next size to send, and what came of the last: a search by halves with hints."""

    v6: bool
    packets: int = 0
    _works: int | None = None
    _fails: int = SIZES[0] + 1
    _vanished: set[int] = field(default_factory=set)  # sizes that nobody said a word about
    _tried: int = 0  # times the current size was sent
    _hint: int | None = None
    _size: int = SIZES[0]

    def next(self) -> int | None:
        """IP bytes of the datagram to send now; None when the search is over."""
        if self.packets >= MAX_PACKETS or self._fails - (self._works or 0) <= 1:
            return None
        if self._tried == 0:
            size = self._choose()
            if size is None:
                return None
            self._size = size
        self.packets += 1
        self._tried += 1
        return self._size

    def acknowledged(self) -> None:
        """The peer got the last one."""
        self._works, self._tried = self._size, 0

    def too_long(self, mtu: int | None) -> None:
        """A router, or this host, says that the last one is too long for its link, which takes ``mtu``."""
        self._fails, self._tried = self._size, 0
        # RFC 8899 section 4.6.1: what cannot be true is no hint.
        if mtu is not None and max(SMALLEST[self.v6], self._works or 0) <= mtu < self._size:
            self._hint, self._fails = mtu, mtu + 1

    def silent(self) -> None:
        """Nobody said anything of the last one in time."""
        if self._tried >= (FIRST_TRIES if self._fails > SIZES[0] else LATER_TRIES):
            self._vanished.add(self._size)
            self._fails, self._tried = self._size, 0

    def found(self) -> PathMtu:
        """The greatest size that got through, and whether a greater one vanished."""
        if self._works is None:
            return PathMtu(packets=self.packets)
        gone = any(size > self._works for size in self._vanished)
        return PathMtu(self._works, gone, self.packets)

    def _choose(self) -> int | None:
        hint, self._hint = self._hint, None
        if hint is not None:
            return hint
        if self._fails > SIZES[0]:
            return SIZES[0]
        least = SMALLEST[self.v6]
        if self._works is None:
            return SIZES[-1] if self._fails > SIZES[-1] else (least if self._fails > least else None)
        between = [size for size in SIZES if self._works < size < self._fails]
        if between:
            return between[len(between) // 2]
        half = (self._works + self._fails) // 2
        return half if self._fails - self._works > NEAR else None


class MtuProbe:
    """One search under way: builds its datagrams and takes what comes back."""

    def __init__(self, token: bytes, *, v6: bool, headers: int) -> None:
        self._token = token
        self._headers = headers
        self._search = MtuSearch(v6)
        self._sequence = self._first = FIRST_SEQUENCE
        self._size = 0
        self._told = asyncio.Event()
        self._too_long: int | None = None
        self._acknowledged = False
        self._refused = False

    def on_reply(self, sequence: int) -> bool:
        """The peer has a datagram; False if it is none of the size that is out: an earlier try counts too."""
        if not self._first <= sequence <= self._sequence:
            return False
        self._acknowledged = True
        self._told.set()
        return True

    def on_icmp(self, error: IcmpError) -> bool:
        """Something is too long for a link; False if the error says anything else, or is not about ours."""
        about = quoted_raw(error.quoted)
        if error.mtu is None or about not in (None, (self._token, self._sequence)):
            return False
        self._refused, self._too_long = True, error.mtu
        self._told.set()
        return True

    async def search(self, send: Callable[[bytes], bool], *, wait_s: float) -> PathMtu:
        """Send up to ``MAX_PACKETS`` datagrams, one after the other, and say what the path takes."""
        while (size := self._search.next()) is not None:
            self._sequence += 1
            if size != self._size:
                self._first, self._size = self._sequence, size
            self._acknowledged = self._refused = False
            self._told.clear()
            length = size - self._headers
            sent = send(Raw(RawKind.HOP_PROBE, self._token, self._sequence, length=length).encode())
            if sent:
                await self._wait(wait_s)
            self._settle(sent)
        return self._search.found()

    async def _wait(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._told.wait()
        except TimeoutError:
            return  # silence is an answer too

    def _settle(self, sent: bool) -> None:
        if self._acknowledged:
            self._search.acknowledged()
        elif self._refused or not sent:
            self._search.too_long(self._too_long if self._refused else None)
        else:
            self._search.silent()


def waiting_s(rtt_us: int | None) -> float:
    """How long an answer may take on a path of this round trip."""
    return min(LONGEST_WAIT_S, max(SHORTEST_WAIT_S, RTTS_WAITED * (rtt_us or 0) / 1e6))


def is_due(every: int, tests_since: int | None, *, changed: bool) -> bool:
    """True for the first test of a pair, every Nth (0 = never), and the one that sees another route."""
    return every > 0 and (tests_since is None or changed or tests_since + 1 >= every)
