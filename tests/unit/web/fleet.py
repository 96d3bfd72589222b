"""A made-up fleet for tests of the page, the API and the command: the radiologist lab, by hand.

Only tests import this. The product computes the same structs from facts.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Request

from analytics import cut
from analytics.clock import HOUR_US
from analytics.compare import Comparison, compare
from analytics.explain import Explanation, explain
from analytics.exports import FINDINGS, PATHS, Batches
from analytics.findings import findings
from analytics.histogram import bucket
from analytics.measurement import (
    CapacityTrust,
    Direction,
    Flow,
    Grade,
    Hop,
    Leg,
    LegKind,
    Letter,
    Reading,
    RouteChange,
    Rung,
    StampSource,
)
from analytics.overview import (
    AGENT_PATHS_SHOWN,
    WORST_SHOWN,
    AgentPaths,
    MatrixCells,
    Metric,
    Overview,
    SitePaths,
    Worst,
)
from analytics.passive import HOURS, Applications, applications, since_us
from analytics.receipt_file import FORMAT, Header, Line
from analytics.report import Member, PathDetail, PathRow, Report, Service, Verdict
from analytics.rules.load import load_rules
from analytics.rules.sla import CauseKind, Side, load_sla_rules
from analytics.sla import NOT_KNOWN, Asked, Cause, Month, SlaReport, sla_report
from analytics.stretches import Graded, Stretch, incidents, stretches
from analytics.timeline import Timeline, span_of, timeline
from analytics.trust import signed_statement
from analytics.usage import KEYS, By, Usage
from analytics.usual import NOTHING_KNOWN, Past
from analytics.wire import Dependence, Health, NatReport
from server.accounts.office import Office
from server.agents import listeners_of
from server.api.access import ALL_TENANTS, EVERYTHING, Visitor
from server.api.agent_info import AgentInfo, Listener, Vitals
from server.api.audits import AuditAsk, AuditEntry
from server.api.controls import BudgetNow, Reach
from server.api.core import OWN_PROCESS, ExportRange, ReceiptRange, Status
from server.audit import Audit
from server.pages.app import report_app
from server.proofs import Proof
from server.receipts import Unsigned
from server.settings import Settings
from server.settings_told import settings_told
from server.trend import Trends
from tests.unit.web.desk import CLINIC_OFF, FixtureDesk

AT_US = 1_795_464_000_000_000  # 2026-11-23 20:00:00 UTC
CYCLE = AT_US // 1_000_000 - 60
WORST_FIRST = "XFDCBA?"

MEMBERS = [
    Member(name="clinic", site="clinic", label="the clinic"),
    Member(name="home", site="home", label="the home reader"),
    Member(name="office-1", site="office", label="the front desk"),
    Member(name="office-2", site="office", label="the back office"),
    Member(
        name="pacs",
        site="hospital",
        label="the PACS",
        services=[Service(name="PACS", profile="pacs", agent="pacs", port=4242)],
    ),
    Member(name="radiologist", site="hotel", label="the radiologist"),
]

CALM_HEADLINE = "All 5 workplaces can open a CT from the PACS on 23 Nov 2026 at 13:00 UTC."
HEADLINE = "4 of 5 workplaces can open a CT from the PACS right now."
DETAIL = (
    "The radiologist (hotel) cannot read comfortably (D): a 50 MB CT takes about 41 s. "
    "212 of 260 ms is added between the hotel's gateway and its provider."
)

# Round trip that each agent's host, access and way to the core add, us.
HOST_US = {"pacs": 300, "home": 900, "clinic": 700, "office-1": 400, "office-2": 500, "radiologist": 1_600}
ACCESS_US = {
    "pacs": 4_100,
    "home": 5_200,
    "clinic": 9_800,
    "office-1": 3_900,
    "office-2": 3_900,
    "radiologist": 212_500,
}
TRANSIT_US = {
    "pacs": 8_000,
    "home": 6_000,
    "clinic": 11_000,
    "office-1": 5_000,
    "office-2": 5_000,
    "radiologist": 20_000,
}
RELAY_US = 9_000


def reading(src: Member, dst: Member) -> Reading:
    legs = legs_of(src, dst)
    least = sum(leg.rtt_us for leg in legs)
    rung = rung_of(src, dst)
    lost = 1 if src.name == "radiologist" else 0
    return Reading(
        tenant="default",
        cycle=CYCLE,
        test=f"{min(src.name, dst.name)}-{max(src.name, dst.name)}",
        src=src.name,
        dst=dst.name,
        started_us=AT_US - 30_000_000,
        ended_us=AT_US - 12_000_000,
        rung=rung,
        rungs_failed="" if rung is Rung.LAN else "lan: other network; ipv6: no address",
        local_candidate="srflx 203.0.113.20 40411",
        remote_candidate="relay 198.51.100.9 50000" if rung.relayed else "srflx 198.51.100.66 51123",
        connect_us=412_000,
        sent=300,
        received=300 - lost,
        rtt_n=300 - lost,
        rtt_min_us=least,
        rtt_p50_us=least + 400,
        rtt_p95_us=least + 1_200,
        ipdv_us=210,
        capacity_kbps=12_000 if src.name == "radiologist" else 94_000,
        capacity_trust=CapacityTrust.AT_LEAST if dst.name == "radiologist" else CapacityTrust.MEASURED,
        stamps=StampSource.KERNEL,
    )


def rung_of(src: Member, dst: Member) -> Rung:
    if src.site == dst.site:
        return Rung.LAN
    return Rung.RELAY_UDP if "clinic" in (src.name, dst.name) else Rung.SRFLX


def legs_of(src: Member, dst: Member) -> list[Leg]:
    near = src.site == dst.site
    transit = TRANSIT_US[src.name] + TRANSIT_US[dst.name] + RELAY_US * rung_of(src, dst).relayed
    return [
        Leg(kind=LegKind.SOURCE_HOST, site=src.site, rtt_us=HOST_US[src.name]),
        Leg(kind=LegKind.SOURCE_ACCESS, site=src.site, rtt_us=0 if near else ACCESS_US[src.name]),
        Leg(kind=LegKind.TRANSIT, site="", rtt_us=0 if near else transit, measured=not near),
        Leg(kind=LegKind.DESTINATION_ACCESS, site=dst.site, rtt_us=0 if near else ACCESS_US[dst.name]),
        Leg(kind=LegKind.DESTINATION_HOST, site=dst.site, rtt_us=HOST_US[dst.name]),
    ]


def grade(src: Member, dst: Member, profile: str, saved_us: int = 0) -> Grade:
    took_ms = (sum(leg.rtt_us for leg in legs_of(src, dst)) - saved_us) * 150 // 1000
    letter = next(
        letter
        for letter, most in (("A", 5_000), ("B", 10_000), ("C", 30_000), ("D", 60_000), ("F", 10**9))
        if took_ms <= most
    )
    return Grade(
        profile=profile,
        letter=Letter(letter),
        outcome=took_ms,
        outcome_low=took_ms * 95 // 100,
        outcome_high=took_ms * 107 // 100,
        unit="ms",
        reason=f"a 50 MB CT takes about {took_ms / 1000:.0f} s",
        rule="pacs.open.v1",
        rules_version="2026-11-01",
    )


def row(src: Member, dst: Member, profile: str) -> PathRow:
    there, back = reading(src, dst), reading(dst, src)
    return PathRow(
        src=src.name,
        dst=dst.name,
        src_site=src.site,
        dst_site=dst.site,
        grade=grade(src, dst, profile),
        at_us=there.ended_us,
        age_s=12,
        rung=there.rung,
        rungs_failed=there.rungs_failed,
        rtt_min_us=there.rtt_min_us,
        rtt_p50_us=there.rtt_p50_us,
        rtt_p95_us=there.rtt_p95_us,
        rtt_n=there.rtt_n,
        loss_bp=10_000 * (there.sent - there.received) // there.sent,
        loss_back_bp=10_000 * (back.sent - back.received) // back.sent,
        sent=there.sent,
        received=there.received,
        ipdv_us=there.ipdv_us,
        capacity_kbps=there.capacity_kbps,
        capacity_trust=there.capacity_trust.value,
        stamps=there.stamps.value,
        connect_us=there.connect_us,
        error="",
        legs=legs_of(src, dst),
    )


def calmed(made: PathRow) -> PathRow:
    """The same path before the hotel's access was slow."""
    if made.rtt_min_us is None or "radiologist" not in (made.src, made.dst):
        return made
    saved_us = 200_000
    legs = [
        msgspec.structs.replace(leg, rtt_us=leg.rtt_us - saved_us) if leg.rtt_us > saved_us else leg
        for leg in made.legs
    ]
    src, dst = (next(one for one in MEMBERS if one.name == name) for name in (made.src, made.dst))
    times = {name: getattr(made, name) - saved_us for name in ("rtt_min_us", "rtt_p50_us", "rtt_p95_us")}
    return msgspec.structs.replace(
        made, **times, legs=legs, grade=grade(src, dst, made.grade.profile, saved_us)
    )


