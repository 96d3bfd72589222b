"""One chromium, one server and one tab for all that need none of their own."""

from collections.abc import Iterator
from itertools import permutations

import pytest
from playwright.sync_api import Browser, sync_playwright

from analytics.measurement import Letter
from server.trend import Trends
from tests.browser.harness import ARGUMENTS, CHROMIUM, Tab, tab_of
from tests.browser.pages import EVERY_LETTER
from tests.unit.alerts.parts import parts
from tests.unit.web.fleet import AT_US, MEMBERS, FixtureCore, serve

PAIRS = [(src.name, dst.name) for src, dst in permutations(MEMBERS, 2)]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with parts(tmp_path_factory.mktemp("served"), letters=EVERY_LETTER) as of:
        of.desk.watcher.look()
        with serve(of.core, alerts=of.desk, meter=of.meter, trends=a_day(of.core)) as at:
            yield at


def a_day(core: FixtureCore) -> Trends:
    """The hours before now, the first eight of them well."""
    trends = Trends(core)
    trends.of("pacs", [], AT_US)
    while trends.read_back():
        hours = sum(hour.letters is not None for hour in trends.of("pacs", [], AT_US).columns[:-1])
        core.letters = EVERY_LETTER if hours < 16 else dict.fromkeys(PAIRS, Letter.A)
    core.letters = EVERY_LETTER
    return trends


@pytest.fixture(scope="session")
def tab(browser: Browser) -> Iterator[Tab]:
    with tab_of(browser) as opened:
        yield opened
