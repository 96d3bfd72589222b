"""Runs the plan: a cycle when one is due, each pair test as soon as its agents and sites are free."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from analytics.wire import IceServer, MeshSwitch, ProbePlan, Signal, TestCancel, TestEnded, TestOrder
from server.audit import Audit
from server.clock import now_us
from server.grants import Signer
from server.hub import Connection, Hub
from server.schedule import Backlog, Pair, cycle_due
from server.turn import Relays

log: Final = logging.getLogger("pathgrade.server.cycles")

LOOK_S: Final = 0.5
"""How late a deadline or the start of a cycle may be noticed; everything else wakes the runner at once."""

GRACE_S: Final = 5.0
"""After a test's deadline, for the ends' own word to arrive."""


SECOND_TURN_S: Final = 5.0
"""An agent whose connection broke is back within a second or two; a pair is not given up for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the operator set about cycles and tests."""

    period_s: float
    settle_s: float
    deadline_s: int
    probe: ProbePlan
    stun: tuple[tuple[str | None, int], ...]  # host (None = as the agent reaches this server), port
    relays: Relays


@dataclass(slots=True, kw_only=True)
class RunningTest:
    """A test that both ends have been told of."""

    id: str
    pair: Pair
    sites: frozenset[str]
    unfinished: set[str]  # the ends that have not said that they are done
    overdue_s: float
    grant: bytes = b""

    def other(self, agent: str) -> str:
        """Name the end across from ``agent``."""
        return self.pair.second if agent == self.pair.first else self.pair.first


class Cycles:
    """The state of the mesh. All but ``run`` is plain code on the event loop: no step can be cut in two."""

    def __init__(
        self,
        hub: Hub,
        audit: Audit,
        plan: Plan,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_us: Callable[[], int] = now_us,
        signer: Signer | None = None,  # without one, agents refuse what is ordered
    ) -> None:
        self._hub = hub
        self._audit = audit
        self._plan = plan
        self._clock = clock
        self._wall_us = wall_us
        self._signer = signer
        self._backlog = Backlog({})
        self._members: set[str] = set()  # agents in the plan of this cycle
        self._put_off: dict[Pair, float] = {}  # pairs that wait for a second turn, and until when
        self._tried_twice: set[Pair] = set()
        self._tests: dict[str, RunningTest] = {}
        self._started_s: float | None = None
        self._on = True
        self.cycle: int | None = None
        self.running = False
        self.ended = asyncio.Event()  # set at the end of each cycle, for whoever seals
        self.skipped = 0  # pairs of this cycle that could not be tested: an end was away, or got lost
        hub.on_leaving = self.lost

    async def run(self) -> None:
        """Keep the mesh going until cancelled; then tell the agents to stop."""
        try:
            while True:
                self.step()
                await self._woken()
        finally:
            self._cancel_all("the server is stopping")

    def step(self) -> None:
        """Do all that is due now."""
        self._expire()
        if not self.running and self._due():
            self._begin()
        if self.running:
            self._join()
            self._give_second_turns()
            self._start_ready()
            self._finish_if_done()

    # --- what agents say ---------------------------------------------------------------------------------

    def relay(self, sender: str, signal: Signal) -> bool:
        """Pass a signal to the other end of a running test; False if ``sender`` is no end of it."""
        test = self._tests.get(signal.test)
        if test is None or sender not in test.pair:
            return False
        if (peer := self._hub.get(test.other(sender))) is not None:
            peer.say(signal)
        return True

    def end(self, sender: str, message: TestEnded) -> bool:
        """Take one end's word that it is done; False if ``sender`` is no end of that test."""
        test = self._tests.get(message.test)
        if test is None or sender not in test.pair:
            return False
        test.unfinished.discard(sender)
        if not test.unfinished:
            self._drop(test)
            log.info("test ended pair=%s,%s rung=%s error=%r", *test.pair, message.rung, message.error)
        return True

    def lost(self, agent: str, why: str) -> None:
        """Stop the tests of an agent whose connection is gone."""
        for test in [test for test in self._tests.values() if agent in test.pair]:
            self._cancel(test, f"{agent} is gone: {why}")
            self._try_later(test.pair)

    def switch(self, *, on: bool) -> None:
        """Turn active tests on or off, on every agent."""
        self._on = on
        self._audit.switch("all agents", on=on)
        for connection in self._hub.connections():
            connection.say(MeshSwitch(on=on))
        if not on:
            self._cancel_all("active tests were switched off")
            self._backlog = Backlog({})
            self._put_off = {}
        self._wake()

    # --- the cycle ---------------------------------------------------------------------------------------

    def _due(self) -> bool:
        return (
            self._on
            and len(self._hub.mesh_sites()) > 1
            and cycle_due(
                now_s=self._clock(),
                started_s=self._started_s,
                period_s=self._plan.period_s,
                changed_s=self._hub.changed_s,
                settle_s=self._plan.settle_s,
            )
        )

    def _begin(self) -> None:
        sites = self._hub.mesh_sites()
        self._backlog = Backlog(sites)
        self._members = set(sites)
        self._started_s = self._clock()
        self.cycle = self._wall_us() // 1_000_000
        self.running = True
        self._put_off = {}
        self._tried_twice = set()
        self.skipped = 0
        log.info("cycle started cycle=%d agents=%d pairs=%d", self.cycle, len(sites), len(self._backlog))

    def _join(self) -> None:
        """Let agents that came during the cycle into it, once the fleet is quiet."""
        sites = self._hub.mesh_sites()
        quiet = self._clock() - self._hub.changed_s >= self._plan.settle_s
        if self._on and quiet and not set(sites) <= self._members:
            self._backlog.join(sites)
            self._members |= set(sites)

    def _finish_if_done(self) -> None:
        if self._tests or self._backlog or self._put_off:
            return
        self.running = False
        self.ended.set()
        log.info("cycle ended cycle=%s skipped=%d", self.cycle, self.skipped)

    # --- tests -------------------------------------------------------------------------------------------

    def _start_ready(self) -> None:
        busy = frozenset[str]().union(*(test.sites for test in self._tests.values()))
        for pair in self._backlog.startable(busy):
            ends = (self._hub.get(pair.first), self._hub.get(pair.second))
            if ends[0] is None or ends[1] is None:
                self._try_later(pair)
            else:
                self._start(pair, (ends[0], ends[1]))

    def _start(self, pair: Pair, ends: tuple[Connection, Connection]) -> None:
        assert self.cycle is not None
        test = RunningTest(
            id=secrets.token_hex(8),
            pair=pair,
            sites=frozenset(end.agent.site for end in ends),
            unfinished={*pair},
            overdue_s=self._clock() + self._plan.deadline_s + GRACE_S,
        )
        test.grant = self._grant(test, ends)
        self._tests[test.id] = test
        self._audit.test(*pair, test=test.id, cycle=self.cycle)
        for me, peer in (ends, ends[::-1]):
            me.say(self._order(test, me, peer))

    def _try_later(self, pair: Pair) -> None:
        """Give a pair that could not be tested a second turn in this cycle, but no third."""
        if pair in self._tried_twice:
            self.skipped += 1
        else:
            self._tried_twice.add(pair)
            self._put_off[pair] = self._clock() + SECOND_TURN_S
        self._wake()  # its sites are free for another pair

    def _give_second_turns(self) -> None:
        now_s = self._clock()
        for pair in [pair for pair, until_s in self._put_off.items() if until_s <= now_s]:
            del self._put_off[pair]
            self._backlog.again(pair)

    def _order(self, test: RunningTest, me: Connection, peer: Connection) -> TestOrder:
        assert self.cycle is not None
        return TestOrder(
            test=test.id,
            cycle=self.cycle,
            peer=peer.agent.name,
            peer_fingerprint=peer.agent.fingerprint,
            controlling=me.agent.name == test.pair.first,
            rungs=self._plan.relays.rungs(),
            ice_servers=self._ice_servers(me),
            plan=self._plan.probe,
            deadline_us=self._plan.deadline_s * 1_000_000,
            grant=test.grant,
            peer_identity_key=peer.agent.identity_key,
            peer_binding=peer.binding,
        )

    def _grant(self, test: RunningTest, ends: tuple[Connection, Connection]) -> bytes:
        assert self.cycle is not None
        if self._signer is None:
            return b""
        lasts_us = round((self._plan.deadline_s + GRACE_S) * 1e6)
        src, dst = (end.agent for end in ends)
        return self._signer.grant(test=test.id, cycle=self.cycle, src=src, dst=dst, lasts_us=lasts_us)

    def _ice_servers(self, me: Connection) -> list[IceServer]:
        stun = [IceServer(url=f"stun:{host or me.server_host}:{port}") for host, port in self._plan.stun]
        return stun + self._plan.relays.ice_servers(me.agent.name, self._wall_us() // 1_000_000)

    def _expire(self) -> None:
        now_s = self._clock()
        for test in [test for test in self._tests.values() if test.overdue_s <= now_s]:
            self._cancel(test, f"not done {GRACE_S:.0f} s after its deadline")
            self._try_later(test.pair)

    def _cancel_all(self, why: str) -> None:
        for test in [*self._tests.values()]:
            self._cancel(test, why)

    def _cancel(self, test: RunningTest, why: str) -> None:
        self._drop(test)
        log.warning("test cancelled pair=%s,%s why=%r", *test.pair, why)
        for connection in self._ends(test.unfinished):
            connection.say(TestCancel(test=test.id, why=why))

    def _ends(self, names: set[str]) -> Sequence[Connection]:
        return [found for name in names if (found := self._hub.get(name)) is not None]

    def _drop(self, test: RunningTest) -> None:
        del self._tests[test.id]
        self._wake()

    # --- waking ------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._hub.changed.set()

    async def _woken(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):  # not wait_for: before Python 3.12 it may swallow a cancel
                await self._hub.changed.wait()
        self._hub.changed.clear()