def unreachable(made: PathRow) -> PathRow:
    """The same path when no rung of the ladder got through."""
    nothing = dict.fromkeys(
        ("rtt_min_us", "rtt_p50_us", "rtt_p95_us", "loss_bp", "ipdv_us", "capacity_kbps", "connect_us")
    )
    why = "lan: other network; ipv6: no address; srflx: no answer; relay-udp: refused; relay-tcp: refused"
    return msgspec.structs.replace(
        made,
        **nothing,
        rung=Rung.NONE,
        rungs_failed=why,
        capacity_trust=CapacityTrust.NONE.value,
        rtt_n=0,
        sent=0,
        received=0,
        legs=[],
        error="",
        grade=Grade(
            profile=made.grade.profile,
            letter=Letter.UNREACHABLE,
            reason="no rung of the ladder got through",
            rule="path.reach.v1",
            rules_version="2026-11-01",
        ),
    )


def hops(src: Member, dst: Member) -> list[Hop]:
    """Six hops, the fourth silent; the last one is the end."""
    reached, total = [], 0
    transit = TRANSIT_US[src.name] + TRANSIT_US[dst.name]
    for step in (HOST_US[src.name], ACCESS_US[src.name], transit, 0, ACCESS_US[dst.name], HOST_US[dst.name]):
        total += step
        reached.append(total)
    addresses = ["192.168.7.1", "203.0.113.1", "198.51.100.9", "", "198.51.100.66", "10.20.0.5"]
    return [
        Hop(
            tenant="default",
            cycle=CYCLE,
            test=reading(src, dst).test,
            src=src.name,
            dst=dst.name,
            ttl=ttl,
            address=address,
            is_end=int(ttl == 6),
            sent=6,
            answered=6 if address else 0,
            rtt_min_us=at_us if address else None,
            rtt_p50_us=at_us + 300 if address else None,
            rtt_p95_us=at_us + 1_900 if address else None,
        )
        for ttl, (address, at_us) in enumerate(zip(addresses, reached, strict=True), start=1)
    ]


