"""The server as both listeners see it: the report, and how far the measuring is.

It provides ``server.api.core.ReportCore``. Its methods are called from worker threads: each takes what it
needs from the store and the hub at once, and computes on that. The module is long because it has a method
for each question; what takes thought is in the modules that it hands the question to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from analytics.clock import now_us
from analytics.compare import Comparison, compare
from analytics.explain import Explanation, explain
from analytics.exports import EXPORTS, FINDINGS, PATHS, Ask, Batches
from analytics.fusion import Passive
from analytics.graded import Way
from analytics.measurement import Flow, Hop, Reading
from analytics.passive import MOST_GROUPS, Applications, applications, since_us
from analytics.policy import Judged
from analytics.receipt_export import receipt_lines
from analytics.receipt_file import FORMAT as RECEIPTS
from analytics.receipt_file import Header, Line
from analytics.report import (
    Member,
    PathDetail,
    PathRow,
    Report,
    Service,
    addresses_met,
    build_detail,
    build_report,
    with_flows,
)
from analytics.ruled import allowed, with_policy
from analytics.rules.load import Rules
from analytics.sla import Cause, Month, SlaReport, users_of
from analytics.store.store import Store
from analytics.store.stream import Range
from analytics.then import when
from analytics.timeline import Timeline
from analytics.usage import By
from analytics.usual import Usual, with_watched
from analytics.verdict import NOW
from analytics.watched import Watched, with_latest_tests
from server import audit_file
from server.agents import LISTENERS_FROM, Agents, listeners_of
from server.api.agent_info import AgentInfo, Listener
from server.api.audits import AuditAsk, AuditEntry, is_search
from server.api.core import OWN_PROCESS, ExportRange, ReceiptRange, Status
from server.blame import Blame
from server.board import Boards, Pace, Ready, Sight
from server.budget import ALLOWED
from server.cycles import Cycles
from server.grants import Signer
from server.hub import Hub
from server.kept import Kept
from server.lately import Lately
from server.proofs import Proof, proofs_of
from server.roster import Roster
from server.schedule import Pair
from server.sessions import Sessions
from server.showing import Showing
from server.sla import SlaBook
from server.state import State
from server.timelines import Asked, timeline_of
from server.turns import Turns
from server.usual import UsualCache

STATUS_KEPT_S: Final = 1.0
PAIRS_KEPT, PAIR_KEPT_S = 50, 2.0
"""Of a large fleet: a page asks for a pair's facts more than once."""
FLOWS_SINCE_US: Final = 24 * 3600 * 1_000_000
"""How far back the passive flows of a page go."""
TIMELINE_SINCE_US: Final = 24 * 3600 * 1_000_000
"""How far back a timeline goes that does not say."""
PAST_KEPT: Final = 4
"""Reports of the past: a page asks for several cuts of one."""
PAST_KEPT_S: Final = 60.0
"""What an agent could not send in time may still come."""
SLAS_KEPT: Final = 32
SLAS_KEPT_S: Final = 60.0
WHOLE_AT_ONCE: Final = 2
"""Reports of all paths of a large fleet: each takes a minute, and gigabytes."""
SEARCHES_AT_ONCE: Final = 6
"""Of audit rows with those of tests, which are millions."""
EXPORT_SINCE_US: Final = 24 * 3600 * 1_000_000
"""How far back an export goes that does not say."""
OFF_TOLD: Final = 20
"""Agents that are switched off on their own hosts, and told of by name."""
FLOWS_OF_PAIR: Final = 2_000
"""Between the two ends of a path."""


class _Facts(NamedTuple):
    """What is known at a moment, read once for all that is made of it."""

    latest: list[Reading]  # as stored
    readings: list[Reading]  # the same, those of watched paths put together from their latest tests
    usual: Usual
    at_us: int
    now: bool  # and not a moment of the past
    passive: Passive | None = None  # None: not asked yet

    def of_pair(self, src: str, dst: str) -> list[Reading]:
        """Both directions between two agents, as far as they are known."""
        return [reading for reading in self.readings if {reading.src, reading.dst} == {src, dst}]


