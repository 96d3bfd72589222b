"""The page of alerts in chromium: an open page follows; an alert is seen and silenced without a script."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.harness import faults, tab_of
from tests.unit.alerts.parts import parts, worsen
from tests.unit.web.fleet import serve

pytestmark = pytest.mark.browser


def test_an_open_page_follows_what_opens(browser: Browser, tmp_path: Path) -> None:
    with parts(tmp_path) as of:
        of.desk.watcher.look()
        with serve(of.core, alerts=of.desk) as url, tab_of(browser) as tab:
            page = tab.open(f"{url}/alerts")
            assert page.get_by_role("heading", name="No alert is open.").is_visible()
            worsen(of)
            of.desk.watcher.look()
            page.get_by_role("heading", name="1 alert is open.").wait_for(timeout=60_000)
            assert tab.complaints == []


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_an_alert_is_seen_and_silenced_by_forms(browser: Browser, tmp_path: Path, size: str) -> None:
    with parts(tmp_path) as of:
        worsen(of)
        of.desk.watcher.look()
        with serve(of.core, alerts=of.desk) as url, tab_of(browser, size, script=False) as tab:
            page = tab.open(f"{url}/alerts")
            page.get_by_label("Note").fill("provider called")
            page.get_by_role("button", name="Say that you have seen").click()
            page.get_by_text("provider called").first.wait_for()
            page.get_by_role("button", name="Silence: ").click()
            page.get_by_role("button", name="End silence").click()
            page.get_by_role("button", name="Silence: ").wait_for()  # the form's answer is a page anew
            assert [action for action, _ in audited(of)] == ["ack", "silence", "unsilence"]
        with serve(of.core, alerts=of.desk) as url, tab_of(browser, size) as tab:
            assert faults(tab, f"{url}/alerts") == []


def audited(of) -> list[tuple[str, str]]:
    rows = of.desk._audit._take()
    return [(row.action, row.subject) for row in rows]
