"""The page of a path in chromium: its timeline, a test now with and without a script, a switch."""

import pytest
from playwright.sync_api import Browser

from server.api.doors import MeshAsk
from tests.browser.harness import tab_of, wait_until
from tests.unit.web.desk import FixtureDesk
from tests.unit.web.fleet import FixtureCore, serve

pytestmark = pytest.mark.browser

PATH = "/paths/radiologist/pacs"


def test_the_timeline_is_drawn_over_the_pages_own_drawing(browser: Browser) -> None:
    with serve(FixtureCore()) as url, tab_of(browser) as tab:
        page = tab.open(url + PATH)
        wait_until(page, "document.querySelector('.chart canvas') !== null")
        assert not page.locator(".chart-drawn").is_visible()
        assert page.locator(".u-legend").get_by_text("median").is_visible()
        page.get_by_role("link", name="7d").click()
        wait_until(page, "document.querySelector('.chart canvas') !== null")
        assert "range=7d" in page.url
        assert tab.complaints == []


def test_without_a_script_the_pages_own_drawing_stays(browser: Browser) -> None:
    with serve(FixtureCore()) as url, tab_of(browser, script=False) as tab:
        page = tab.open(url + PATH)
        page.get_by_role("link", name="Show how it was").click()
        assert page.get_by_role("img", name="Median round trip").is_visible()
        assert page.locator(".chart-drawn polyline").count() >= 2


def test_what_the_applications_saw_comes_after_the_page(browser: Browser) -> None:
    with serve(FixtureCore()) as url, tab_of(browser) as tab:
        page = tab.open(url + PATH)
        page.get_by_role("table", name="Passive flows of the pair").wait_for(timeout=30_000)
        page.get_by_text("Signed by both: radiologist, which measured").wait_for(timeout=30_000)
        assert tab.complaints == []
    with serve(FixtureCore()) as url, tab_of(browser, script=False) as tab:
        page = tab.open(url + PATH)
        page.get_by_role("link", name="Show their sessions").click()
        assert page.get_by_role("table", name="Passive flows of the pair").is_visible()


def test_a_test_now_tells_how_far_it_is_on_the_page(browser: Browser) -> None:
    desk = FixtureDesk()
    with serve(FixtureCore(), desk) as url, tab_of(browser) as tab:
        page = tab.open(url + PATH)
        page.get_by_role("button", name="Test now").click()
        page.get_by_text("Done in 1.7 s.").wait_for(timeout=30_000)
        assert page.get_by_text("radiologist → pacs: srflx, 247.3 ms, loss 0.00 %").is_visible()
        assert page.url == url + PATH
        assert desk.asked == [MeshAsk(src="radiologist", dst="pacs")]
        assert tab.complaints == []


def test_a_test_now_works_without_a_script(browser: Browser) -> None:
    with serve(FixtureCore(), FixtureDesk()) as url, tab_of(browser, script=False) as tab:
        page = tab.open(url + PATH)
        page.get_by_role("button", name="Test now").click()
        page.get_by_text("Done in 1.7 s.").wait_for(timeout=30_000)  # the page loads itself again
        assert "run=5d1f" in page.url


def test_a_site_is_switched_off_and_on_by_a_form(browser: Browser) -> None:
    with serve(FixtureCore(), FixtureDesk()) as url, tab_of(browser, script=False) as tab:
        page = tab.open(f"{url}/settings")
        page.get_by_role("button", name="Switch tests off for hotel").click()
        page.get_by_role("button", name="Switch tests on for hotel").click()
        assert page.get_by_role("button", name="Switch tests off for hotel").is_visible()
        assert page.url == f"{url}/settings"
