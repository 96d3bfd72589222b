"""What the report asks the store about applications' sessions, and what of it is remembered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from analytics.fusion import NOTHING_SEEN
from analytics.measurement import Direction
from analytics.store.store import Store
from server.sessions import LEARNT_FOR_US, TOLD_FOR_US, Sessions
from tests.unit.analytics.facts import AT_US, MEMBERS, body, flow, put
from tests.unit.analytics.test_fusion import RULES, fetched, sent

RADIOLOGIST = msgspec.structs.replace(MEMBERS[1], site="hospital", addresses=["203.0.113.20"])
FLEET = [MEMBERS[0], RADIOLOGIST, *MEMBERS[2:]]
PATH = ("pacs", "radiologist")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path, clock_us=lambda: AT_US)
    yield opened
    opened.close()


def test_only_flows_of_the_profiles_services_in_the_time_that_counts_are_asked_for(store: Store) -> None:
    elsewhere = flow("home", direction=Direction.OUT, remote_address="192.0.2.9")
    put(
        store,
        body("pacs", 0, flows=[sent(1), sent(2), sent(3, service_port=443), sent(500)]),
        body("home", 0, flows=[elsewhere]),
    )
    asked = {"since_us": AT_US - 300_000_000, "until_us": AT_US}
    assert set(store.flows_of_services("default", {4242}, **asked)) == {elsewhere, sent(1), sent(2)}
    assert store.flows_of_services("default", {4242}, agent="pacs", **asked) == [sent(1), sent(2)]
    assert store.flows_of_services("default", {4242}, agent="pacs", limit=1, **asked) == [sent(1)]
    assert store.flows_of_services("default", (), **asked) == []
    sessions = Sessions(store, RULES, "default")
    assert sessions.of("ehr", FLEET, [], AT_US, now=True) is NOTHING_SEEN
    found = sessions.of("pacs", FLEET, [], AT_US, now=True)
    assert sessions.of("pacs", FLEET, [], AT_US + 4_999_999, now=True) is found
    assert sessions.of("pacs", FLEET, [], AT_US + 5_000_000, now=True) is not found
    assert sessions.of("pacs", FLEET[:2], [], AT_US, now=True) is not found
    assert {pair: list(one.flows) for pair, one in found.sent.items()} == {PATH: [sent(1), sent(2)]}
    assert found.services == {"pacs": ["PACS"]}
    assert sessions.of("pacs", FLEET, [], AT_US - 3_000_000_000, now=False).sent == {}


def test_what_a_pacs_takes_is_learnt_from_a_day_and_remembered_for_five_minutes(store: Store) -> None:
    sessions = Sessions(store, RULES, "default")
    assert sessions.of("pacs", FLEET, [], AT_US, now=True).learnt == {}
    put(store, body("pacs", 0, flows=[fetched(n) for n in range(40, 47)]))
    assert sessions.of("pacs", FLEET, [], AT_US + LEARNT_FOR_US - 1, now=True).learnt == {}
    assert sessions.of("pacs", FLEET, [], AT_US, now=False).learnt["pacs"].own.n == 7
    learnt = sessions.of("pacs", FLEET, [], AT_US + LEARNT_FOR_US + TOLD_FOR_US, now=True).learnt
    assert (learnt["pacs"].own.server_us_per_image, learnt["pacs"].own.n) == (12_000, 7)
    assert sessions.of("generic", FLEET, [], AT_US, now=True) is NOTHING_SEEN
