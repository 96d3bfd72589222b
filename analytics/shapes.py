"""The shapes of a report: fleet, path rows, verdict. Others import them from ``analytics.report``."""

from __future__ import annotations

import msgspec

from analytics.fused import Fused
from analytics.measurement import Flow, Grade, Hop, Leg, LegKind, Reading, Rung
from analytics.wire import NatReport


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """Something people open, on an agent's host."""

    name: str  # "PACS"
    profile: str
    agent: str
    port: int
    tagged: bool = False  # by people, here; else the agent offers it


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One agent of the fleet, as enrolled."""

    name: str
    site: str
    label: str = ""  # "the radiologist"; empty = the name
    online: bool = True
    services: list[Service] = []
    addresses: list[str] = []  # of its interfaces, as it said; empty = offline, or an agent of before
    nat: NatReport | None = None  # what is in front of it, as it found out; None = offline, or not known yet
    tags: list[str] = []  # free words that people put on it, by alphabet
    switched_off: bool = False  # active tests: for it, its site or the fleet


class AddedLeg(msgspec.Struct, frozen=True, kw_only=True):
    """The leg that made a path slower than usual (``analytics/attribution.py``)."""

    kind: LegKind
    site: str  # whose leg it is; empty for transit
    added_us: int
    of_us: int  # by which the path is slower altogether
    direction: str = ""  # forward (src -> dst), back; empty = not known


class PathRow(msgspec.Struct, frozen=True, kw_only=True):
    """The latest of one directed path, graded: one line of the ranked list and of the export."""

    src: str
    dst: str
    src_site: str
    dst_site: str
    grade: Grade
    at_us: int  # end of the test
    age_s: int
    rung: Rung
    rungs_failed: str
    rtt_min_us: int | None
    rtt_p50_us: int | None
    rtt_p95_us: int | None
    rtt_n: int
    loss_bp: int | None  # src -> dst
    loss_back_bp: int | None  # dst -> src, from the other end's reading
    sent: int
    received: int
    ipdv_us: int | None
    capacity_kbps: int | None
    capacity_trust: str
    stamps: str
    connect_us: int | None
    error: str
    legs: list[Leg]  # sum of rtt_us == rtt_min_us; empty where there are no hops to tell
    put_off: bool = False  # the latest cycle had no room for it in the agents' budget: hence its age
    policy: str = ""  # rule of the server's policy that keeps it from being tested now
    usual_rtt_us: int | None = None  # median round trip that is usual; None while too little is known
    usual_outcome: int | None = (
        None  # median outcome in the day before the change, in grade.unit; None without
    )
    slower_since_us: int | None = None  # of a change that is on
    added: AddedLeg | None = None  # None: no change, or nobody can tell
    added_why: str = ""  # why nobody can tell
    fused: Fused | None = None  # what applications' own sessions said; None = nothing
    watched: bool = False  # tested between cycles: the letter is that of many tests, and holds
    letter_since_us: int | None = None  # since when the letter is what it is; None where not watched
    lossy_since_us: int | None = None  # since when src -> dst loses packets; None: not, or not watched

    @property
    def worse_loss_bp(self) -> int:
        """Loss of the direction that loses more, basis points."""
        return max(self.loss_bp or 0, self.loss_back_bp or 0)


class PathDetail(msgspec.Struct, frozen=True, kw_only=True):
    """Both directions of a pair, their hops as seen from either end, and the passive flows between them."""

    forward: PathRow
    back: PathRow | None
    forward_reading: Reading
    back_reading: Reading | None
    forward_hops: list[Hop]
    back_hops: list[Hop]
    flows: list[Flow]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The sentence, and the sentences under it: one per workplace that cannot, then what is not known."""

    headline: str  # "4 of 5 workplaces can open a CT from the PACS right now."
    details: list[str]
    can: list[str]  # agent names
    cannot: list[str]
    unknown: list[str]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One cause that bad paths share (``analytics/tomography.py``)."""

    kind: str  # host, uplink, region, relay, transit
    where: str  # agent, site, region, or two sites; empty for the relay
    explains: list[tuple[str, str]]  # directed paths
    bad: int  # paths that are bad altogether
    through: int  # measured paths that cross it
    confidence_percent: int
    since_us: int | None  # None where no path of it was ever usual
    sentence: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one tenant and profile at one moment; paths worst first."""

    tenant: str
    profile: str
    at_us: int
    rules_version: str
    verdict: Verdict
    findings: list[Finding]  # what explains most first
    paths: list[PathRow]
    members: list[Member]
    missing: list[tuple[str, str]]  # directed pairs of the fleet without a reading
    paths_of: int | None = None  # paths altogether, where ``paths`` are the worst of a large fleet's only
