"""The pages in Debian's chromium: desktop and phone, light and dark. Screenshots stay in pytest's folder."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from server.pages.nav import NAV
from tests.browser.harness import SIZES, Tab, faults, tab_of, wait_until
from tests.browser.pages import PAGES
from tests.unit.web.desk import FixtureDesk
from tests.unit.web.fleet import HEADLINE, MEMBERS, FixtureCore, serve

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_and_has_no_barrier(tab: Tab, url: str, tmp_path: Path, name: str) -> None:
    assert faults(tab, url + PAGES[name], tmp_path) == []


def test_a_problem_is_a_page_like_any_other(tab: Tab, url: str) -> None:
    assert faults(tab, f"{url}/nope", status=404) == []


@pytest.mark.parametrize("fleet", [0, 1, 6])
def test_a_page_without_paths_is_a_page_like_any_other(tab: Tab, fleet: int) -> None:
    with serve(FixtureCore(fleet=MEMBERS[:fleet], measured=False)) as url:
        assert faults(tab, url) == []


def test_every_page_of_the_navigation_is_in_the_table() -> None:
    assert {entry.path for entry in NAV} <= set(PAGES.values())


@pytest.mark.parametrize("size", SIZES)
def test_the_verdict_is_above_the_fold(browser: Browser, url: str, size: str) -> None:
    with tab_of(browser, size) as tab:
        page = tab.open(url)
        headline = page.get_by_role("heading", level=1)
        box = headline.bounding_box()

        assert headline.inner_text() == HEADLINE
        assert box is not None
        assert box["y"] + box["height"] < SIZES[size][1] / 2
        worst = page.get_by_role("link", name="the radiologist").bounding_box()
        assert worst is not None
        assert worst["y"] < SIZES[size][1]


@pytest.mark.parametrize("size", SIZES)
def test_a_path_opens_without_javascript(browser: Browser, url: str, size: str) -> None:
    with tab_of(browser, size, script=False) as tab:
        page = tab.open(url)
        page.get_by_role("link", name="pacs to radiologist").first.click()

        assert page.url == f"{url}/paths/pacs/radiologist?profile=pacs"
        assert page.get_by_role("heading", name="Hops, seen from pacs").is_visible()


@pytest.mark.parametrize("size", SIZES)
def test_every_page_is_reached_from_the_navigation_without_javascript(
    browser: Browser, url: str, size: str
) -> None:
    with tab_of(browser, size, script=False) as tab:
        page = tab.open(f"{url}/?profile=generic")
        if size == "phone":
            page.get_by_text("Menu", exact=True).click()
        links = page.get_by_role("navigation", name="Pages").get_by_role("link")

        assert links.all_inner_texts() == [entry.title for entry in NAV]
        links.get_by_text("Matrix").click()
        assert page.url == f"{url}/matrix?profile=generic"


def test_profile_and_moment_are_chosen_with_the_keyboard(browser: Browser, url: str) -> None:
    with tab_of(browser) as tab:
        page = tab.open(f"{url}/flows?agent=pacs")
        menu = page.locator("summary", has_text="Graded for")
        menu.press("Enter")
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.textContent").split() == ["Graded", "for", "pacs"]
        menu.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_url("**/flows?agent=pacs&profile=generic")

        page.locator("summary", has_text="As it is").press("Enter")
        page.get_by_label("A past moment, UTC").fill("2026-11-23T09:45")
        page.get_by_role("button", name="Show").first.press("Enter")
        page.wait_for_url("**/flows?agent=pacs&profile=generic&at=2026-11-23T09*")
        assert "This page shows 2026-11-23 09:45:00 UTC, not now." in page.get_by_role("status").inner_text()
        page.get_by_role("link", name="Show now").click()
        assert page.url == f"{url}/flows?agent=pacs&profile=generic"


def test_an_agent_is_revoked_without_a_script_after_a_second_look(browser: Browser) -> None:
    desk = FixtureDesk()
    with serve(FixtureCore(), desk) as url, tab_of(browser, "phone", script=False) as tab:
        page = tab.open(f"{url}/agents")
        page.get_by_role("link", name="Revoke clinic").click()
        page.get_by_role("link", name="Keep it").click()
        assert (page.url, desk.control.revoked) == (f"{url}/agents/clinic", [])
        page.get_by_role("link", name="Revoke this agent").click()
        assert page.get_by_text("enrol again only with a new token").is_visible()
        page.get_by_role("button", name="Revoke clinic").click()
        page.wait_for_url(f"{url}/agents/clinic")
        assert desk.control.revoked == [("clinic", "anyone")]


def test_rows_stay_a_table_for_a_screen_reader_on_a_phone(browser: Browser, url: str) -> None:
    with tab_of(browser, "phone") as tab:
        table = tab.open(url).get_by_role("table", name="Paths, worst first")

        assert table.get_by_role("row").count() == 31
        assert table.get_by_role("columnheader").count() == 10


def test_an_open_page_follows_the_server(browser: Browser) -> None:
    core = FixtureCore(fleet=[])
    with serve(core) as url, tab_of(browser) as tab:
        page = tab.page
        page.clock.install()
        tab.open(url)
        assert page.get_by_role("heading", level=1).inner_text() == "No agents yet."
        core.fleet = FixtureCore().fleet
        page.clock.run_for(11_000)
        page.get_by_role("heading", name=HEADLINE).wait_for(timeout=30_000)

        assert tab.complaints == []
        assert page.title().startswith(HEADLINE)


def test_a_change_is_shown_at_once_and_leaves_the_readers_place(browser: Browser) -> None:
    core = FixtureCore()
    with serve(core) as url, tab_of(browser) as tab:
        page = tab.open(url)
        link = page.get_by_role("table", name="Paths, worst first").get_by_role("link", name="pacs to clinic")
        link.focus()
        page.evaluate("window.mine = document.activeElement")
        assert page.locator(".paths tbody tr").count() == 30
        core.fleet = [member for member in core.fleet if member.name != "office-1"]
        wait_until(page, "document.querySelectorAll('.paths tbody tr').length === 20")

        assert page.evaluate("document.activeElement === window.mine")
        assert "pacs" in page.evaluate("document.activeElement.textContent")
        top = page.evaluate("document.activeElement.getBoundingClientRect().top")
        assert 0 < top < page.evaluate("innerHeight")
        assert tab.complaints == []


def test_a_tab_in_the_background_holds_no_connection(browser: Browser) -> None:
    core = FixtureCore()
    with serve(core) as url, tab_of(browser) as tab:
        page = tab.open(url)
        streams: list[str] = []
        page.on(
            "request", lambda request: streams.append(request.url) if "/v1/events" in request.url else None
        )
        page.evaluate(
            "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        page.evaluate(
            "Object.defineProperty(document, 'hidden', {value: false, configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        page.wait_for_timeout(300)
        assert len(streams) == 1  # opened again, so it was closed
