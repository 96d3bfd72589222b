"""Looks and conditions by hand. Only tests import this."""

from collections.abc import Mapping, Sequence

from analytics.measurement import Letter
from analytics.shapes import Finding, Member, Service
from server.alerts.conditions import Judged, Look
from server.alerts.model import Cause, Condition, Severity

S = 1_000_000
AT_US = 1_795_464_000 * S
PACS = Service(name="PACS", profile="pacs", agent="pacs", port=4242)
MEMBERS = [
    Member(name="pacs", site="hospital", label="the PACS", services=[PACS]),
    Member(name="radiologist", site="hotel", label="the radiologist"),
    Member(name="home", site="home", label="the home reader"),
    Member(name="desk", site="office", label="the front desk"),
    Member(name="back", site="office"),
]
EVERYBODY = [member.name for member in MEMBERS]
HOTEL = [("pacs", "radiologist"), ("radiologist", "pacs"), ("home", "radiologist"), ("desk", "radiologist")]


def finding(
    kind: str = "uplink", where: str = "hotel", explains: Sequence[tuple[str, str]] = HOTEL, percent: int = 98
) -> Finding:
    return Finding(
        kind=kind,
        where=where,
        explains=list(explains),
        bad=len(explains),
        through=8,
        confidence_percent=percent,
        since_us=None,
        sentence=f"The {where}'s {kind} explains {len(explains)} of {len(explains)} bad paths"
        f" (confidence {percent} %).",
    )


def look(
    *,
    letters: Mapping[tuple[str, str], Letter] | None = None,
    findings: Sequence[Finding] = (),
    members: Sequence[Member] = MEMBERS,
    own: Mapping[str, float | None] | None = None,
    before: Mapping[str, float | None] | None = None,
    at_us: int = AT_US,
    otherwise: Letter | None = Letter.A,
) -> Look:
    known = letters or {}
    judged = Judged(
        profile="pacs",
        able="open a CT from the {service}",
        members=members,
        findings=findings,
        letter_of=lambda pair: known.get(pair, otherwise),
    )
    return Look(at_us, members, {"pacs": judged}, own or {}, before or {})


def condition(
    where: str = "hotel",
    severity: Severity = Severity.WARNING,
    *,
    kind: str = "uplink",
    pairs: Sequence[tuple[str, str]] = tuple(HOTEL),
) -> Condition:
    return Condition(
        cause=Cause("cause", kind, where, "pacs"),
        severity=severity,
        title=f"The {where}'s {kind}",
        text="It is slow.",
        cannot=("radiologist",),
        agents=("radiologist",),
        pairs=tuple(pairs),
    )