DAY_US = 24 * HOUR_US
SLOWER_SINCE_US = AT_US - 6 * HOUR_US
"""Since when the radiologist's paths are slow; before, the hotel added next to nothing."""


CHANGES = {16 * HOUR_US - 300_000_000: RouteChange.CHANGED, 14 * HOUR_US - 300_000_000: RouteChange.BALANCED}


def tests_of(src: Member, dst: Member, since_us: int, until_us: int) -> list[Reading]:
    """A test each five minutes; none for an hour; another route for two hours, home's through the relay."""
    base, saved_us = reading(src, dst), 200_000 * ("radiologist" in (src.name, dst.name))
    found = []
    for at_us in range(since_us - since_us % 300_000_000, until_us, 300_000_000):
        ago_us, calm = AT_US - at_us, at_us < SLOWER_SINCE_US
        if 10 * HOUR_US <= ago_us < 11 * HOUR_US:
            continue
        wave_us = at_us // 300_000_000 % 7 * 150
        other = 14 * HOUR_US <= ago_us < 16 * HOUR_US
        relayed = other and "home" in (src.name, dst.name)
        least_us = base.rtt_min_us - saved_us * calm + RELAY_US * relayed
        found.append(
            msgspec.structs.replace(
                base,
                cycle=at_us // 1_000_000 - 60,
                started_us=at_us - 30_000_000,
                ended_us=at_us,
                rung=Rung.RELAY_UDP if relayed else base.rung,
                rungs_failed="srflx: no answer" if relayed else base.rungs_failed,
                received=base.sent if calm else base.received,
                rtt_min_us=least_us,
                rtt_p25_us=least_us + 200,
                rtt_p50_us=least_us + 400 + wave_us,
                rtt_p75_us=least_us + 900 + wave_us,
                rtt_p90_us=least_us + 1_000 + 2 * wave_us,
                rtt_p95_us=least_us + 1_200 + 3 * wave_us,
                rtt_p99_us=least_us + 1_500 + 3 * wave_us,
                route_id="r2" if other else "r1",
                route_change=CHANGES.get(ago_us, RouteChange.SAME),
            )
        )
    return found


