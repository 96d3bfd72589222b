"""The pages in Debian's chromium: desktop and phone, light and dark. Screenshots stay in pytest's folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from analytics.measurement import Letter
from tests.unit.web.fleet import HEADLINE, FixtureCore, serve

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
EVERY_LETTER = {
    ("home", "office-1"): Letter.UNREACHABLE,
    ("home", "office-2"): Letter.F,
    ("office-1", "home"): Letter.C,
    ("office-2", "home"): Letter.UNKNOWN,
}
PAGES = {
    "unreachable": "/paths/home/office-1",
    "report": "/",
    "generic": "/?profile=generic",
    "path": "/paths/radiologist/pacs",
    "relay": "/paths/clinic/pacs",
    "flows": "/flows",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(FixtureCore(letters=EVERY_LETTER)) as at:
        yield at


def open_page(
    browser: Browser, size: str, scheme: str = "light", *, script: bool = True
) -> tuple[Page, list[str]]:
    """Open a tab; gives it with the list that its complaints will go to."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]  # "light" or "dark"
        java_script_enabled=script,
    )
    page, complaints = context.new_page(), list[str]()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))
    return page, complaints


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_and_nothing_complains(  # noqa: PLR0917  # pytest's fixtures and parameters
    browser: Browser, url: str, tmp_path: Path, name: str, size: str, scheme: str
) -> None:
    page, complaints = open_page(browser, size, scheme)
    page.goto(url + PAGES[name])
    page.wait_for_load_state("load")
    page.screenshot(path=tmp_path / f"{name}-{size}-{scheme}.png", full_page=True)

    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    assert page.evaluate("document.fonts.check('16px Inter')")
    page.context.close()


@pytest.mark.parametrize("size", SIZES)
def test_the_verdict_is_above_the_fold(browser: Browser, url: str, size: str) -> None:
    page, _ = open_page(browser, size)
    page.goto(url)
    headline = page.get_by_role("heading", level=1)
    box = headline.bounding_box()

    assert headline.inner_text() == HEADLINE
    assert box is not None
    assert box["y"] + box["height"] < SIZES[size][1] / 2
    worst = page.get_by_role("link", name="the radiologist").bounding_box()
    assert worst is not None
    assert worst["y"] < SIZES[size][1]
    page.context.close()


@pytest.mark.parametrize("size", SIZES)
def test_a_path_opens_without_javascript(browser: Browser, url: str, size: str) -> None:
    page, _ = open_page(browser, size, script=False)
    page.goto(url)
    page.get_by_role("link", name="pacs to radiologist").first.click()

    assert page.url == f"{url}/paths/pacs/radiologist?profile=pacs"
    assert page.get_by_role("heading", name="Hops, seen from pacs").is_visible()
    page.context.close()


def test_rows_stay_a_table_for_a_screen_reader_on_a_phone(browser: Browser, url: str) -> None:
    page, _ = open_page(browser, "phone")
    page.goto(url)
    table = page.get_by_role("table", name="Paths, worst first")

    assert table.get_by_role("row").count() == 31
    assert table.get_by_role("columnheader").count() == 10
    page.context.close()


def test_an_open_page_follows_the_server(browser: Browser) -> None:
    core = FixtureCore(fleet=[])
    with serve(core) as url:
        page, complaints = open_page(browser, "desktop")
        page.clock.install()
        page.goto(url)
        assert page.get_by_role("heading", level=1).inner_text() == "No agents yet."
        core.fleet = FixtureCore().fleet
        page.clock.run_for(11_000)
        page.get_by_role("heading", name=HEADLINE).wait_for(timeout=30_000)

        assert complaints == []
        assert page.title().startswith(HEADLINE)
        page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_text_has_contrast(browser: Browser, url: str, name: str, scheme: str) -> None:
    """WCAG 2.2 AA, 1.4.3: 4.5 to 1 for every text against the ground it really stands on."""
    page, _ = open_page(browser, "desktop", scheme)
    page.goto(url + PAGES[name])
    weak = page.evaluate(WEAK_TEXTS)

    assert weak == []
    page.context.close()


WEAK_TEXTS = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (at) => {
    for (; at; at = at.parentElement) {
      const [r, g, b, a = 1] = rgb(getComputedStyle(at).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const weak = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const at = node.parentElement;
    if (!node.data.trim() || !at.checkVisibility() || at.closest(".sr, title, script, option")) continue;
    const [one, two] = [light(rgb(getComputedStyle(at).color)), light(ground(at))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (two + 0.05);
    if (contrast < 4.5) weak.push(`${at.className} "${node.data.trim()}" ${contrast.toFixed(2)}`);
  }
  return [...new Set(weak)];
}"""
