"""The map of sites: its layout as geometry, what it says, and the page."""

import itertools
import math

import httpx
from hypothesis import given
from hypothesis import strategies as st

from analytics import cut
from analytics.measurement import Letter, Rung
from analytics.overview import Metric
from analytics.report import Member
from server.pages.map_layout import KEEP_OFF, NARROW, WIDE, Size, boxes, direct, middle_of, through
from server.pages.map_view import SITES_MOST, MapView, map_view
from tests.unit.web.fleet import FixtureCore, serve

COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=SITES_MOST)


def view(core: FixtureCore, profile: str = "pacs") -> MapView:
    return map_view(core.members(), core.sites(profile), core.matrix(profile, Metric.LETTER))


@given(COUNTS, st.sampled_from([WIDE, NARROW]))
def test_sites_stand_within_the_drawing_and_not_on_the_relay(counts: list[int], size: Size) -> None:
    for box in boxes(counts, size):
        assert box.left >= 0
        assert box.left + box.width <= size.width
        assert box.top >= 0
        assert box.top + box.height <= size.height
    assert boxes(counts, size) == boxes(counts, size)


@given(COUNTS.filter(lambda counts: len(counts) > 1))
def test_a_direct_way_keeps_off_the_relay_and_a_relayed_one_goes_through_it(counts: list[int]) -> None:
    centre = middle_of(WIDE)
    for one, other in itertools.combinations(boxes(counts, WIDE), 2):
        half = through(one.at, other.at, WIDE).along(0.5)
        assert math.hypot(half.x - centre.x, half.y - centre.y) < 1
        summit = direct(one.at, other.at, WIDE).along(0.5)
        assert math.hypot(summit.x - centre.x, summit.y - centre.y) > KEEP_OFF - 1


@given(COUNTS, st.sampled_from([WIDE, NARROW]))
def test_sites_do_not_stand_on_each_other(counts: list[int], size: Size) -> None:
    for one, other in itertools.combinations(boxes(counts, size), 2):
        beside = abs(one.at.x - other.at.x) >= size.box
        above = abs(one.at.y - other.at.y) >= (one.height + other.height) / 2
        assert beside or above


def test_a_relayed_pair_is_drawn_through_the_relay_only() -> None:
    made = view(FixtureCore())
    wide = made.drawings[0]
    clinic = [line for line in wide.lines if "clinic" in (line.link.a, line.link.b)]

    assert len(clinic) == 4
    assert {line.style for line in clinic} == {"relay"}
    assert {line.style for line in wide.lines if line not in clinic} == {"punched"}
    assert wide.relay is not None
    assert made.words == (
        "5 sites, 10 pairs of them with measured paths; 4 mostly through the relay. 4 have bad paths: "
        "hotel and office: D; clinic and hotel: D; home and hotel: D and others."
    )


def test_the_worst_path_between_two_sites_gives_the_letter() -> None:
    core = FixtureCore(letters={("home", "office-2"): Letter.UNREACHABLE})
    (link,) = [one for one in view(core).links if {one.a, one.b} == {"home", "office"}]

    assert link.letter is Letter.UNREACHABLE
    assert link.worst == ("home", "office-2")
    assert (link.paths, link.bad) == (4, 1)
    assert link.rungs == {Rung.SRFLX: 3, Rung.NONE: 1}
    assert link.styles == ["punched", "none"]


def test_many_sites_are_drawn_as_the_worst_and_the_rest() -> None:
    fleet = [Member(name=f"a{i:02d}", site=f"s{i:02d}") for i in range(30)]
    core = FixtureCore()
    pairs = [
        cut.SitePaths(
            src_site=one.site,
            dst_site=other.site,
            paths=1,
            cannot=int("s29" in (one.site, other.site)),
            unknown=0,
            rungs={"srflx": 1},
            rtt_p50_us=9,
        )
        for one, other in itertools.permutations(fleet, 2)
    ]
    made = map_view(fleet, pairs, core.matrix("pacs", Metric.LETTER))

    assert len(made.sites) == SITES_MOST
    assert made.sites[-1].title == "19 other sites"
    assert "s29" in {site.key for site in made.sites}
    assert sum(link.paths for link in [*made.links, *made.within]) == 30 * 29
    assert made.together == 19
    assert made.words.startswith("30 sites; the 11 with most bad paths stand alone")


def test_the_page_says_in_a_table_what_it_draws() -> None:
    with serve(FixtureCore()) as url:
        html = httpx.get(f"{url}/map").text

    assert html.count('<tr role="row" data-key') == 11  # ten pairs of sites, and the office within
    assert 'role="img" aria-labelledby="map-wide-title map-wide-desc"' in html
    assert 'href="/paths/clinic/radiologist?profile=pacs"' in html


def test_a_fleet_without_paths_has_no_map() -> None:
    with serve(FixtureCore(fleet=[])) as url:
        assert "A map needs measured paths" in httpx.get(f"{url}/map").text
    with serve(FixtureCore(measured=False)) as url:
        assert "A map needs measured paths" in httpx.get(f"{url}/map").text
