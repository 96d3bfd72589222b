"""What is said of the way."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest
from rich.console import Console

from analytics.measurement import Hop, Reading, RouteChange
from analytics.report import PathDetail
from server.pages import terminal
from server.pages.route_words import hop_notes, path_notes
from tests.unit.web.fleet import FixtureCore, serve
from tests.unit.wire.test_batch import reading

SENT = 42  # DSCP 10, ECT(0)


def told(**changes: Any) -> Reading:
    return msgspec.structs.replace(reading(), **changes)


def hop(ttl: int = 3, **changes: Any) -> Hop:
    return Hop(tenant="default", cycle=1, test="t1", src="pacs", dst="home", ttl=ttl, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"rate_limited": 1}, ["limits its answers"]),
        ({"others": "10.0.0.2 10.0.0.3"}, ["balanced with 10.0.0.2, 10.0.0.3"]),
        ({"mpls": "16004/5/0/1 24005/0/1/2"}, ["MPLS label 16004, label 24005"]),
        ({"rewritten": "192.0.2.7 4001"}, ["bound for 192.0.2.7 port 4001 here"]),
        ({"traffic_class": SENT}, []),
        ({"traffic_class": 2}, ["came in with DSCP 0, ECT(0)"]),
    ],
)
def test_of_a_hop(changes: dict[str, Any], words: list[str]) -> None:
    assert hop_notes(hop(**changes), told(class_sent=SENT)) == words


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"route_id": "f8de48ce6fb5", "route_change": RouteChange.SAME}, "Route f8de48ce6fb5: unchanged."),
        ({"path_mtu": 1500, "mtu_black_hole": 0}, "Path MTU 1500 B or more."),
        (
            {"path_mtu": 1400, "mtu_black_hole": 1},
            "Path MTU 1400 B; larger packets vanish without a word (black hole).",
        ),
        ({"class_sent": SENT, "class_arrived": SENT}, "DSCP and ECN arrive as they left."),
        ({"class_sent": SENT, "class_arrived": 2}, "DSCP 10 arrives as 0: where is not known."),
        (
            {"class_sent": SENT, "class_arrived": SENT | 3},
            "Routers on the way mark most hop probes as congested (CE).",
        ),
        (
            {"class_sent": SENT, "class_arrived": 0},
            "DSCP 10 arrives as 0 and ECT(0) arrives as not ECT: where is not known.",
        ),
    ],
)
def test_of_the_way(changes: dict[str, Any], sentence: str) -> None:
    assert path_notes(told(**changes), []) == [sentence]


def test_the_hop_that_changed_dscp_is_named() -> None:
    hops = [
        hop(4, traffic_class=2),
        hop(2, traffic_class=SENT),
        hop(3, traffic_class=2, address="203.0.113.1"),
    ]
    assert path_notes(told(class_sent=SENT, class_arrived=2), hops) == [
        "DSCP 10 arrives as 0: changed by hop 3 (203.0.113.1) or just before it."
    ]


def test_what_was_not_measured_is_not_said() -> None:
    assert path_notes(reading(), [hop()]) == []
    assert path_notes(told(class_sent=SENT), []) == []


class OddWay(FixtureCore):
    """The fixture's paths, each with a black hole, and bleached before its first hop."""

    def detail(
        self, src: str, dst: str, profile: str, at_us: int | None = None, *, sessions: bool = True
    ) -> PathDetail | None:
        made = super().detail(src, dst, profile)
        assert made is not None
        hops = [
            msgspec.structs.replace(each, rate_limited=int(each.ttl == 2), traffic_class=0)
            for each in made.forward_hops
        ]
        way = {"path_mtu": 1400, "mtu_black_hole": 1, "class_sent": SENT, "class_arrived": 0}
        told = msgspec.structs.replace(made.forward_reading, **way)
        return msgspec.structs.replace(made, forward_hops=hops, forward_reading=told)


HOLE = "Path MTU 1400 B; larger packets vanish without a word (black hole)."


def test_the_terminal_says_it_beside_the_hop_and_below_the_table() -> None:
    detail = OddWay().detail("radiologist", "pacs", "pacs")
    assert detail is not None
    console = Console(width=160, highlight=False)
    with console.capture() as capture:
        console.print(terminal.hops(detail, "pacs"))
    said = capture.get()
    (line,) = (line for line in said.splitlines() if "limits its answers" in line)
    assert "came in with DSCP 0, not ECT" in line
    assert HOLE in said
    assert "changed by hop 1" in said


def test_the_page_and_the_api_say_it_too() -> None:
    with serve(OddWay()) as url, httpx.Client(base_url=url) as client:
        page = client.get("/paths/radiologist/pacs").text
        told = client.get("/v1/paths/radiologist/pacs", params={"profile": "pacs"}).json()
    assert "limits its answers; came in with DSCP 0, not ECT" in page
    assert HOLE in page
    assert told["forward_reading"]["path_mtu"] == 1400
    assert told["forward_hops"][1]["rate_limited"] == 1
