"""Whose address a session's is: what proves it, and where nothing may be said."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from analytics.addresses import AddressBook, book_of, canonical
from analytics.measurement import Reading
from analytics.shapes import Member
from analytics.wire import Dependence, NatReport
from tests.unit.analytics.facts import flow, reading

NAT = NatReport(udp=True, mapped="203.0.113.20", mapping=Dependence.ENDPOINT_INDEPENDENT)


def member(name: str, site: str, *addresses: str, nat: NatReport | None = None) -> Member:
    return Member(name=name, site=site, addresses=list(addresses), nat=nat)


def met(src: str, dst: str, remote: str, local: str = "") -> Reading:
    return reading(src, dst, remote_candidate=remote, local_candidate=local)


def book(*members: Member, readings: list[Reading] | None = None) -> AddressBook:
    return book_of(members, readings or [])


@pytest.mark.parametrize(
    ("told", "is_"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("2001:db8::7%eth0", "2001:db8::7"),
    ],
)
def test_one_address_has_one_form(told: str, is_: str) -> None:
    assert canonical(told) == ip_address(is_)


@pytest.mark.parametrize(
    "told",
    [
        "",
        "pacs",
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "fe80::1%eth0",
        "169.254.1.1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
    ],
)
def test_what_is_not_one_hosts_address_is_nobodys(told: str) -> None:
    assert canonical(told) is None


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::7"])
def test_a_global_address_is_its_one_owners_wherever_it_is_seen(address: str) -> None:
    known = book(member("pacs", "hospital", address), member("home", "home"))
    assert known.owner("home", address) == "pacs"
    assert known.owner("home", f"::ffff:{address}" if "." in address else address) == "pacs"


def test_a_private_address_means_the_same_in_one_site_only() -> None:
    known = book(member("pacs", "hospital", "10.0.0.5"), member("office", "hospital"), member("home", "home"))
    assert known.owner("office", "10.0.0.5") == "pacs"
    assert known.owner("home", "10.0.0.5") is None


def test_a_private_address_of_another_site_counts_where_the_mesh_reached_it() -> None:
    tests = [met("clinic", "pacs", "host 10.0.0.5 40000"), met("home", "pacs", "srflx 203.0.113.9 40000")]
    members = [member("pacs", "hospital"), member("clinic", "clinic"), member("home", "home")]
    known = book(*members, readings=tests)
    assert known.owner("clinic", "10.0.0.5") == "pacs"
    assert known.owner("home", "10.0.0.5") is None


def test_an_address_on_two_hosts_of_a_site_is_nobodys() -> None:
    bridge = "172.17.0.1"
    known = book(
        member("pacs", "hospital", bridge), member("ris", "hospital", bridge), member("office", "hospital")
    )
    assert known.owner("office", bridge) is None
    assert known.owner("pacs", bridge) is None


def test_an_own_address_is_no_peer() -> None:
    known = book(member("pacs", "hospital", "10.0.0.5"), member("office", "hospital"))
    assert known.owner("pacs", "10.0.0.5") is None


def test_a_nat_with_one_agent_behind_it_is_that_agent() -> None:
    known = book(member("radiologist", "hotel", nat=NAT), member("pacs", "hospital"))
    assert known.owner("pacs", "203.0.113.20") == "radiologist"
    assert known.owner("radiologist", "203.0.113.20") is None


def test_a_nat_with_two_agents_behind_it_is_neither() -> None:
    known = book(member("one", "hotel", nat=NAT), member("two", "hotel", nat=NAT), member("pacs", "hospital"))
    assert known.owner("pacs", "203.0.113.20") is None
    assert known.owner("one", "203.0.113.20") is None


def test_a_test_tells_of_a_nat_as_a_survey_does() -> None:
    tests = [met("pacs", "home", "prflx 198.51.100.4 1024"), met("pacs", "clinic", "relay 192.0.2.99 3478")]
    known = book(
        member("pacs", "hospital"), member("home", "home"), member("clinic", "clinic"), readings=tests
    )
    assert known.owner("pacs", "198.51.100.4") == "home"
    assert known.owner("pacs", "192.0.2.99") is None
    second = [*tests, met("pacs", "clinic", "srflx 198.51.100.4 1025")]
    assert (
        book(*(member(n, n) for n in ("pacs", "home", "clinic")), readings=second).owner(
            "pacs", "198.51.100.4"
        )
        is None
    )


def test_without_a_nat_the_mapped_address_is_the_interfaces() -> None:
    bare = NatReport(udp=True, mapped="8.8.4.4", mapping=Dependence.NONE)
    known = book(member("pacs", "dc", "8.8.4.4", nat=bare), member("home", "home"))
    assert known.owner("home", "8.8.4.4") == "pacs"


def test_sessions_and_tests_tell_an_agents_own_addresses() -> None:
    members = [member("pacs", "dc"), member("home", "dc")]
    assert book_of(members, [], [flow("pacs", local_address="10.1.1.1")]).owner("home", "10.1.1.1") == "pacs"
    told = [met("pacs", "home", "host 10.1.1.9 1", local="host 10.1.1.1 2")]
    assert book_of(members, told).owner("home", "10.1.1.1") == "pacs"


def test_who_is_no_longer_enrolled_owns_nothing() -> None:
    tests = [met("pacs", "gone", "host 10.0.0.9 1")]
    assert book(member("pacs", "dc"), readings=tests).owner("pacs", "10.0.0.9") is None


def test_an_unknown_address_is_nobodys() -> None:
    assert book(member("pacs", "dc", "10.0.0.1")).owner("pacs", "192.0.2.200") is None
