"""What is wrong in one look: one condition a cause, severe by who cannot work."""

import msgspec
import pytest

from analytics.measurement import Letter
from analytics.shapes import Member
from server.alerts.conditions import conditions, knows
from server.alerts.model import Phase, Severity
from server.alerts.rules import load_alert_rules
from tests.unit.alerts.looks import HOTEL, MEMBERS, finding, look
from tests.unit.alerts.test_lifecycle import open_alert

RULES = load_alert_rules().rules


def of(name, seen):
    return [one for one in conditions(RULES, seen) if one.cause.rule == name]


def test_a_sound_network_has_no_condition():
    assert conditions(RULES, look()) == []


def test_a_finding_is_one_condition_however_many_paths_it_explains():
    bad = dict.fromkeys(HOTEL, Letter.D)
    (made,) = conditions(RULES, look(letters=bad, findings=[finding()]))
    assert made.cause[1:] == ("uplink", "hotel", "pacs")
    assert made.severity is Severity.WARNING  # one of four
    assert made.title == "The hotel's uplink"
    assert made.text == (
        "The hotel's uplink explains 4 of 4 bad paths (confidence 98 %). "
        "The radiologist (hotel) cannot open a CT from the PACS."
    )
    assert made.cannot == ("radiologist",)
    assert set(made.pairs) == set(HOTEL)


def test_slower_than_usual_while_everybody_can_work_is_information():
    (made,) = conditions(RULES, look(findings=[finding()]))
    assert made.severity is Severity.INFO
    assert made.text.endswith("(confidence 98 %).")


def test_half_of_the_workplaces_and_not_just_one_is_critical():
    pairs = [("pacs", "radiologist"), ("pacs", "home")]
    bad = dict.fromkeys(pairs, Letter.UNREACHABLE)
    (made,) = conditions(RULES, look(letters=bad, findings=[finding("host", "pacs", pairs)]))
    assert made.severity is Severity.CRITICAL
    assert made.text.endswith("The radiologist (hotel) and the home reader cannot open a CT from the PACS.")
    few = [member for member in MEMBERS if member.name in {"pacs", "radiologist"}]
    (one,) = conditions(RULES, look(letters=bad, findings=[finding()], members=few))
    assert one.severity is Severity.WARNING


def test_workplaces_without_a_shared_cause_are_one_condition_a_service():
    bad = {("pacs", "radiologist"): Letter.D, ("pacs", "home"): Letter.F, ("home", "back"): Letter.F}
    made = of("alone", look(letters=bad, findings=[finding()]))
    assert [one.cannot for one in made] == [("home",)]
    assert made[0].cause.where == "pacs:4242"
    assert made[0].text == (
        "The home reader cannot open a CT from the PACS. No cause that they share with others is known."
    )


def test_without_services_bad_paths_are_a_warning():
    plain = [msgspec.structs.replace(member, services=[]) for member in MEMBERS]
    bad = dict.fromkeys(HOTEL, Letter.D)
    (made,) = conditions(RULES, look(letters=bad, findings=[finding()], members=plain))
    assert (made.severity, made.cannot) == (Severity.WARNING, ())


@pytest.mark.parametrize(
    ("away", "title", "severity", "text"),
    [
        (
            {"back"},
            "office: 1 of 2 agents away",
            "warning",
            "1 of 2 agents at office are not connected: back (office). Their paths are not tested.",
        ),
        (
            {"pacs"},
            "hospital: 1 of 1 agent away",
            "critical",
            "The agent of the PACS (hospital) is not connected. Its paths are not tested.",
        ),
        (
            {"back", "desk"},
            "office: 2 of 2 agents away",
            "warning",
            "All 2 agents at office are not connected: the front desk (office) and back (office)."
            " Their paths are not tested.",
        ),
    ],
)
def test_agents_that_are_away_are_one_condition_a_site(away, title, severity, text):
    members = [msgspec.structs.replace(m, online=m.name not in away) for m in MEMBERS]
    (made,) = of("agents", look(members=members))
    assert (made.title, made.severity.value, made.text) == (title, severity, text)


@pytest.mark.parametrize(
    ("name", "own", "before", "wrong"),
    [
        ("disk", {"disk_free_percent": 9.5}, {}, True),
        ("disk", {"disk_free_percent": 10.0}, {}, False),
        ("disk", {"disk_free_percent": None}, {}, False),
        ("refused", {"batches_refused": 3.0}, {"batches_refused": 2.0}, True),
        ("refused", {"batches_refused": 3.0}, {"batches_refused": 3.0}, False),
        ("refused", {"batches_refused": 3.0}, {}, False),  # the first look: of before nobody knows
        ("receivers", {"oldest_alert_waits_s": 301.0}, {}, True),
    ],
)
def test_the_servers_own_readings(name, own, before, wrong):
    made = of(name, look(own=own, before=before))
    assert bool(made) is wrong
    assert all("Try: " in one.text and one.cause.kind == "own" for one in made)


def test_what_is_not_known_is_told_from_what_is_gone():
    alert = open_alert()
    assert alert.phase is Phase.OPEN
    assert knows(alert, look())
    assert not knows(alert, look(otherwise=Letter.UNKNOWN))
    assert not knows(alert, look(otherwise=None))
    half = {HOTEL[0]: Letter.UNKNOWN, HOTEL[1]: Letter.UNKNOWN}
    assert knows(alert, look(letters=half))


def test_text_of_other_hosts_is_made_fit_for_a_sentence():
    odd = [MEMBERS[0], Member(name="evil", site="hotel", label="x\n\x1b[31m" + "y" * 500)]
    bad = {("pacs", "evil"): Letter.F}
    (made,) = of("alone", look(letters=bad, members=odd))
    assert "\n" not in made.text
    assert "\x1b" not in made.text
    assert len(made.text) < 250