def past_of(readings: list[Reading]) -> list[Past]:
    return [
        Past(
            src=one.src,
            dst=one.dst,
            at_us=one.ended_us,
            rung=one.rung,
            rtt_min_us=one.rtt_min_us,
            rtt_p50_us=one.rtt_p50_us,
        )
        for one in readings
    ]


SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
CAUSES = {
    "radiologist": Cause(
        kind=CauseKind.ACCESS,
        side=Side.WORKPLACE,
        where="hotel",
        sentence="The hotel's uplink explains 10 of 10 bad paths (confidence 99 %).",
        at_us=AT_US - 1,
        confidence_percent=99,
    ),
    "clinic": Cause(
        kind=CauseKind.TRANSIT,
        side=Side.BETWEEN,
        where="",
        sentence="The way between the sites added 180 of 212 ms.",
        at_us=AT_US - 1,
    ),
    "home": NOT_KNOWN,
}


def month_stretches(name: str, month: Month) -> list[Stretch]:
    """Good all month, but: the radiologist is slow now, the clinic was once, home was cut off for minutes."""
    good = Letter.A if name.startswith("office") else Letter.B
    bad = {
        "radiologist": [(Letter.D, SLOWER_SINCE_US, AT_US)],
        "clinic": [(Letter.F, AT_US - 9 * DAY_US, AT_US - 9 * DAY_US + 4 * HOUR_US)],
        "home": [
            (Letter.UNREACHABLE, AT_US - n * DAY_US, AT_US - n * DAY_US + 420_000_000) for n in (12, 5, 3)
        ],
    }.get(name, [])
    away = [(Letter.UNKNOWN, AT_US - 2 * DAY_US, AT_US - DAY_US - 12 * HOUR_US)]
    tests = [Graded(month.since_us, good)]
    spells = sorted((*bad, *(away if name == "home" else [])), key=lambda one: one[1])
    for letter, from_us, to_us in spells:
        tests += [Graded(from_us, letter), Graded(to_us, good)]
    return stretches(tests, month.since_us, month.until_us, counts_for_us=month.until_us)


FLOWS = [
    Flow(
        tenant="default",
        agent=agent,
        window_us=AT_US - 40_000_000,
        window_length_us=10_000_000,
        process=process,
        pid=pid,
        direction=direction,
        local_address=local,
        remote_address=remote,
        service_port=4242,
        netns=4026532008,
        opened=1,
        closed=1,
        bytes_sent=sent,
        bytes_received=received,
        segments_sent=segments,
        segments_retransmitted=3,
        rtt_min_us=259_000,
        srtt_us=261_000,
        connect_us=260_100 if direction is Direction.OUT else None,
        delivery_kbps=11_800,
    )
    for agent, process, pid, direction, local, remote, sent, received, segments in (
        (
            "radiologist",
            "getscu",
            4121,
            Direction.OUT,
            "192.168.7.20",
            "198.51.100.66",
            41_000,
            10_530_000,
            410,
        ),
        ("pacs", "Orthanc", 877, Direction.IN, "10.20.0.5", "203.0.113.20", 10_530_000, 41_000, 7_300),
        ("pacs", "pathgrade", 900, Direction.OUT, "10.20.0.5", "198.51.100.130", 900, 150, 2),
    )
]


