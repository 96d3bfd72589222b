"""The report: what a page, the CLI, the API and an export all show, computed from facts and nothing else.

``build_report`` is pure: the same facts, fleet, profile and time give the same report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations

import msgspec

from analytics.ends import with_ends
from analytics.findings import findings
from analytics.fusion import NOTHING_SEEN, Passive
from analytics.measurement import Flow, Hop, Reading
from analytics.paths import by_pair, hops_of, path_rows
from analytics.rules.load import Rules
from analytics.shapes import Finding, Member, PathDetail, PathRow, Report, Service, Verdict
from analytics.usual import NOTHING_KNOWN, Usual
from analytics.verdict import NOW, verdict

__all__ = [
    "Finding",
    "Member",
    "PathDetail",
    "PathRow",
    "Report",
    "Service",
    "Verdict",
    "addresses_met",
    "build_detail",
    "build_report",
]


def build_report(
    *,
    tenant: str,
    profile: str,
    readings: Sequence[Reading],
    hops: Sequence[Hop],
    members: Sequence[Member],
    at_us: int,
    rules: Rules,
    usual: Usual = NOTHING_KNOWN,
    passive: Passive = NOTHING_SEEN,
    when: str = NOW,
) -> Report:
    """Judge a fleet at a moment, from the latest reading of each directed path and those tests' hops.

    ``when`` is how the verdict calls the moment.
    Readings of agents that are no longer enrolled are left out. Raises ``RulesError`` for an unknown profile.
    """
    paths = path_rows(
        profile, readings, hops, members, at_us=at_us, rules=rules, usual=usual, passive=passive
    )
    measured = {(row.src, row.dst) for row in paths}
    names = sorted(member.name for member in members)
    shared = findings(paths, members)
    return Report(
        tenant=tenant,
        profile=profile,
        at_us=at_us,
        rules_version=rules.version,
        verdict=with_ends(verdict(profile, members, paths, rules, shared, when=when), paths),
        findings=shared,
        paths=paths,
        members=sorted(members, key=lambda member: member.name),
        missing=[pair for pair in permutations(names, 2) if pair not in measured],
    )


def build_detail(
    src: str,
    dst: str,
    *,
    profile: str,
    readings: Sequence[Reading],
    hops: Sequence[Hop],
    flows: Sequence[Flow],
    members: Sequence[Member],
    at_us: int,
    rules: Rules,
    usual: Usual = NOTHING_KNOWN,
    passive: Passive = NOTHING_SEEN,
) -> PathDetail | None:
    """Tell all of one path; None where the latest readings have none of ``src`` to ``dst``.

    Of ``flows``, those between the two are kept: the remote address is one that the test met.
    """
    latest = by_pair(readings, members)
    forward = latest.get((src, dst))
    if forward is None:
        return None
    back = latest.get((dst, src))
    rows = path_rows(profile, readings, hops, members, at_us=at_us, rules=rules, usual=usual, passive=passive)
    row_of = {(row.src, row.dst): row for row in rows}
    made = PathDetail(
        forward=row_of[src, dst],
        back=row_of.get((dst, src)),
        forward_reading=forward,
        back_reading=back,
        forward_hops=hops_of(forward, hops),
        back_hops=hops_of(back, hops) if back is not None else [],
        flows=[],
    )
    return with_flows(made, flows)


def with_flows(detail: PathDetail, flows: Iterable[Flow]) -> PathDetail:
    """Add the flows between the two, of all that are given: the rest of a detail does not hang on them."""
    ends = detail.forward_reading, detail.back_reading
    return msgspec.structs.replace(detail, flows=[flow for flow in flows if _between(flow, *ends)])


def addresses_met(readings: Iterable[Reading]) -> set[str]:
    """Name the addresses at which the tests of a pair met an end; what is not among them is not theirs."""
    candidates = {one for reading in readings for one in (reading.local_candidate, reading.remote_candidate)}
    return {_address(candidate) for candidate in candidates} - {""}


def _between(flow: Flow, forward: Reading, back: Reading | None) -> bool:
    """True where one end saw a session with an address that the test used to reach the other end."""
    towards = {
        forward.src: {_address(forward.remote_candidate), _address(back.local_candidate if back else "")},
        forward.dst: {_address(back.remote_candidate if back else ""), _address(forward.local_candidate)},
    }
    return bool(flow.remote_address) and flow.remote_address in towards.get(flow.agent, set())


def _address(candidate: str) -> str:
    """Take the address out of 'type address port'; a relay's is nobody's of the two."""
    parts = candidate.split(" ")
    return parts[1] if len(parts) == 3 and parts[0] != "relay" else ""
