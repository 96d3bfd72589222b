"""Runs the plan: a cycle when one is due, each pair test as soon as its agents and sites are free.

``server.budget`` chooses what a cycle tests. Tests on demand go before those of the cycle: one that is in
their way is cancelled, and comes again later in the cycle. This module is long because it is one machine of
states; what can be decided without it is in ``budget``, ``planner``, ``schedule``, ``demand``, ``early``,
``watching`` and ``ways``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence, Set
from functools import cache
from random import Random
from typing import Final

from analytics.clock import now_us
from analytics.measurement import Rung
from analytics.policy import Judged
from analytics.wire import (
    IceServer,
    LocalOff,
    MeshSwitch,
    ProbePlan,
    Signal,
    TestCancel,
    TestEnded,
    TestOrder,
)
from server.api.controls import BudgetNow
from server.audit import Audit
from server.budget import Choice, budget_of, depths
from server.control import Switches
from server.demand import Demand, Run, require_few
from server.early import EarlyTurns
from server.errors import DemandError
from server.grants import Signer
from server.hub import Connection, Hub
from server.planner import Asked, Planner
from server.policing import Policing, barred
from server.receipts import Fleet, Unsigned, wants_receipt, why_unsigned
from server.running import Plan, Resting, RunningTest
from server.schedule import Backlog, Pair, cycle_due
from server.ways import Ways

log: Final = logging.getLogger("pathgrade.server.cycles")

LOOK_S: Final = 0.5
"""How late a deadline or the start of a cycle may be noticed; everything else wakes the runner at once."""

LEAST_LOOK_S: Final = 0.02
"""Between looks at sites that rest: with a hundred of them one is always about to be ready."""

GRACE_S: Final = 5.0
"""After a test's deadline, for the ends' own word to arrive."""

DEMAND_S: Final = 20
"""How long a test on demand may take: somebody waits for it."""

FLEET_KEPT_S: Final = 10.0
"""How old it may be who offers a service, when it is decided of which tests both ends sign."""

SWITCHED_OFF: Final = "active tests were switched off"
"""Why a test ended that somebody's switch ended."""

SWITCHED_OFF_THERE: Final = "active tests were switched off on an end's own host"
"""The same, where the switch is the host's own."""

SECOND_TURN_S: Final = 5.0
"""An agent whose connection broke is back within a second or two; a pair is not given up for that."""

