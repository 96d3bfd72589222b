"""The day before now: read back for a small fleet, counted as the hours strike for a large one."""

import asyncio
import contextlib

import httpx
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from analytics.clock import HOUR_US
from analytics.measurement import Letter
from analytics.overview import LetterCount, Overview
from analytics.paths import WORST_FIRST
from analytics.report import Member
from analytics.trend import HOURS, Trend, TrendColumn, full_hours
from server.pages.trend_view import HEIGHT, parts, trend_view
from server.trend import Trends
from tests.unit.web.fleet import AT_US, FixtureCore, serve

NOW = [LetterCount(letter=Letter.A, paths=30)]


class Dated(FixtureCore):
    """Counts what it was asked, and says in the letters when."""

    def overview(self, profile: str, at_us: int | None = None) -> Overview:
        self.__dict__.setdefault("asked", []).append(at_us)
        letters = [LetterCount(letter=Letter.B, paths=1 + (at_us or 0) // HOUR_US % HOURS)]
        return msgspec.structs.replace(super().overview(profile, at_us), letters=letters)


@given(st.integers(0, 2**53))
def test_full_hours_end_before_the_moment(at_us: int) -> None:
    hours = full_hours(at_us)
    assert len(hours) <= HOURS
    assert all(hour % HOUR_US == 0 and 0 <= hour < at_us for hour in hours)
    assert hours == sorted(set(hours))
    assert at_us < HOUR_US or hours[-1] >= at_us - HOUR_US


def test_a_small_fleets_hours_are_read_back_once_the_latest_first() -> None:
    core = Dated()
    trends = Trends(core, clock=lambda: AT_US)
    assert [column.letters for column in trends.of("pacs", NOW, AT_US).columns] == [None] * HOURS + [NOW]
    trends.round(busy_s=30)
    told = trends.of("pacs", NOW, AT_US)

    assert all(column.letters for column in told.columns)
    assert core.__dict__["asked"] == full_hours(AT_US)[::-1]
    trends.round(busy_s=30)
    assert len(core.__dict__["asked"]) == HOURS


def test_a_large_fleets_hours_are_counted_as_they_strike() -> None:
    hour = AT_US // HOUR_US * HOUR_US
    core, clock = Dated(fleet=[Member(name=f"a{i:02d}", site="s") for i in range(41)]), [hour + 400_000_000]
    core.measured = False
    trends = Trends(core, clock=lambda: clock[0])
    trends.of("pacs", NOW, hour + HOUR_US)
    trends.round()
    assert "asked" not in core.__dict__  # too late for this hour, and the past is not read back
    clock[0] = hour + HOUR_US + 10_000_000
    trends.round()
    trends.round()
    assert core.__dict__["asked"] == [None, None]  # the profile that was looked at, and the default one
    told = trends.of("pacs", NOW, hour + HOUR_US + 20_000_000)
    assert [column.letters is None for column in told.columns] == [True] * (HOURS - 1) + [False, False]


def test_a_moment_far_back_asks_for_its_own_hours() -> None:
    trends = Trends(Dated(), clock=lambda: AT_US)
    trends.of("pacs", NOW, AT_US - 500 * HOUR_US)
    while trends.read_back():
        pass
    assert trends.of("pacs", NOW, AT_US).columns[0].letters is None
    assert trends.of("pacs", NOW, AT_US - 500 * HOUR_US).columns[0].letters


def test_what_fails_does_not_end_it() -> None:
    class Broken(FixtureCore):
        def members(self) -> list[Member]:
            raise RuntimeError("no")

    async def scenario() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(Trends(Broken()).run(), 0.2)

    asyncio.run(scenario())


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=7))
def test_a_column_is_full_and_shows_each_letter_while_there_is_room(counts: list[int]) -> None:
    letters = [
        LetterCount(letter=letter, paths=count) for letter, count in zip(WORST_FIRST, counts, strict=False)
    ]
    made = parts(letters)
    assert sum(part.height for part in made) == HEIGHT
    assert made[-1].y == 0
    assert all(part.height >= 0 for part in made)


def test_a_trend_says_itself_in_words() -> None:
    bad = [LetterCount(letter=Letter.D, paths=10), LetterCount(letter=Letter.A, paths=20)]
    columns = [
        TrendColumn(at_us=0, letters=None),
        TrendColumn(at_us=HOUR_US, letters=bad),
        TrendColumn(at_us=2 * HOUR_US, letters=NOW),
    ]
    view = trend_view(Trend(profile="pacs", columns=columns))

    assert view is not None
    assert view.words == "01-01 01:00 UTC 66 % A to C; now 100 % A to C"
    assert [column.words for column in view.columns] == [
        "01-01 00:00 UTC: not known",
        "01-01 01:00 UTC: 10 D, 20 A",
        "01-01 02:00 UTC: 30 A",
    ]
    assert trend_view(Trend(profile="pacs", columns=[columns[0], columns[2]])) is None


def test_the_front_page_has_it_once_there_is_something_to_compare_with() -> None:
    core = FixtureCore()
    trends = Trends(core)
    with serve(core, trends=trends) as url:
        assert 'class="trend"' not in httpx.get(url).text
        trends.round(busy_s=30)
        html = httpx.get(url).text
    assert html.count("<title>11-2") == HOURS + 1
    assert "now 66 % A to C" in html
