"""The front page as data: causes, who is affected, what is left out of a large fleet; and its size."""

import gzip
import re

import httpx
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from analytics.measurement import Letter
from analytics.overview import LetterCount, Overview, Place
from server.pages.overview_view import PLACES_SHOWN, ROWS_SHOWN, overview_view, shares, since_words
from tests.unit.web.fleet import AT_US, FixtureCore, serve


def overview() -> Overview:
    return FixtureCore().overview("pacs")


def large() -> Overview:
    """Two hundred workplaces in the page, thousands beside."""
    made = overview()
    row = made.worst[0]
    places = [
        Place(agent=f"{can}-{i:03d}", site="far", label="", online=True, can=can, service="PACS", row=row)
        for can in ("cannot", "unknown", "can")
        for i in range(66)
    ]
    worst = [msgspec.structs.replace(row, src=f"a{i:03d}") for i in range(200)]
    return msgspec.structs.replace(
        made,
        places=places,
        places_of={"cannot": 1_200, "unknown": 66, "can": 7_000},
        worst=worst,
        paths=999_000,
        expected=999_000,
        members=made.members * 200,
    )


def test_a_cause_says_who_cannot_work_and_leads_to_their_path() -> None:
    (card,) = overview_view(overview()).cards

    assert (card.kind, card.name) == ("Uplink", "The hotel's uplink")
    assert card.affected == "The radiologist cannot work"
    assert card.worst == ("pacs", "radiologist")


def test_a_cause_that_keeps_nobody_from_work_leads_to_its_worst_path() -> None:
    made = msgspec.structs.replace(overview(), places=[])
    (card,) = overview_view(made).cards

    assert card.affected == ""
    assert card.worst == (made.worst[0].src, made.worst[0].dst)


def test_since_when_is_a_time_today_and_a_date_before() -> None:
    (finding,) = overview().findings
    today = msgspec.structs.replace(finding, since_us=AT_US - 8_400_000_000)
    before = msgspec.structs.replace(finding, since_us=AT_US - 3 * 86_400_000_000)

    assert since_words(today, AT_US) == "17:40 UTC, 2\N{NO-BREAK SPACE}h ago"
    assert since_words(before, AT_US) == "2026-11-20 20:00 UTC, 3\N{NO-BREAK SPACE}d ago"
    assert since_words(finding, AT_US) == ""


def test_a_large_fleet_is_cut_and_says_of_how_many() -> None:
    view = overview_view(large())

    assert len(view.lines) == ROWS_SHOWN
    assert len(view.workplaces) == sum(PLACES_SHOWN.values())
    assert view.more_places == ["1,170 more cannot work", "56 more not known", "6,990 more can work"]
    assert view.matrix is None
    whole = overview_view(large(), everything=True)
    assert (len(whole.lines), len(whole.workplaces)) == (200, 198)


@given(st.dictionaries(st.sampled_from(Letter), st.integers(1, 10**6), min_size=1))
def test_each_letter_has_a_part_of_the_bar(counts: dict[Letter, int]) -> None:
    letters = [LetterCount(letter=letter, paths=count) for letter, count in counts.items()]
    made = shares(msgspec.structs.replace(overview(), letters=letters))

    assert [share.paths for share in made] == list(counts.values())
    assert all(share.width >= 4 for share in made)
    assert sum(share.width for share in made) <= 1000 + 4 * len(made)


def test_the_page_of_a_large_fleet_is_small_and_its_rest_a_link_away() -> None:
    class Large(FixtureCore):
        def overview(self, profile: str, at_us: int | None = None) -> Overview:
            return large()

    with serve(Large()) as url:
        first = httpx.get(url).text
        whole = httpx.get(f"{url}/?rows=all").text
    assert len(gzip.compress(first.encode())) < 40_000
    assert len(gzip.compress(whole.encode())) < 100_000
    assert 'href="/?rows=all">Show more</a>' in first
    assert "60 of 999,000 directed paths" in first
    assert len(re.findall(r'<tr role="row" data-key', whole)) == 200
    assert "Show more" not in whole or "rows=all" in whole
