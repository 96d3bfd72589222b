"""What this host itself allows: the ``[policy]`` of ``agent.toml``, judged before anything is sent.

A server, even one with a stolen key, gets no more out of this agent. What each part rests on: a peer's *name*
is as good as its pinned identity key; its *site* is the server's word, signed in the grant. Hours are by this
host's own clock. What tests took is counted here, over any 60 minutes, and kept over restarts
(``agent.spent``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from agent.errors import TrustError
from analytics.policy import (
    NOT_TESTED,
    Days,
    HoursText,
    PeerSelector,
    Who,
    Zone,
    check_hours,
    fits,
    lasts,
)

if TYPE_CHECKING:
    from analytics.trust import Grant  # a configuration is read without cryptography

ServerHost = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
HOUR_NS: Final = 3_600 * 1_000_000_000
MB: Final = 1_000_000


class OwnReason(StrEnum):
    """What refusals of a host's own policy are counted by; part of ``agent.mesh.trust.Reason``."""

    PEER = "own-policy-peer"
    HOURS = "own-policy-hours"
    TESTS = "own-policy-tests"
    BYTES = "own-policy-bytes"
    CPU = "own-policy-cpu"


class OwnRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the owner of this host allows."""

    peers: Annotated[list[PeerSelector], msgspec.Meta(max_length=200)] | None = None
    """Peers that it may test, and be tested by: names, `site:NAME`. Not set: every peer.
    An empty list: none."""
    not_peers: Annotated[list[PeerSelector], msgspec.Meta(max_length=200)] = []
    """Peers that it may not, whatever `peers` says."""
    servers: Annotated[list[ServerHost], msgspec.Meta(max_length=20)] | None = None
    """Hosts of the STUN and TURN servers that it may ask, as the server writes them. Not set: those that the
    server names, at most eight different ones an hour. An empty list: none."""
    hours: HoursText | None = None
    """When: `07:00-19:00`; `22:00-06:00` goes over midnight, and belongs to the day on which it begins."""
    days: Days = []
    """On which days: `mon` to `sun`. None: every day."""
    zone: Zone = "UTC"
    """Time zone of hours and days, as in `Europe/Berlin`."""
    tests_an_hour: Annotated[int, msgspec.Meta(ge=0, le=3_600)] | None = None
    """Tests in any 60 minutes."""
    mb_an_hour: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | None = None
    """Megabytes that tests may send over UDP in any 60 minutes. A test that might need more than is left is
    not begun."""
    cpu_bp: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    """CPU time of one core, in 1/100 of a percent, that tests may take of any 60 minutes. A test that might
    need more than is left, by the dearest of that time, is not begun."""

    @property
    def counts(self) -> bool:
        """Whether any of it bounds what tests take together."""
        return any(most is not None for most in (self.tests_an_hour, self.mb_an_hour, self.cpu_bp))


def check(rules: OwnRules) -> None:
    """Raise ``PolicyError`` for hours that never are, and for a zone that is none."""
    check_hours(rules.hours, rules.zone, "policy")


@dataclass(slots=True)
class Took:
    """What one test took, or may still take."""

    began_ns: int
    bytes: int
    cpu_us: int = 0


class OwnPolicy:
    """Judges tests, and keeps count of what they took. For one thread at a time."""

    def __init__(
        self,
        rules: OwnRules,
        name: str,
        *,
        monotonic_ns: Callable[[], int],
        wall_us: Callable[[], int],
    ) -> None:
        self._rules = rules
        self._name = name
        self._monotonic_ns = monotonic_ns
        self._wall_us = wall_us
        self._tests: deque[Took] = deque()  # of the last hour
        self.changes = 0
        """How often what counts became another; 0 where the rules count nothing."""

    def judge(self, grant: Grant, peer: str) -> None:
        """Raise ``TrustError`` unless a test with a peer may be."""
        now_ns = self._monotonic_ns()
        while self._tests and self._tests[0].began_ns <= now_ns - HOUR_NS:
            self._tests.popleft()
        site = grant.dst_site if peer == grant.dst else grant.src_site
        for reason, why in self._objections(Who(peer, site), grant.most_bytes):
            raise TrustError(
                f"{NOT_TESTED}: {self._name}'s own policy refuses this test: {why}",
                reason=reason,
                remedy=f"[policy] in agent.toml on {self._name} says so",
            )

    def begin(self, grant: Grant) -> None:
        """Count a test that is under way from now on, with all that it may send until it has ``ended``."""
        self._tests.append(Took(self._monotonic_ns(), grant.most_bytes))
        self.changes += self._rules.counts

    def ended(self, *, sent_bytes: int, cpu_us: int) -> None:
        """Take in what the latest test really took."""
        if self._tests:
            self._tests[-1].bytes, self._tests[-1].cpu_us = sent_bytes, cpu_us
            self.changes += self._rules.counts

    def took(self) -> list[Took]:
        """Tell what counts, oldest first; where the rules count nothing, nothing."""
        return [*self._tests] if self._rules.counts else []

    def restore(self, took: Iterable[Took]) -> None:
        """Take in what tests of an earlier process took, oldest first; before anything is judged."""
        self._tests.extend(took)

    def exhaust(self) -> None:
        """Take all that an hour allows as taken now: what was taken is not known."""
        rules, now_ns = self._rules, self._monotonic_ns()
        most = Took(now_ns, (rules.mb_an_hour or 0) * MB, (rules.cpu_bp or 0) * HOUR_NS // 10_000_000)
        self.restore([most, *(Took(now_ns, 0) for _ in range(rules.tests_an_hour or 0))])

    def _objections(self, peer: Who, most_bytes: int) -> list[tuple[OwnReason, str]]:
        rules = self._rules
        named = rules.peers is None or any(fits(one, peer) for one in rules.peers)
        barred = any(fits(one, peer) for one in rules.not_peers)
        sent = sum(test.bytes for test in self._tests)
        cpu_us, dearest_us = self._cpu_us()
        checks = (
            (OwnReason.PEER, not named or barred, f"{peer.name} is none of its peers"),
            (OwnReason.HOURS, not self._lasts(), f"it has tests in its hours only ({rules.hours or 'days'})"),
            (
                OwnReason.TESTS,
                rules.tests_an_hour is not None and len(self._tests) >= rules.tests_an_hour,
                f"{rules.tests_an_hour} tests an hour, and it had them",
            ),
            (
                OwnReason.BYTES,
                rules.mb_an_hour is not None and sent + most_bytes > rules.mb_an_hour * MB,
                f"{rules.mb_an_hour} MB an hour: {sent / MB:.1f} are sent, it may need {most_bytes / MB:.1f}",
            ),
            (
                OwnReason.CPU,
                rules.cpu_bp is not None and cpu_us + dearest_us > rules.cpu_bp * HOUR_NS // 10_000_000,
                f"{(rules.cpu_bp or 0) / 100:g} % of a core over an hour, and {cpu_us / 1e6:.1f} s are taken",
            ),
        )
        return [(reason, why) for reason, objects, why in checks if objects]

    def _lasts(self) -> bool:
        rules = self._rules
        return lasts(rules.hours, rules.days, rules.zone, self._wall_us())

    def _cpu_us(self) -> tuple[int, int]:
        """CPU time of this hour's tests, and of the dearest of them."""
        taken = [test.cpu_us for test in self._tests]
        return sum(taken), max(taken, default=0)
