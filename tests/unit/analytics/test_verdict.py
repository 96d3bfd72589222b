"""The verdict, every sentence verbatim."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from analytics.measurement import CapacityTrust, Hop, Reading, Rung
from analytics.paths import path_rows
from analytics.report import Member, Service, Verdict
from analytics.rules.load import load_rules
from analytics.verdict import verdict
from tests.unit.analytics.facts import AT_US, MEMBERS, PACS, hop, reading
from tests.unit.analytics.test_legs import HOSPITAL, HOTEL

RULES = load_rules()
WORKPLACES = ["radiologist", "home", "clinic", "office-1", "office-2"]


def seen(hops: list[Hop], src: str) -> list[Hop]:
    return [msgspec.structs.replace(hop, src=src) for hop in hops]


SLOW_HOPS = [*seen(HOSPITAL, "pacs"), *seen(HOTEL, "radiologist")]
SLOW = {"rtt_us": 260_000, "capacity_kbps": 28_000}


def judged(
    *readings: Reading,
    hops: list[Hop] | None = None,
    members: list[Member] = MEMBERS,
    profile: str = "pacs",
    after_s: int = 0,
) -> Verdict:
    at_us = AT_US + after_s * 1_000_000
    rows = path_rows(profile, readings, hops or [], members, at_us=at_us, rules=RULES)
    return verdict(profile, members, rows, RULES)


def from_pacs(**of: Any) -> list[Reading]:
    """A reading to every workplace; keywords name a workplace and what differs there, None = no reading."""
    changes = {name.replace("_", "-"): change for name, change in of.items()}
    return [
        reading("pacs", name, **changes.get(name, {}))
        for name in WORKPLACES
        if changes.get(name, {}) is not None
    ]


def both_ways(**of: Any) -> list[Reading]:
    """As ``from_pacs``, with the other direction of each test."""
    to = from_pacs(**of)
    return [*to, *(msgspec.structs.replace(there, src=there.dst, dst=there.src) for there in to)]


# --- headlines ----------------------------------------------------------------------------------------------


def test_all_can() -> None:
    told = judged(*from_pacs())
    assert told.headline == "All 5 workplaces can open a CT from the PACS right now."
    assert (told.details, told.can, told.cannot, told.unknown) == ([], sorted(WORKPLACES), [], [])


def test_the_radiologist_at_the_hotel() -> None:
    told = judged(*from_pacs(radiologist=SLOW), hops=SLOW_HOPS)
    assert told.headline == "4 of 5 workplaces can open a CT from the PACS right now."
    assert told.details == [
        "The radiologist (hotel) cannot read comfortably (D): a 50 MB CT takes about 44 s. "
        "212 of 260 ms is added between the hotel's gateway and its provider."
    ]
    assert (told.cannot, told.unknown) == (["radiologist"], [])


def test_nobody_can() -> None:
    told = judged(*from_pacs(**{name.replace("-", "_"): SLOW for name in WORKPLACES}))
    assert told.headline == "None of the 5 workplaces can open a CT from the PACS right now."
    assert len(told.details) == 5


@pytest.mark.parametrize(
    ("rtt_us", "headline"),
    [
        (30_000, "The one workplace can open a CT from the PACS right now."),
        (900_000, "The one workplace cannot open a CT from the PACS right now."),
    ],
)
def test_one_workplace(rtt_us: int, headline: str) -> None:
    assert judged(reading(rtt_us=rtt_us), members=MEMBERS[:2]).headline == headline


def test_before_anything_is_measured() -> None:
    assert judged(members=[]).headline == "No agent is enrolled yet."
    assert judged(members=MEMBERS[:1]).headline == "One agent is enrolled; a path needs two."
    told = judged()
    assert told.headline == "Nothing is measured yet: 6 agents are enrolled, the first cycle is not done."
    assert told.unknown == sorted(member.name for member in MEMBERS)


def test_several_services_have_a_sentence_each() -> None:
    archive = Service(name="archive", profile="pacs", agent="office-2", port=104)
    members = [*MEMBERS[:5], msgspec.structs.replace(MEMBERS[5], services=[archive])]
    rows = [reading("office-2", name) for name in WORKPLACES[1:4]]
    told = judged(*from_pacs(), *rows, reading("office-2", "radiologist", **SLOW), members=members)
    assert told.headline == (
        "All 4 workplaces can open a CT from the PACS right now. "
        "3 of 4 workplaces can open a CT from the archive right now."
    )
    assert told.details == [
        "The radiologist (hotel) cannot read comfortably at the archive (D): a 50 MB CT takes about 44 s. "
        "The round trip is 260 ms; where it is added is not known."
    ]
    assert (told.can, told.cannot) == (["clinic", "home", "office-1"], ["radiologist"])


# --- not known ----------------------------------------------------------------------------------------------


def test_withheld_and_missing_are_not_known() -> None:
    told = judged(*from_pacs(home={"capacity_kbps": None, "capacity_trust": CapacityTrust.NONE}, clinic=None))
    assert told.headline == "3 of 5 workplaces can open a CT from the PACS right now; 2 are not known."
    assert told.details == [
        "Not known for the home reader: the capacity could not be measured.",
        "Not known for the clinic: not measured yet.",
    ]
    assert told.unknown == ["clinic", "home"]


def test_what_is_stale_is_not_known_and_said_once() -> None:
    told = judged(*from_pacs(), after_s=1_310)
    assert told.headline == "Whether the 5 workplaces can open a CT from the PACS is not known right now."
    assert told.details == [
        "Not known for the clinic, the home reader, office-1 (office) and 2 more: last measured 22 min ago."
    ]
    one = judged(reading(), members=MEMBERS[:2], after_s=1_310)
    assert one.headline == "Whether the one workplace can open a CT from the PACS is not known right now."


def test_an_agent_that_is_away_is_the_reason() -> None:
    away = [msgspec.structs.replace(m, online=m.name != "home") for m in MEMBERS]
    told = judged(*from_pacs(home=None), members=away)
    assert told.details == [
        "Not known for the home reader: the agent there is not connected; not measured yet."
    ]
    away = [msgspec.structs.replace(m, online=m.name != "pacs") for m in MEMBERS]
    told = judged(*from_pacs(home=None), members=away)
    assert told.details == ["Not known for the home reader: the agent of the PACS is not connected."]


# --- what is wrong ------------------------------------------------------------------------------------------


def detail(hops: list[Hop] | None = None, **changes: Any) -> str:
    (told,) = judged(*from_pacs(radiologist=changes), hops=hops).details
    return told


def test_unreachable() -> None:
    assert detail(rung=Rung.NONE, rungs_failed="srflx: no answer; relay-udp: no relay.", rtt_n=0) == (
        "The radiologist (hotel) cannot connect to the PACS: srflx: no answer; relay-udp: no relay."
    )


def test_the_relay_is_named_where_it_is_the_reason() -> None:
    near = [
        *seen(HOSPITAL[:2], "pacs"),
        *seen([hop(1, "192.168.7.1", 900), hop(2, "203.0.113.1", 2_000)], "radiologist"),
    ]
    assert detail(near, **SLOW, rung=Rung.RELAY_UDP) == (
        "The radiologist (hotel) cannot read comfortably (D): a 50 MB CT takes about 44 s. "
        "254 of 260 ms is added on the way through the relay."
    )
    assert detail(**SLOW, rung=Rung.RELAY_UDP).endswith(
        "The round trip is 260 ms, by way of a relay; where it is added is not known."
    )
    assert detail(near, **SLOW).endswith("254 of 260 ms is added between the providers.")


def test_no_leg_is_blamed_where_a_neighbour_was_silent() -> None:
    silent = [*seen(HOSPITAL, "pacs"), *seen([hop(1, "192.168.7.1", 1_600)], "radiologist")]
    assert detail(silent, **SLOW).endswith("The round trip is 260 ms; no single leg explains it.")


def test_no_leg_is_blamed_that_is_less_than_half() -> None:
    spread = [
        *seen([hop(1, "10.20.0.1", 300), hop(2, "198.51.100.1", 90_000)], "pacs"),
        *seen([hop(1, "192.168.7.1", 900), hop(2, "203.0.113.1", 90_000)], "radiologist"),
    ]
    assert detail(spread, **SLOW).endswith("The round trip is 260 ms; no single leg explains it.")


def test_capacity_is_not_blamed_on_a_leg() -> None:
    assert detail(rtt_us=5_000, capacity_kbps=8_200) == (
        "The radiologist (hotel) cannot read comfortably (D): a 50 MB CT takes about 54 s. "
        "Only 8.2 Mbit/s get to the radiologist."
    )
    assert detail(rtt_us=5_000, capacity_kbps=8_200, rung=Rung.RELAY_UDP).endswith(
        "Only 8.2 Mbit/s get to the radiologist through the relay."
    )


def test_loss_is_named_and_then_what_is_left() -> None:
    assert detail(rtt_us=200_000, received=285, capacity_kbps=500_000) == (
        "The radiologist (hotel) cannot read (F): a 50 MB CT takes about 30 min. "
        "5.0 % of the packets to the radiologist are lost."
    )
    assert detail(SLOW_HOPS, **SLOW, received=270).endswith(
        "10 % of the packets to the radiologist are lost. "
        "212 of 260 ms is added between the hotel's gateway and its provider."
    )


def test_a_lower_bound_is_said_as_one() -> None:
    changes = {"rtt_us": 400_000, "capacity_kbps": None, "capacity_trust": CapacityTrust.NONE}
    assert detail(**changes).startswith(
        "The radiologist (hotel) cannot read comfortably (D): a 50 MB CT takes about 38 s or more. "
    )


def test_the_local_network_is_named_between_neighbours() -> None:
    members = [
        Member(name="pacs", site="office", services=[PACS]),
        Member(name="office-1", site="office", label="the front desk"),
    ]
    slow = reading("pacs", "office-1", rtt_us=700_000, rung=Rung.LAN)
    near = [hop(1, "192.168.1.9", 700_000, end=True, test=slow.test, dst="office-1")]
    assert judged(slow, hops=near, members=members).details == [
        "The front desk (office) cannot read (F): a 50 MB CT takes about 80 s. "
        "700 of 700 ms is added inside the office's own network."
    ]


def test_a_name_without_a_label_is_left_as_it_is() -> None:
    told = judged(*from_pacs(office_1=SLOW))
    assert told.details[0].startswith("office-1 (office) cannot read comfortably (D): ")


# --- without a service --------------------------------------------------------------------------------------


def test_paths_are_counted_where_nobody_offers_a_service() -> None:
    told = judged(*both_ways(), profile="generic")
    assert told.headline == "All 10 paths are good right now."
    assert (told.can, told.cannot, told.unknown) == ([], [], [])
    told = judged(
        *both_ways(radiologist=SLOW, clinic={"sent": 5, "received": 4}), hops=SLOW_HOPS, profile="generic"
    )
    assert told.headline == "6 of 10 paths are good right now; 2 are not known."
    assert told.details[:1] == [
        "pacs -> radiologist (D): one in twenty round trips takes over 260 ms. "
        "212 of 260 ms is added between the hotel's gateway and its provider."
    ]


def test_only_the_worst_paths_are_told() -> None:
    slow = [reading(a, b, rtt_us=400_000, received=240) for a in WORKPLACES for b in WORKPLACES if a != b]
    told = judged(*slow, profile="generic")
    assert told.headline == "None of the 20 paths are good right now."
    assert len(told.details) == 6
    assert told.details[0] == (
        "clinic -> home (F): one in twenty round trips takes over 400 ms. "
        "20 % of the packets to home are lost. The round trip is 400 ms; where it is added is not known."
    )
    assert told.details[-1] == "15 more paths are not."


def test_loss_on_the_way_back_is_said_as_that() -> None:
    told = judged(reading(), reading("radiologist", "pacs", received=240), profile="generic")
    assert told.details == [
        "pacs -> radiologist (F): one in twenty round trips takes over 30 ms. "
        "20 % of the packets from radiologist are lost.",
        "radiologist -> pacs (F): one in twenty round trips takes over 30 ms. "
        "20 % of the packets to pacs are lost.",
    ]


def test_paths_for_a_profile_that_nobody_serves() -> None:
    members = [msgspec.structs.replace(member, services=[]) for member in MEMBERS]
    told = judged(*from_pacs(radiologist=SLOW), members=members)
    assert told.headline == "4 of 5 paths are fast enough to open a CT right now."
    told = judged(*from_pacs(), members=members, after_s=1_310)
    assert told.headline == "Whether the 5 paths are fast enough to open a CT is not known right now."
    gone = reading(rung=Rung.NONE, rungs_failed="no answer", rtt_n=0)
    assert judged(gone, members=members).details == ["pacs -> radiologist cannot connect: no answer."]