SESSIONS = [
    ("radiologist", "getscu", Direction.OUT, "198.51.100.66", 4242, 261_000, 300),
    ("pacs", "Orthanc", Direction.IN, "203.0.113.20", 4242, 24_000, 4),
    ("pacs", "pathgrade", Direction.OUT, "198.51.100.130", 8440, 30_000, 0),
]
"""Agent, process, direction, remote address, port, round trip in us, segments sent again in an hour."""


def usages(by: By, but: str | None) -> list[Usage]:
    """A day, one hour of it without a session; getscu's are late all day, Orthanc's wait for the receiver."""
    rest = set().union(*KEYS.values()) - set(KEYS[by])
    blank = {name: getattr(Usage(agent=""), name) for name in rest}
    return [
        msgspec.structs.replace(usage(hour, told), **blank)
        for told in SESSIONS
        for hour in range(HOURS)
        if hour != 3 and told[1] != but
    ]


def usage(hour: int, told: tuple[str, str, Direction, str, int, int, int]) -> Usage:
    agent, process, direction, remote, port, rtt_us, again = told
    return Usage(
        agent=agent,
        process=process,
        direction=direction,
        remote_address=remote,
        service_port=port,
        hour_us=since_us(AT_US) + hour * HOUR_US,
        opened=40,
        closed=40,
        failed=hour % 2,
        segments_sent=4_000,
        segments_retransmitted=again if hour >= 16 else 0,
        busy_us=60_000_000,
        rwnd_limited_us=41_000_000 if process == "Orthanc" else 0,
        bytes_sent=5_260_000,
        srtt_lasting_histogram=(bucket(rtt_us), 40),
    )


HEALTH = Health(
    cpu_us=94_000_000,
    rss_kb=61_440,
    events_seen=812_345,
    mesh=True,
    bytes_sent=118_000_000,
    packets_refused=3,
    packets_late=3,
)
NATS = {
    "radiologist": NatReport(
        udp=True,
        mapped="203.0.113.20",
        mapping=Dependence.ENDPOINT_INDEPENDENT,
        filtering=Dependence.ADDRESS_AND_PORT,
        hairpin=False,
        cgnat=True,
        lifetime_s=60,
    ),
    "clinic": NatReport(udp=True, mapped="203.0.113.77", mapping=Dependence.ADDRESS_AND_PORT),
    "pacs": NatReport(udp=True, mapped="198.51.100.66", mapping=Dependence.NONE, filtering=Dependence.NONE),
    "office-2": NatReport(udp=False),
}


def info_of(member: Member) -> AgentInfo:
    """What else is known of an agent: the office is away, the clinic is switched off."""
    online = member.online
    vitals = Vitals(at_us=AT_US - 9_000_000, over_s=570, cpu_bp=43, bytes_per_hour=21_400_000, latest=HEALTH)
    return AgentInfo(
        name=member.name,
        site=member.site,
        label=member.label,
        online=online,
        enrolled_us=AT_US - 40 * 86_400_000_000,
        seen_us=AT_US if online else AT_US - 7_200_000_000,
        tags=["3rd floor", "radiology"] if member.name == "radiologist" else member.tags,
        services=member.services,
        off=CLINIC_OFF if member.site == "clinic" else None,
        budget=BudgetNow(
            cpu_bp=80,
            bytes_per_hour=5_000_000 if member.site == "hotel" else 36_000_000,
            bytes_by=Reach.SITE if member.site == "hotel" else None,
        ),
        version="0.1.0" if online else "",
        passive="ebpf (7 hooks)" if online else "",
        mesh=True if online else None,
        addresses=["192.168.7.20", "2001:db8:7::20"] if online else [],
        nat=NATS.get(member.name) if online else None,
        vitals=vitals if online else None,
    )