Judge = Callable[[], Judged]
"""Gives what the policy says in this step."""


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
        random: Random | None = None,
        signer: Signer | None = None,  # without one, agents refuse what is ordered
        policing: Policing | None = None,  # None: all is allowed until something else is set
    ) -> None:
        random = random or Random()  # noqa: S311  # it spreads starts, it keeps nobody out
        self._hub = hub
        self._audit = audit
        self._plan = plan
        self._clock = clock
        self._wall_us = wall_us
        self._random = random
        self.planner = Planner(
            depths(plan.probe),
            budget_of(
                period_s=plan.period_s, cpu_bp=plan.budget_cpu_bp, bytes_per_hour=plan.budget_bytes_per_hour
            ),
            random,
            period_s=plan.period_s,
            watch_s=plan.watch_s,
            setting=BudgetNow(cpu_bp=plan.budget_cpu_bp, bytes_per_hour=plan.budget_bytes_per_hour),
        )
        self.policing = policing or Policing(clock=clock, sites=hub.mesh_sites, wall_us=wall_us)
        self.planner.policy = self.policing.judged
        self._demand = Demand()
        self._urgent = Backlog({})  # pairs on demand
        self._signer = signer
        self._backlog = Backlog({})
        self._ahead: tuple[Asked, list[Choice]] | None = None
        self._resting = Resting(plan.jitter_s, random, clock)
        self._late_s = 0.0  # this cycle's start, by chance
        self._awaited: frozenset[str] = frozenset()  # sites that tests of watched pairs wait for
        self._members: set[str] = set()  # agents in the plan of this cycle
        self._put_off: dict[Pair, float] = {}  # pairs that wait for a second turn, and until when
        self._tried_twice: set[Pair] = set()
        self._early = EarlyTurns()
        self._tests: dict[str, RunningTest] = {}
        self._ways = Ways()
        self._joined_s = 0.0  # the fleet's change that was looked at last
        self._started_s: float | None = None
        self.cycle: int | None = None
        self.running = False
        self.ended = asyncio.Event()  # set at the end of each cycle, for whoever seals
        self.on_start: Callable[[str, Pair], None] = lambda test, pair: None  # of a watched pair's test
        self.fleet: Callable[[], Fleet] = lambda: Fleet(0, frozenset())
        self._fleet_then: tuple[float, Fleet] | None = None  # as it was when it was asked for
        self.skipped = 0  # pairs of this cycle that could not be tested: an end was away, or got lost
        hub.on_leaving = self.lost

    @property
    def period_s(self) -> int:
        """From the start of one cycle to the start of the next."""
        return round(self._plan.period_s)

    async def run(self) -> None:
        """Keep the mesh going until cancelled; then tell the agents to stop."""
        try:
            while True:
                await self._plan_ahead()
                self.step()
                await self._woken()
        finally:
            self._cancel_all("the server is stopping")

    def step(self) -> None:
        """Do all that is due now."""
        judge = cache(self.policing.judged)  # once in a step, and only where a test may begin
        self._expire()
        self._start_urgent(judge)
        self._start_watched(judge)
        self._start_early(judge)
        if not self.running and self._due():
            self._begin()
        self._join()
        if self.running:
            self._give_second_turns()
            self._start_ready(judge)
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
        self._ways.heard(test.pair, message.rung, self._clock())
        test.ended[sender] = message
        if not test.unfinished:
            self._drop(test)
            self._audit.tested(*test.pair, test=test.id, ends=test.ended)
            first = test.pair not in self.planner.history
            self.planner.note(
                test.pair, test.probe, test.ended, self._wall_us(), full=test.full, between=test.between
            )
            self.planner.watching.heard(test.pair, test.ended, self._clock())
            worked = self.planner.history[test.pair].rung is not Rung.NONE
            self._early.heard(test.pair, self._clock(), worked=worked, first=first)
            if test.on_demand:
                self._demand.end(test.pair, test.ended, self._wall_us())
            log.info("test ended pair=%s,%s rung=%s error=%r", *test.pair, message.rung, message.error)
        return True

    def lost(self, agent: str, why: str) -> None:
        """Stop the tests of an agent whose connection is gone."""
        for test in [test for test in self._tests.values() if agent in test.pair]:
            self._give_up(test, f"{agent} is gone: {why}")

    def obey(self, switches: Switches) -> None:
        """Take what is switched off from now on: tests there end at once, and the agents are told."""
        changed = self._hub.obey(switches)
        for connection in changed:
            connection.say(MeshSwitch(on=self._hub.is_on(connection)))
        off = {connection.agent.name for connection in changed if not self._hub.is_on(connection)}
        if off:
            self._leave(off)
        self._wake()

    def switched_there(self, connection: Connection, off: LocalOff | None) -> None:
        """Take what an agent says is switched on its own host: nothing is ordered against that."""
        if not self._hub.switch_here(connection, off):
            return
        agent = connection.agent
        if off is not None:
            self._leave({agent.name}, SWITCHED_OFF_THERE)
        else:
            # What was switched here meanwhile was not told to who was off anyway.
            connection.say(MeshSwitch(on=self._hub.is_on(connection)))
        log.info("active tests %s on its own host name=%s", "on" if off is None else "off", agent.name)

    def enforce(self) -> None:
        """End the tests that the policy does not allow any more; what waits is judged when it starts."""
        judged = self.policing.judged()
        for test in [test for test in self._tests.values() if judged.bars(*test.pair)]:
            self._cancel(test, barred(judged.bars(*test.pair)))
        self._wake()

    def _leave(self, agents: Set[str], why: str = SWITCHED_OFF) -> None:
        """Take agents out of everything that runs or waits."""
        running = [test for test in self._tests.values() if not agents.isdisjoint(test.pair)]
        for test in running:
            self._cancel(test, why)
        self._urgent.leave(agents)
        second = [pair for pair in self._put_off if not agents.isdisjoint(pair)]
        for pair in second:
            del self._put_off[pair]
        self.planner.leave(agents, [*self._backlog.leave(agents), *second, *(test.pair for test in running)])
        self._demand.leave(agents, self._wall_us(), why)
        self._early.leave(agents)
        self._members -= agents  # so that they join again when they are switched on

    # --- what people ask ---------------------------------------------------------------------------------

    def demand(self, pairs: Iterable[Pair], *, fleet: bool = False) -> Run:
        """Test pairs now, before those of the cycle: ``fleet``: many, so each is quicker still.

        Raises ``DemandError`` if active tests are off, the policy does not allow them, or a pair is asked for
        already. Of many pairs, those that the policy does not allow are left out.
        """
        pairs = set(pairs)
        require_few(pairs)  # before they are judged one by one
        pairs = self._allowed(pairs, some=fleet)
        for agent in sorted({agent for pair in pairs for agent in pair}):
            self.require_on(agent)
        plans = self.planner.depths
        run = self._demand.open(pairs, plans.fleet if fleet else plans.quick, self._wall_us())
        self._urgent.join(self._hub.mesh_sites(), sorted(run.waiting))
        self._make_way(run)
        self.step()
        self._wake()
        return run

    def _allowed(self, pairs: set[Pair], *, some: bool) -> set[Pair]:
        """Leave out what the policy does not allow now; raises ``DemandError`` where nothing is left."""
        judged = self.policing.judged()
        refusals = {pair: why for pair in pairs if (why := self.policing.refusal(pair, judged))}
        if refusals and (not some or len(refusals) == len(pairs)):
            pair, why = min(refusals.items())
            raise DemandError(
                f"{' and '.join(pair)}: {why}",
                remedy=f"pathgrade policy check {' '.join(pair)} says more; an admin sets the policy",
            )
        return pairs - refusals.keys()

    def require_on(self, agent: str) -> None:
        """Raise ``DemandError`` where active tests are switched off for an agent that is online."""
        connection = self._hub.get(agent)
        if connection is not None and connection.local_off is not None:
            raise DemandError(
                f"active tests are switched off on {agent}, on its own host, by {connection.local_off.by}",
                remedy=f"only there they can be switched on again: pathgrade agent mesh on, on {agent}",
            )
        if connection is not None and not self._hub.is_on(connection):
            raise DemandError(
                f"active tests are switched off on {agent}",
                remedy="pathgrade mesh switches says by whom; pathgrade mesh on ends it",
            )

    def run_of(self, id_: str) -> Run | None:
        """Find a run of tests on demand."""
        return self._demand.get(id_)

    def _make_way(self, run: Run) -> None:
        """Cancel the cycle's tests on the sites that the first tests of a run need; they come again."""
        sites = self._hub.mesh_sites()
        needed = {sites[agent] for pair in run.waiting for agent in pair if agent in sites}
        for test in [test for test in self._tests.values() if not test.on_demand and test.sites & needed]:
            self._cancel(test, "a test on demand goes first")
            if not test.between:
                self._backlog.again(test.pair)

    # --- the cycle ---------------------------------------------------------------------------------------

    def _due(self) -> bool:
        return len(self._hub.mesh_sites()) > 1 and cycle_due(
            now_s=self._clock(),
            started_s=self._started_s,
            period_s=self._plan.period_s + self._late_s,
            changed_s=self._hub.changed_s,
            settle_s=self._plan.settle_s,
        )

    async def _plan_ahead(self) -> None:
        """Choose in a thread what ``_begin`` or ``_join`` will take: a thousand agents take a second."""
        begins = not self.running and self._due()
        if begins or self._newcomers():
            asked = self.planner.ask(self._hub.mesh_sites(), joining=not begins)
            self._ahead = asked, await asyncio.to_thread(self.planner.choose, asked)

    def _begin(self) -> None:
        sites = self._hub.mesh_sites()
        self._backlog = Backlog(sites, self._chosen(sites))
        self._members = set(sites)
        self._joined_s = self._hub.changed_s
        self._started_s = self._clock()
        self._late_s = self._random.uniform(0, self._plan.jitter_s)
        for site in set(sites.values()):
            self._resting.rest(site)
        self.cycle = self._wall_us() // 1_000_000
        self.running = True
        self._put_off = {}
        self._tried_twice = set()
        self._early.clear()
        self.skipped = 0
        log.info("cycle started cycle=%d agents=%d pairs=%d", self.cycle, len(sites), len(self._backlog))

    def _chosen(self, sites: dict[str, str], *, joining: bool = False) -> list[Pair]:
        """Take what was chosen ahead, if it is of these very agents; else choose now."""
        ahead, self._ahead = self._ahead, None
        if ahead is None or not self.planner.holds(ahead[0], sites, joining=joining):
            asked = self.planner.ask(sites, joining=joining)
            ahead = asked, self.planner.choose(asked)
        return self.planner.take(*ahead)

    def _newcomers(self) -> bool:
        """Say whether agents are there that this cycle does not have, and the fleet is quiet."""
        if self._started_s is None or not self._is_quiet() or self._hub.changed_s == self._joined_s:
            return False
        return not self._hub.mesh_sites().keys() <= self._members

    def _join(self) -> None:
        """Let agents into the cycle that came since it began. One that is over goes on for them.

        The next may be minutes away, and somebody who has just installed an agent is looking.
        """
        if self._newcomers():
            sites = self._hub.mesh_sites()
            self._backlog.join(sites, self._chosen(sites, joining=True))
            self._members |= set(sites)
            self.running = self.running or bool(self._backlog)
            log.info("cycle goes on cycle=%s agents=%d pairs=%d", self.cycle, len(sites), len(self._backlog))
        self._joined_s = self._hub.changed_s if self._is_quiet() else self._joined_s

    def _is_quiet(self) -> bool:
        return self._clock() - self._hub.changed_s >= self._plan.settle_s

    def _finish_if_done(self) -> None:
        if any(not test.between for test in self._tests.values()) or self._backlog or self._put_off:
            return
        self.running = False
        self.ended.set()
        log.info("cycle ended cycle=%s skipped=%d", self.cycle, self.skipped)

    # --- tests -------------------------------------------------------------------------------------------

    def _start_ready(self, judge: Judge) -> None:
        """Start what can start. A pair with an end away leaves its sites to the next ones in turn."""
        away = True
        while away:
            away = False
            busy = self._busy() | self._resting.sites() | self._urgent.sites | self._awaited
            for pair in self._backlog.startable(busy, self._room()):
                ends = self._both(pair)
                if ends is None:
                    away = True
                    self._try_later(pair)
                elif self.policing.refusal(pair, judge()):
                    away = True  # its sites are free for others
                else:
                    self._start(pair, ends, self.planner.plan_of(pair), judge())

    def _start_urgent(self, judge: Judge) -> None:
        for pair in self._urgent.startable(self._busy(), self._room()):
            ends, run = self._both(pair), self._demand.of(pair)
            why = self.policing.refusal(pair, judge()) if ends else "an end of it is not connected"
            if ends is None or why:
                self._demand.end(pair, {}, self._wall_us(), why=why)
            elif run is not None:
                self._start(pair, ends, run.plan, judge(), on_demand=True)

    def _start_watched(self, judge: Judge) -> None:
        """Start the tests between cycles that are due; the cycle leaves them the sites that they wait for."""
        self._awaited = frozenset()
        watching = self.planner.watching
        self.planner.look_at_watched(self._hub.mesh_sites(), self._clock())
        for pair, plan in watching.due(self._clock()):
            sites, ends = watching.sites_of(pair), self._both(pair)
            if not self._room() or sites & (self._busy() | self._urgent.sites | self._awaited):
                self._awaited |= sites
            elif self.policing.refusal(pair, judge()):
                watching.passed_over(pair, self._clock())
            elif ends is not None:
                watching.started(pair, plan, self._clock())
                self._start(pair, ends, plan, judge(), between=True)

    def _start_early(self, judge: Judge) -> None:
        """Start the early turns that are due and that the cycle's budget has room for."""
        now_s = self._clock()
        for pair in self._early.due(now_s):
            ends = self._both(pair)
            if ends is None or self.policing.refusal(pair, judge()):
                self._early.put_off(pair, now_s)
                continue
            sites = frozenset(end.agent.site for end in ends)
            if not self._room() or sites & (self._busy() | self._urgent.sites | self._awaited):
                self._awaited |= sites
            elif (plan := self.planner.once_more(pair)) is None:
                self._early.forget(pair)
            else:
                self._early.started(pair, now_s)
                self._start(pair, ends, plan, judge(), between=True)

    def _busy(self) -> frozenset[str]:
        return frozenset[str]().union(*(test.sites for test in self._tests.values()))

    def _room(self) -> int:
        return max(0, self._plan.tests_at_once - len(self._tests))

    def _both(self, pair: Pair) -> tuple[Connection, Connection] | None:
        first, second = self._hub.get(pair.first), self._hub.get(pair.second)
        if first is None or second is None or not (self._hub.is_on(first) and self._hub.is_on(second)):
            return None
        return first, second

    def _start(
        self,
        pair: Pair,
        ends: tuple[Connection, Connection],
        probe: ProbePlan,
        judged: Judged,
        *,
        on_demand: bool = False,
        between: bool = False,
    ) -> None:
        running = self.cycle if self.running else None
        full = probe == self.planner.depths.full
        probe, rule = self.policing.begin(pair, probe, judged)
        test = RunningTest(
            id=secrets.token_hex(8),
            pair=pair,
            # Outside a cycle a test is a cycle of its own, newer than the last one.
            cycle=self._wall_us() // 1_000_000 if running is None else running,
            probe=probe,
            sites=frozenset(end.agent.site for end in ends),
            unfinished={*pair},
            overdue_s=self._clock() + self._deadline_s(on_demand=on_demand) + GRACE_S,
            on_demand=on_demand,
            full=full,
            between=between,
            rule=rule,
            receipt=wants_receipt(self._plan.receipts, self._fleet(), pair),
        )
        test.grant = self._grant(test, ends)
        self._tests[test.id] = test
        self._audit.test(*pair, test=test.id, cycle=test.cycle)
        rungs = self._plan.relays.rungs()
        first = (
            self._ways.known_rung(pair, rungs)
            if between
            else self._ways.first_rung(pair, rungs, self._clock())
        )
        if pair in self.planner.watching.pairs:
            self.on_start(test.id, pair)
        for me, peer in (ends, ends[::-1]):
            me.say(self._order(test, me, peer, first))

    def why_unsigned(self, pair: Pair) -> Unsigned:
        """Say why a pair's test has no receipt, where it has none; any thread."""
        return why_unsigned(self._plan.receipts, self._fleet(), pair)

    def _fleet(self) -> Fleet:
        """Ask who serves what, at most once in a while: hundreds of tests begin in a second."""
        now_s = self._clock()
        if self._fleet_then is None or now_s - self._fleet_then[0] >= FLEET_KEPT_S:
            self._fleet_then = now_s, self.fleet()
        return self._fleet_then[1]

    def _deadline_s(self, *, on_demand: bool) -> int:
        return min(self._plan.deadline_s, DEMAND_S) if on_demand else self._plan.deadline_s

    def _give_up(self, test: RunningTest, why: str) -> None:
        """End a test that cannot go on: the cycle's gets a second turn, people are told why at once."""
        self._cancel(test, why)
        if test.between:
            self.planner.watching.heard(test.pair, {}, self._clock())
            self._early.heard(test.pair, self._clock(), worked=False)
        elif not test.on_demand:
            self._try_later(test.pair)

    def _try_later(self, pair: Pair) -> None:
        """Give a pair that could not be tested a second turn in this cycle, but no third."""
        if pair in self._tried_twice:
            self.skipped += 1
            first = pair not in self.planner.history
            self._early.heard(pair, self._clock(), worked=False, first=first)
        else:
            self._tried_twice.add(pair)
            self._put_off[pair] = self._clock() + SECOND_TURN_S
        self._wake()  # its sites are free for another pair

    def _give_second_turns(self) -> None:
        now_s = self._clock()
        for pair in [pair for pair, until_s in self._put_off.items() if until_s <= now_s]:
            del self._put_off[pair]
            self._backlog.again(pair)

    def _order(self, test: RunningTest, me: Connection, peer: Connection, first: Rung | None) -> TestOrder:
        return TestOrder(
            test=test.id,
            cycle=test.cycle,
            peer=peer.agent.name,
            peer_fingerprint=peer.agent.fingerprint,
            controlling=me.agent.name == test.pair.first,
            rungs=self._plan.relays.rungs(),
            first_rung=first,
            ice_servers=self._ice_servers(me),
            plan=test.probe,
            deadline_us=self._deadline_s(on_demand=test.on_demand) * 1_000_000,
            grant=test.grant,
            peer_identity_key=peer.agent.identity_key,
            peer_binding=peer.binding,
            receipt=test.receipt,
        )

    def _grant(self, test: RunningTest, ends: tuple[Connection, Connection]) -> bytes:
        if self._signer is None:
            return b""
        most_s = self._deadline_s(on_demand=test.on_demand)
        src, dst = (end.agent for end in ends)
        return self._signer.grant(
            test=test.id,
            cycle=test.cycle,
            src=src,
            dst=dst,
            lasts_us=round((most_s + GRACE_S) * 1e6),
            plan=test.probe,
            most_s=most_s,
            rule=test.rule,
        )

    def stun_urls(self, me: Connection) -> list[str]:
        """Name this server's STUN responder as ``me`` reaches it."""
        return [f"stun:{host or me.server_host}:{port}" for host, port in self._plan.stun]

    def _ice_servers(self, me: Connection) -> list[IceServer]:
        stun = [IceServer(url=url) for url in self.stun_urls(me)]
        return stun + self._plan.relays.ice_servers(me.agent.name, self._wall_us() // 1_000_000)

    def _expire(self) -> None:
        now_s = self._clock()
        for test in [test for test in self._tests.values() if test.overdue_s <= now_s]:
            self._give_up(test, f"not done {GRACE_S:.0f} s after its deadline")

    def _cancel_all(self, why: str) -> None:
        for test in [*self._tests.values()]:
            self._cancel(test, why)

    def _cancel(self, test: RunningTest, why: str) -> None:
        self._drop(test)
        self._ways.forget(test.pair)
        log.warning("test cancelled pair=%s,%s why=%r", *test.pair, why)
        self._audit.tested(*test.pair, test=test.id, ends=test.ended, why=why)
        if test.on_demand:
            self._demand.end(test.pair, test.ended, self._wall_us(), why=why)
        for connection in self._ends(test.unfinished):
            connection.say(TestCancel(test=test.id, why=why))

    def _ends(self, names: set[str]) -> Sequence[Connection]:
        return [found for name in names if (found := self._hub.get(name)) is not None]

    def _drop(self, test: RunningTest) -> None:
        del self._tests[test.id]
        for site in test.sites:
            self._resting.rest(site)
        self._wake()

    # --- waking ------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._hub.changed.set()

    async def _woken(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(
                self._look_s()
            ):  # not wait_for: before Python 3.12 it may swallow a cancel
                await self._hub.changed.wait()
        self._hub.changed.clear()

    def _look_s(self) -> float:
        """Sleep until the first site is ready again, where anything waits for it; the end of a test wakes."""
        if not self._backlog or not self._room() or not self._resting.sites():
            return LOOK_S
        return min(max(self._resting.first_ready_s(), LEAST_LOOK_S), LOOK_S)
