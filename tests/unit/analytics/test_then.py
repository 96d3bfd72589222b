"""The fleet of a moment of the past."""

from __future__ import annotations

from analytics.report import build_report
from analytics.rules.load import load_rules
from analytics.then import members_then, when
from tests.unit.analytics.facts import AT_US, MEMBERS, reading

MINUTE_US = 60_000_000


def test_who_enrolled_later_is_not_shown_unless_it_was_tested_already() -> None:
    enrolled = {member.name: AT_US + MINUTE_US for member in MEMBERS} | {"home": AT_US - MINUTE_US}
    readings = [
        reading("pacs", "radiologist"),
        reading("radiologist", "pacs", cycle=AT_US // 1_000_000 - 1_900, ended_us=AT_US - 30 * MINUTE_US),
    ]
    found = members_then(MEMBERS, enrolled, readings, at_us=AT_US, stale_us=15 * MINUTE_US)
    assert {member.name: member.online for member in found} == {
        "pacs": True,
        "radiologist": False,
        "home": False,
    }
    assert found[0].services == MEMBERS[0].services


def test_the_verdict_says_when() -> None:
    assert when(AT_US) == "on 23 Nov 2026 at 20:00 UTC"
    told = build_report(
        tenant="default",
        profile="pacs",
        readings=[reading("pacs", "radiologist")],
        hops=[],
        members=MEMBERS[:2],
        at_us=AT_US,
        rules=load_rules(),
        when=when(AT_US),
    )
    assert told.verdict.headline == (
        "The one workplace can open a CT from the PACS on 23 Nov 2026 at 20:00 UTC."
    )