AUDIT = [
    AuditEntry(
        id=120 - number,
        at_us=AT_US - number * 60_000_000,
        actor=actor,
        action=action,
        subject=of,
        detail=told,
    )
    for number, (actor, action, of, told) in enumerate(
        [
            ("ada", "switch", "site clinic", "mesh=off"),
            ("ada", "tags", "radiologist", "+3rd floor, +radiology"),
            ("token:lab", "run", "radiologist pacs", "run=5d1f pairs=1"),
            ("ada", "budget", "site hotel", "cpu_bp=unset bytes_per_hour=5000000"),
            *[("home", "test", "pacs", f"test={number:04x} cycle={CYCLE}") for number in range(100)],
            *[(name, "enrol", name, "site=hospital from=10.20.0.5") for name in ("pacs", "clinic", "home")],
        ]
    )
]


@dataclass
class FixtureCore:
    """A ``ReportCore`` over the fleet above; tests take agents away or give them other names."""

    fleet: list[Member] = field(default_factory=lambda: list(MEMBERS))
    measured: bool = True
    cycle_running: bool = False
    letters: dict[tuple[str, str], Letter] = field(default_factory=dict)  # instead of the computed ones

    def status(self) -> Status:
        count = len(self.fleet)
        return Status(
            version="0.1.0",
            started_us=AT_US - 600_000_000,
            agents_enrolled=count,
            agents_online=sum(member.online for member in self.fleet),
            paths_expected=count * (count - 1),
            paths_measured=len(self._pairs()),
            cycle=CYCLE if self.measured else None,
            cycle_running=self.cycle_running,
            rows={"readings": 30, "hops": 180, "flows": len(FLOWS)},
        )

    def profiles(self) -> list[str]:
        return ["generic", "pacs"]

    def members(self, at_us: int | None = None) -> list[Member]:
        return self.fleet

    def report(self, profile: str, at_us: int | None = None) -> Report:
        rows = [self._row(src, dst, profile) for src, dst in self._pairs()]
        calm = at_us is not None and at_us < SLOWER_SINCE_US
        rows = [calmed(row) for row in rows] if calm else rows
        rows.sort(key=lambda made: (WORST_FIRST.index(made.grade.letter), -(made.grade.outcome or 0)))
        return Report(
            tenant="default",
            profile=profile,
            at_us=at_us or AT_US,
            rules_version="2026-11-01",
            verdict=self._verdict(profile, calm=calm),
            findings=findings(rows, self.fleet),
            paths=rows,
            members=self.fleet,
            missing=[],
        )

    def revision(self, profile: str) -> str:
        return cut.revision_of(self.report(profile))

    def overview(self, profile: str, at_us: int | None = None) -> Overview:
        return cut.overview_of(self.report(profile, at_us))

    def sites(self, profile: str, at_us: int | None = None) -> list[SitePaths]:
        return cut.site_paths_of(self.report(profile, at_us))

    def matrix(self, profile: str, metric: Metric, at_us: int | None = None) -> MatrixCells:
        return cut.cells_of(self.report(profile, at_us), metric)

    def agent_paths(
        self, agent: str, profile: str, at_us: int | None = None, limit: int = AGENT_PATHS_SHOWN
    ) -> AgentPaths:
        return cut.agent_paths_of(self.report(profile, at_us), agent, limit)

    def worst(
        self, profile: str, limit: int = WORST_SHOWN, start: int = 0, at_us: int | None = None
    ) -> Worst:
        return cut.worst_of(self.report(profile, at_us), limit, start)

    def detail(
        self, src: str, dst: str, profile: str, at_us: int | None = None, *, sessions: bool = True
    ) -> PathDetail | None:
        known = {member.name: member for member in self.fleet}
        if not self.measured:
            return None
        a, b = known[src], known[dst]
        return PathDetail(
            forward=self._row(a, b, profile),
            back=self._row(b, a, profile),
            forward_reading=reading(a, b),
            back_reading=reading(b, a),
            forward_hops=hops(a, b),
            back_hops=hops(b, a),
            flows=FLOWS if {src, dst} == {"radiologist", "pacs"} else [],
        )

    def explain(self, src: str, dst: str, profile: str, at_us: int | None = None) -> Explanation | None:
        if not self.measured:
            return None
        known = {member.name: member for member in self.fleet}
        a, b = known[src], known[dst]
        return explain(
            src,
            dst,
            report=self.report(profile, at_us),
            readings=[reading(a, b), reading(b, a)],
            hops=[*hops(a, b), *hops(b, a)],
            usual=NOTHING_KNOWN,
            rules=load_rules(),
        )

    def compare(self, profile: str, before_us: int, after_us: int | None = None) -> Comparison:
        return compare(self.report(profile, before_us), self.report(profile, after_us))

    def sla(self, service: Service, month: Month) -> SlaReport:
        users = [member for member in self.fleet if member.name != service.agent]
        parts = {member.name: month_stretches(member.name, month) for member in users if self.measured}
        causes = {(name, one.since_us): CAUSES[name] for name, own in parts.items() for one in incidents(own)}
        asked = Asked("default", service, month, AT_US, ["2026-11-01"], 900)
        return sla_report(asked, parts, users, causes, load_sla_rules())

    def signed(self, body: bytes) -> bytes:
        return signed_statement(body, SIGNING_KEY)

    def signing_key(self) -> bytes:
        return SIGNING_KEY.public_key().public_bytes_raw()

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
        known = {member.name: member for member in self.fleet}
        until_us = AT_US if until_us is None else until_us
        span = span_of(until_us - DAY_US if since_us is None else since_us, until_us, step_us)
        ways = [(known[src], known[dst]), (known[dst], known[src])] if self.measured else []
        # This fleet is two months old; a server has not measured in the years before it either.
        since_us = max(span.since_us, AT_US - 60 * DAY_US)
        found = [one for a, b in ways for one in tests_of(a, b, since_us, until_us)]
        before = [one for a, b in ways[:1] for one in tests_of(a, b, since_us - 30 * HOUR_US, until_us)]
        return timeline(
            src,
            dst,
            profile=profile,
            span=span,
            readings=found,
            past=past_of(before),
            rules=load_rules(),
        )

    def export(self, table: str, profile: str, chosen: ExportRange) -> Batches:
        kind = {"paths": PATHS, "findings": FINDINGS}[table]
        return kind.of(self.report(profile, chosen.until_us), chosen.agents)

    def receipts(self, chosen: ReceiptRange) -> tuple[Header, Iterator[Line]]:
        return Header(format=FORMAT, tenant="default", of=chosen.words), iter(())

    def proofs(self, src: str, dst: str, at_us: int | None = None) -> list[Proof]:
        told = {"cycle": CYCLE, "tested_us": AT_US - 12_000_000}
        if "clinic" in (src, dst):
            return [Proof(src=src, dst=dst, unsigned=Unsigned.LARGE, **told)]
        signed = {"signed_us": AT_US - 11_000_000, **told}
        return [
            Proof(src=src, dst=dst, ends=2, **signed),
            Proof(src=dst, dst=src, ends=1, why_not="refused: counts", **signed),
        ]

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
        found = [
            flow
            for flow in FLOWS
            if agent in (None, flow.agent)
            and process in (None, flow.process)
            and remote in (None, flow.remote_address)
            and flow.process != but
        ]
        return found[:limit]

    def applications(
        self,
        by: By,
        *,
        agent: str | None = None,
        but: str | None = None,
        at_us: int | None = None,
        limit: int = 200,
    ) -> Applications:
        seen = [one for one in usages(by, but) if agent in (None, one.agent)]
        return applications(seen, by=by, at_us=AT_US, rules=load_rules(), limit=limit)

    def agents(self) -> list[AgentInfo]:
        return [info_of(member) for member in self.fleet]

    def agent(self, name: str) -> AgentInfo | None:
        return next((info for info in self.agents() if info.name == name), None)

    def listeners(self) -> list[Listener]:
        return listeners_of(self.flows(but=OWN_PROCESS))

    def audit(self, ask: AuditAsk) -> list[AuditEntry]:
        rows = [
            row
            for row in AUDIT
            if (ask.before is None or row.id < ask.before)
            and ask.actor in (None, row.actor)
            and ask.action in (None, row.action)
            and (ask.subject or "") in row.subject
            and (ask.since_us is None or row.at_us >= ask.since_us)
            and (ask.until_us is None or row.at_us <= ask.until_us)
            and (ask.tests or row.action != "test")
        ]
        return rows[: ask.limit]

    def audit_file(self) -> Iterator[bytes]:
        yield b"{}"

    def audit_actions(self) -> list[str]:
        return sorted({row.action for row in AUDIT} - {"test"})

    def _row(self, src: Member, dst: Member, profile: str) -> PathRow:
        made, letter = row(src, dst, profile), self.letters.get((src.name, dst.name))
        if letter is Letter.UNREACHABLE:
            return unreachable(made)
        if letter is Letter.UNKNOWN:
            grade = Grade(profile=profile, letter=letter, reason="12 probes are too few", rule="pacs.n.v1")
            return msgspec.structs.replace(made, grade=grade)
        return (
            msgspec.structs.replace(made, grade=msgspec.structs.replace(made.grade, letter=letter))
            if letter
            else made
        )

    def _pairs(self) -> list[tuple[Member, Member]]:
        if not self.measured:
            return []
        return [(a, b) for a in self.fleet for b in self.fleet if a.name != b.name]

    def _verdict(self, profile: str, *, calm: bool = False) -> Verdict:
        if not self.fleet:
            return Verdict(headline="No agents yet.", details=[], can=[], cannot=[], unknown=[])
        if not self.measured:
            return Verdict(headline="Nothing is measured yet.", details=[], can=[], cannot=[], unknown=[])
        if profile == "generic":
            return Verdict(
                headline="20 of 30 paths are good right now.", details=[], can=[], cannot=[], unknown=[]
            )
        if calm:
            everyone = [m.name for m in self.fleet if m.name != "pacs"]
            return Verdict(headline=CALM_HEADLINE, details=[], can=everyone, cannot=[], unknown=[])
        others = [m.name for m in self.fleet if m.name not in ("pacs", "radiologist")]
        return Verdict(headline=HEADLINE, details=[DETAIL], can=others, cannot=["radiologist"], unknown=[])