class _Pair(NamedTuple):
    """What a page of a path and its explanation both begin with."""

    facts: _Facts
    hops: list[Hop]
    told: PathDetail | None  # all but the sessions


class Core(Showing):
    """Reads everything of one tenant, changes nothing."""

    def __init__(
        self,
        *,
        version: str,
        tenant: str,
        state: State,
        store: Store,
        hub: Hub,
        cycles: Cycles,
        rules: Rules,
        lately: Lately,
        signer: Signer,
        data: Path,
        period_us: int = 300_000_000,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._version = version
        self._tenant = tenant
        self._state = state
        self._store = store
        self._hub = hub
        self._cycles = cycles
        self._rules = rules
        self._lately = lately
        self._roster = Roster(
            tenant,
            state=state,
            hub=hub,
            store=store,
            clock=clock,
            stale_after_s=lambda: self._rules_now().stale_after_s,
        )
        self._usual = UsualCache(store, period_us=period_us)
        self._sessions = Sessions(store, rules, tenant)
        self._signer = signer
        self._blame = Blame(store, self._usual, rules)
        self._book = SlaBook(data, tenant, store=store, rules=rules, causes=self._causes, clock=clock)
        self._slas: Kept[tuple[str, int, str, str], SlaReport] = Kept(SLAS_KEPT, SLAS_KEPT_S)
        self._agents = Agents(state, tenant, hub)
        self._past: Kept[tuple[str, int], Report] = Kept(PAST_KEPT, PAST_KEPT_S)
        self._wholes = Turns(WHOLE_AT_ONCE, "reports of all paths")
        self._searches = Turns(SEARCHES_AT_ONCE, "searches of the audit log")
        self._clock = clock
        self._started_us = clock()
        self._fresh: dict[str, tuple[object, Report]] = {}  # small fleet: what the last report was made from
        self._pace = Pace()
        self._statuses: Kept[str, Status] = Kept(1, STATUS_KEPT_S)
        self._pairs: Kept[tuple[str, str, str, int | None], _Pair] = Kept(PAIRS_KEPT, PAIR_KEPT_S)
        self._boards = Boards(
            tenant=tenant,
            store=store,
            lately=lately,
            usual=self._usual,
            sessions=self._sessions,
            sight=self._sight,
            clock=clock,
        )

    def close(self) -> None:
        """Let go of what is kept ready; waits for what is being made."""
        self._boards.close()

    def keep_ready(self) -> None:
        """Make a large fleet's board anew if that is due; blocks for seconds, so call it in a thread."""
        if not self._roster.is_large():
            return
        state = (self._store.batches_taken(), self._hub.changed_s, self._lately.taken)
        if self._pace.is_due(state):
            began = time.monotonic()
            self._boards.refresh()
            self._pace.made(state, time.monotonic() - began)

    def _ready(self, at_us: int | None = None) -> Ready | None:
        """The board; None for a small fleet, which has none."""
        if not self._roster.is_large():
            return None
        return self._boards.now() if at_us is None else self._boards.at(at_us)

    def _sight(self, at_us: int | None) -> Sight:
        members = self._roster.looked_up() if at_us is None else self._roster.at(at_us)
        policy = self._cycles.policing.judged() if at_us is None else ALLOWED
        return Sight(members, self._rules_now(), self._cycles.planner.puts_off, policy)

    def status(self) -> Status:
        """As ``ReportCore``; of a large fleet, it is told once a second: every page asks."""
        return self._statuses.of("", self._status) if self._roster.is_large() else self._status()

    def _status(self) -> Status:
        members = self._roster.tested()
        barred = 2 * self._cycles.policing.judged().barred(members)
        return Status(
            version=self._version,
            started_us=self._started_us,
            agents_enrolled=len(self._roster.enrolled()),
            agents_online=self._roster.online(),
            agents_off=len(self._roster.off()),
            off_there=dict(islice(sorted(self._roster.off_there().items()), OFF_TOLD)),
            passive_off_there=dict(islice(sorted(self._roster.passive_off_there().items()), OFF_TOLD)),
            paths_expected=len(members) * (len(members) - 1) - barred,
            paths_barred=barred,
            paths_measured=self._measured(members),
            cycle=self._cycles.cycle,
            cycle_running=self._cycles.running,
            cycle_s=self._cycles.period_s,
            paths_put_off=2 * self._cycles.planner.put_off(),
            cycles_for_all=self._cycles.planner.cycles_for_all,
            paths_watched=2 * len(self._cycles.planner.watching.pairs),
            paths_not_watched=2 * len(self._cycles.planner.watching.left_out),
            rows=self._store.counts(self._tenant),
            store=asdict(self._store.health()),
        )

    def _measured(self, members: set[str]) -> int:
        kept = self._ready()
        if kept is None:
            measured = self._store.measured(self._tenant)
            bars = self._cycles.policing.judged().bars
            return sum(src in members and dst in members and not bars(src, dst) for src, dst in measured)
        return kept.board.dense.measured(without=set(kept.board.dense.agents) - members)

    def profiles(self) -> list[str]:
        """As ``ReportCore``."""
        return list(self._rules.profiles)

    def members(self, at_us: int | None = None) -> list[Member]:
        """As ``ReportCore``; of a large fleet, they are listed once a second."""
        return self._roster.now() if at_us is None else self._roster.at(at_us)

    def _members_of(self, facts: _Facts) -> list[Member]:
        if self._roster.is_large():
            return self.members(None if facts.now else facts.at_us)
        return self.members() if facts.now else self._roster.then(facts.latest, facts.at_us)

    def report(self, profile: str, at_us: int | None = None) -> Report:
        """As ``ReportCore``."""
        kept = self._ready(at_us)
        if kept is not None:
            return kept.board.report(profile)
        return self._whole(profile, at_us) if at_us is not None else self._small(profile)

    def _small(self, profile: str) -> Report:
        """A small fleet's report; that of this second again if nothing came since."""
        planner = self._cycles.planner
        of = (
            self._clock() // 1_000_000,
            self._store.batches_taken(),
            self._lately.taken,
            self.members(),
            (self._cycles.cycle, planner.cycles_for_all, planner.put_off()),
            self._cycles.policing.judged(),
        )
        known = self._fresh.get(profile)
        if known is not None and known[0] == of:
            return known[1]
        made = self._made(profile, None)
        self._fresh[profile] = (of, made)
        return made

    def _whole(self, profile: str, at_us: int | None = None) -> Report:
        """Every path of the fleet, as structs: of a large one it takes a minute. Raises ``BusyError``."""
        with self._wholes.taken() if self._roster.is_large() else nullcontext():
            if at_us is None:
                return self._made(profile, None)
            return self._past.of((profile, at_us), lambda: self._made(profile, at_us))

    def _made(self, profile: str, at_us: int | None) -> Report:
        facts = self._facts(at_us)
        return self._report(profile, facts, self._hops_of(facts.readings, at_us))

    def _facts(self, at_us: int | None) -> _Facts:
        latest = self._store.readings_latest(self._tenant, at_us)
        watched = self._watched() if at_us is None else {}
        moment_us, now = self._clock() if at_us is None else at_us, at_us is None
        usual = with_watched(self._usual.of(self._tenant, latest, moment_us, now=now), watched)
        readings = with_latest_tests(latest, watched)
        if now:
            readings = self._ruled(readings)
        return _Facts(latest, readings, usual, moment_us, now)

    def _watched(self) -> Mapping[tuple[str, str], Watched]:
        return allowed(self._lately.told(self._clock()), self._cycles.policing.judged())

    def _ruled(self, readings: Sequence[Reading], pair: Sequence[str] = ()) -> list[Reading]:
        """Say of pairs that the policy bars just that: what was measured before is no fault of theirs now."""
        names = pair or [agent.name for agent in self._roster.enrolled()]
        return with_policy(
            readings, self._cycles.policing.judged(), names, tenant=self._tenant, at_us=self._clock()
        )

    def _hops_of(self, readings: Iterable[Reading], at_us: int | None = None) -> list[Hop]:
        return self._store.hops_of(self._tenant, [reading.test for reading in readings], at_us)

    def _report(self, profile: str, facts: _Facts, hops: list[Hop]) -> Report:
        members = self._members_of(facts)
        made = build_report(
            tenant=self._tenant,
            profile=profile,
            readings=facts.readings,
            hops=hops,
            members=members,
            at_us=facts.at_us,
            rules=self._rules_now(),
            usual=facts.usual,
            passive=self._passive(profile, members, facts),
            when=NOW if facts.now else when(facts.at_us),
        )
        return self._with_budget(made) if facts.now else made

    def detail(
        self, src: str, dst: str, profile: str, at_us: int | None = None, *, sessions: bool = True
    ) -> PathDetail | None:
        """As ``ReportCore``."""
        facts, _, told = self._of_pair(src, dst, profile, at_us)
        if told is None or not sessions:
            return told
        return with_flows(told, self._flows_between((src, dst), facts, at_us))

    def _flows_between(self, pair: tuple[str, str], facts: _Facts, at_us: int | None) -> list[Flow]:
        return self._store.flows_of_pair(
            self._tenant,
            pair,
            addresses_met(facts.readings),
            since_us=max(0, (self._clock() if at_us is None else at_us) - FLOWS_SINCE_US),
            until_us=at_us,
            but=OWN_PROCESS,
            limit=FLOWS_OF_PAIR,
        )

    def _of_pair(self, src: str, dst: str, profile: str, at_us: int | None) -> _Pair:
        """What is known of both directions between two agents; of a large fleet, nothing else is read."""
        kept = self._ready(at_us)
        if kept is None:
            facts = self._facts(at_us)
            facts = facts._replace(readings=facts.of_pair(src, dst))
            return self._pair(src, dst, profile, facts, self._hops_of(facts.readings, at_us))
        return self._pairs.of(
            (src, dst, profile, at_us), lambda: self._read_pair(src, dst, profile, at_us, kept)
        )

    def _read_pair(self, src: str, dst: str, profile: str, at_us: int | None, kept: Ready) -> _Pair:
        now = at_us is None
        both = [(src, dst), (dst, src)]
        watched = self._watched() if now else {}
        latest = self._store.readings_of(self._tenant, both, at_us)
        readings = with_latest_tests(latest, watched)
        if now:
            readings = self._ruled(readings, (src, dst))
        usual = self._usual.with_calm(self._tenant, kept.usual, both) if now else kept.usual
        facts = _Facts(
            latest,
            readings,
            with_watched(usual, watched),
            self._clock() if at_us is None else at_us,
            now,
            kept.passive[profile],
        )
        return self._pair(src, dst, profile, facts, self._store.hops_of_readings(self._tenant, readings))

    def _pair(self, src: str, dst: str, profile: str, facts: _Facts, hops: list[Hop]) -> _Pair:
        return _Pair(facts, hops, self._detail((src, dst), profile, facts, hops))

    def _detail(
        self, pair: tuple[str, str], profile: str, facts: _Facts, hops: list[Hop]
    ) -> PathDetail | None:
        """``facts`` and ``hops`` are of the two."""
        members = self._members_of(facts)
        made = build_detail(
            *pair,
            profile=profile,
            readings=facts.readings,
            hops=hops,
            flows=[],
            members=members,
            at_us=facts.at_us,
            rules=self._rules_now(),
            usual=facts.usual,
            passive=self._passive(profile, members, facts),
        )
        if made is None or not facts.now:
            return made
        policy = self._cycles.policing.judged()
        return msgspec.structs.replace(
            made,
            forward=self._row(made.forward, policy),
            back=self._row(made.back, policy) if made.back else None,
        )

    def _passive(self, profile: str, members: list[Member], facts: _Facts) -> Passive:
        if facts.passive is not None:
            return facts.passive
        return self._sessions.of(profile, members, facts.latest, facts.at_us, now=facts.now)

    def explain(self, src: str, dst: str, profile: str, at_us: int | None = None) -> Explanation | None:
        """As ``ReportCore``."""
        kept = self._ready(at_us)
        if kept is None:
            facts = self._facts(at_us)
            all_hops = self._hops_of(facts.readings, at_us)
            report = self._report(profile, facts, all_hops)
            facts = facts._replace(readings=facts.of_pair(src, dst))
            tests = {reading.test for reading in facts.readings}
            hops = [hop for hop in all_hops if hop.test in tests]
        else:
            facts, hops, told = self._of_pair(src, dst, profile, at_us)
            rows = [] if told is None else [told.forward]
            report = msgspec.structs.replace(kept.board.report(profile), paths=rows)
        return explain(
            src,
            dst,
            report=report,
            readings=facts.readings,
            hops=hops,
            usual=facts.usual,
            rules=self._rules_now(),
        )

    def compare(self, profile: str, before_us: int, after_us: int | None = None) -> Comparison:
        """As ``ReportCore``."""
        return compare(self.report(profile, before_us), self.report(profile, after_us))

    def sla(self, service: Service, month: Month) -> SlaReport:
        """As ``ReportCore``."""
        enrolled_us = self._roster.enrolled_us()
        users = [
            member
            for member in users_of(service, self.members(), self._rules)
            if enrolled_us.get(member.name, 0) < month.until_us
        ]
        key = (service.agent, service.port, service.profile, month.name)
        return self._slas.of(key, lambda: self._book.month(service, month, users))

    def signed(self, body: bytes) -> bytes:
        """As ``ReportCore``."""
        return self._signer.statement(body)

    def signing_key(self) -> bytes:
        """As ``ReportCore``."""
        return self._signer.public_key

    def file_days(self) -> None:
        """File what the last days said of each service, for SLA reports. Raises ``StoreError``."""
        services = [service for member in self.members() for service in member.services]
        ways = {(service.agent, service.profile): service for service in services}
        self._book.file((one for one in ways.values() if one.profile in self._rules.profiles), self._clock())

    def _causes(self, way: Way, at_us: int, workplaces: Sequence[str]) -> Mapping[str, Cause]:
        return self._blame.causes(way, at_us, workplaces, self.members())

    def timeline(
        self,
        src: str,
        dst: str,
        profile: str,
        *,
        since_us: int | None = None,
        until_us: int | None = None,
        step_us: int | None = None,
    ) -> Timeline:
        """As ``ReportCore``."""
        until_us = self._clock() if until_us is None else until_us
        since_us = max(0, until_us - TIMELINE_SINCE_US) if since_us is None else since_us
        asked = Asked(
            src=src, dst=dst, profile=profile, since_us=since_us, until_us=until_us, step_us=step_us
        )
        return timeline_of(self._store, self._tenant, asked, self._rules)

    def flows(
        self,
        *,
        agent: str | None = None,
        process: str | None = None,
        remote: str | None = None,
        but: str | None = None,
        at_us: int | None = None,
        limit: int = 200,
    ) -> list[Flow]:
        """As ``ReportCore``."""
        return self._store.flows(
            self._tenant,
            since_us=max(0, (self._clock() if at_us is None else at_us) - FLOWS_SINCE_US),
            until_us=at_us,
            agent=agent,
            process=process,
            remote=remote,
            but=but,
            limit=limit,
        )

    def applications(
        self,
        by: By,
        *,
        agent: str | None = None,
        but: str | None = None,
        at_us: int | None = None,
        limit: int = 200,
    ) -> Applications:
        """As ``ReportCore``."""
        at_us = self._clock() if at_us is None else at_us
        usages = self._store.usage(
            self._tenant,
            by,
            since_us=since_us(at_us),
            until_us=at_us,
            agent=agent,
            but=but,
            limit=MOST_GROUPS,
        )
        return applications(usages, by=by, at_us=at_us, rules=self._rules, limit=limit)

    def export(self, table: str, profile: str, chosen: ExportRange) -> Batches:
        """As ``ReportCore``."""
        until_us = self._clock() if chosen.until_us is None else chosen.until_us
        if table == "findings" or (table == "paths" and chosen.since_us is None):
            made = (
                self._whole(profile, chosen.until_us)
                if table == "paths"
                else self.report(profile, chosen.until_us)
            )
            return FINDINGS.of(made, chosen.agents) if table == "findings" else PATHS.of(made, chosen.agents)
        since_us = max(0, until_us - EXPORT_SINCE_US) if chosen.since_us is None else chosen.since_us
        profiles = [profile] if chosen.profile_named else self.profiles()
        asked = Ask(
            of=Range(self._tenant, since_us, until_us, chosen.agents),
            profile=profile,
            profiles=profiles,
            members=self.members(),
            rules=self._rules,
        )
        kind = EXPORTS[table]
        return Batches(kind.schema, kind.batches(self._store, asked))

    def receipts(self, chosen: ReceiptRange) -> tuple[Header, Iterator[Line]]:
        """As ``ReportCore``."""
        until_us = self._clock() if chosen.until_us is None else chosen.until_us
        since_us = max(0, until_us - EXPORT_SINCE_US) if chosen.since_us is None else chosen.since_us
        header = Header(
            format=RECEIPTS,
            tenant=self._tenant,
            made_us=self._clock(),
            since_us=since_us,
            until_us=until_us,
            of=chosen.words,
        )
        of = Range(self._tenant, since_us, until_us, chosen.agents)
        return header, receipt_lines(self._store, of, src=chosen.src, dst=chosen.dst)

    def proofs(self, src: str, dst: str, at_us: int | None = None) -> list[Proof]:
        """As ``ReportCore``."""
        unsigned = self._cycles.why_unsigned(Pair(*sorted((src, dst))))
        return proofs_of(self._store, self._tenant, (src, dst), at_us, unsigned)

    def audit(self, ask: AuditAsk) -> list[AuditEntry]:
        """As ``ReportCore``."""
        with self._searches.taken() if is_search(ask) else nullcontext():
            return self._state.audits.look(self._tenant, ask)

    def audit_file(self) -> Iterator[bytes]:
        """As ``ReportCore``."""
        return audit_file.written(self._state, self._tenant, self._signer, now_us=self._clock())

    def audit_actions(self) -> list[str]:
        """As ``ReportCore``."""
        return self._state.audits.actions(self._tenant)

    def agents(self) -> list[AgentInfo]:
        """As ``ReportCore``."""
        return self._agents.all(self._cycles.planner.setting, self._clock())

    def agent(self, name: str) -> AgentInfo | None:
        """As ``ReportCore``."""
        return self._agents.one(name, self._cycles.planner.setting, self._clock())

    def listeners(self) -> list[Listener]:
        """As ``ReportCore``."""
        return listeners_of(self.flows(but=OWN_PROCESS, limit=LISTENERS_FROM))

    def _rules_now(self) -> Rules:
        """Call nothing stale that the budget has not had its turn yet, and two cycles more."""
        visited_s = (self._cycles.planner.cycles_for_all + 2) * self._cycles.period_s
        return msgspec.structs.replace(self._rules, stale_after_s=max(self._rules.stale_after_s, visited_s))

    def _with_budget(self, made: Report) -> Report:
        """Say which paths are as old as they are because the budget put them off."""
        policy = self._cycles.policing.judged()
        return msgspec.structs.replace(made, paths=[self._row(row, policy) for row in made.paths])

    def _row(self, row: PathRow, policy: Judged) -> PathRow:
        return msgspec.structs.replace(
            row,
            put_off=self._cycles.planner.puts_off(row.src, row.dst),
            policy=policy.bars(row.src, row.dst),
        )
