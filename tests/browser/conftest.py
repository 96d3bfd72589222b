"""One chromium and one server for all browser tests; a tab per scheme is used again and again."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.harness import ARGUMENTS, CHROMIUM, SCHEMES, Tab, tab_of
from tests.browser.pages import EVERY_LETTER
from tests.unit.alerts.parts import parts
from tests.unit.web.fleet import serve


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
        with serve(of.core, alerts=of.desk, meter=of.meter) as at:
            yield at


@pytest.fixture(scope="session", params=SCHEMES)
def tab(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Tab]:
    with tab_of(browser, scheme=request.param) as opened:
        yield opened