def with_label(label: str) -> FixtureCore:
    """The fleet with another label on the radiologist."""
    fleet = [replace_member(m, label) if m.name == "radiologist" else m for m in MEMBERS]
    return FixtureCore(fleet=fleet)


def replace_member(member: Member, label: str) -> Member:
    return Member(name=member.name, site=member.site, label=label, services=member.services)


@dataclass(frozen=True)
class OneTenant:
    """A tenant's parts, whoever asks."""

    core: FixtureCore
    desk: Any = None
    alerts: Any = None
    meter: Any = None
    trends: Any = None
    audit: Any = field(default_factory=lambda: Audit(None, "default"))  # type: ignore[arg-type]  # none is written

    def of(self, tenant: str) -> OneTenant:
        return self


class Anyone:
    """Everybody may do everything."""

    async def of(self, request: Request) -> Visitor:
        return Visitor(name="anyone", tenant="default", scopes=EVERYTHING, home=ALL_TENANTS)


@contextmanager
def serve(
    core: FixtureCore,
    desk: Any = None,
    *,
    alerts: Any = None,
    meter: Any = None,
    trends: Any = None,
    office: Office | None = None,
) -> Iterator[str]:
    """Serve the report application on a free port of the loopback; gives its URL.

    With an ``office``, people log in; without one, everybody may do everything.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    trends = trends or Trends(core, clock=lambda: AT_US)
    parts = OneTenant(core, desk or FixtureDesk(), alerts=alerts, meter=meter, trends=trends)
    told = settings_told(Settings.load(data="/var/lib/pathgrade", cycle_s=60), {})
    visitors = Anyone() if office is None else office.known
    app = report_app(parts, visitors, version="0.1.0", office=office, settings=told)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        # The socket listens already: a connection made now waits in its queue until the server takes it.
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        app.state.events.close()
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
