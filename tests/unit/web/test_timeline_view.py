"""The drawing of a timeline, and its words."""

import re

import httpx
from hypothesis import given
from hypothesis import strategies as st

from server.pages.timeline_view import HEIGHT, WIDTH, drawing, told
from tests.unit.web.fleet import FixtureCore, serve


def points(of: str) -> list[tuple[int, int]]:
    return [(int(x), int(y)) for x, y in (pair.split(",") for pair in of.split(" "))]


def test_a_drawing_has_the_line_the_band_the_change_and_gaps() -> None:
    made = drawing(FixtureCore().timeline("radiologist", "pacs", "pacs"))
    assert made is not None
    assert len(made.lines) >= 2  # an hour without tests is a gap, not a line
    assert made.bands
    assert len(made.slower) == 1
    assert {mark.kind for mark in made.marks} == {"route"}
    for line in (*made.lines, *made.bands):
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points(line))


@given(st.sampled_from(["pacs", "home", "clinic"]), st.integers(1, 200_000))
def test_whatever_the_range_the_drawing_stays_in_its_frame(dst: str, back_s: int) -> None:
    core = FixtureCore()
    until_us = core.timeline("radiologist", dst, "pacs").until_us
    of = core.timeline("radiologist", dst, "pacs", since_us=until_us - back_s * 1_000_000, until_us=until_us)
    made = drawing(of)
    if made is not None:
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for line in made.lines for x, y in points(line))
        assert all(0 <= box.x <= WIDTH and box.width >= 2 for box in made.slower)


def test_nothing_measured_is_no_drawing() -> None:
    assert drawing(FixtureCore(measured=False).timeline("radiologist", "pacs", "pacs")) is None


def test_its_words_say_when_it_was_slower_and_over_which_rungs() -> None:
    words = told(FixtureCore().timeline("radiologist", "pacs", "pacs"))
    assert re.match(r"since 2026-11-23 \d\d:\d\d: up to \d+", words.slower[0])
    assert any("another route" in line or "spread" in line for line in words.routes)
    relayed = told(FixtureCore().timeline("home", "pacs", "pacs"))
    assert any("relay" in line for line in relayed.rungs)


def test_the_page_brings_the_drawing_and_where_its_script_gets_the_numbers() -> None:
    with serve(FixtureCore()) as url, httpx.Client(base_url=url, timeout=60) as client:
        page = client.get("/paths/radiologist/pacs/timeline?range=7d").text
        (address,) = re.findall(r'data-timeline="([^"]+)"', page)
        told_by_api = client.get(address.replace("&amp;", "&")).json()
        now = client.get("/paths/radiologist/pacs").text
        part = client.get("/paths/radiologist/pacs/timeline?part=true").text
        past = client.get("/paths/radiologist/pacs?at=2026-11-23T09:45").text
    assert told_by_api["until_us"] - told_by_api["since_us"] >= 7 * 86_400_000_000
    assert "<polyline" in page
    assert "<polyline" in part
    assert "<html" not in part
    assert "Test now" in now
    assert "Test now" not in past
    assert "2026-11-23 09:45" in past
