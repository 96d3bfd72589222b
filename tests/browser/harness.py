"""Tabs of Debian's chromium, and what is asked of every page that is open in one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

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
SCHEMES = ("light", "dark")
BAD_IMPACTS = ("serious", "critical")
# A problem's page says 404 or the like itself; chromium complains of that answer on its own.
OWN_WORDS = "Failed to load resource: the server responded with a status of 404"


@dataclass
class Tab:
    """One tab, and what it complained of since the page was opened."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    status: int = 0  # of the latest answer

    def open(self, url: str) -> Page:
        """Open an address and wait until it is drawn."""
        self.complaints.clear()
        answer = self.page.goto(url)
        self.page.wait_for_load_state("load")
        self.page.evaluate("document.fonts.ready.then(() => true)")
        self.status = answer.status if answer is not None else 0
        if self.status == 404:
            self.complaints[:] = [said for said in self.complaints if not said.startswith(OWN_WORDS)]
        return self.page

    def resize(self, size: str) -> None:
        """Make the window as large as a device's."""
        width, height = SIZES[size]
        self.page.set_viewport_size({"width": width, "height": height})

    def show(self, scheme: str) -> None:
        """Light or dark, without loading the page again."""
        self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # "light" or "dark"

    def fits(self) -> bool:
        """Whether nothing is wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))

    def weak_texts(self) -> list[str]:
        """List texts of less contrast than WCAG 2.2 AA asks for (1.4.3): 4.5 to 1."""
        return list(self.page.evaluate(WEAK_TEXTS))

    def barriers(self) -> list[str]:
        """List what axe-core calls a serious or a critical barrier, with the elements."""
        found: dict[str, Any] = Axe().run(self.page).response
        return [
            f"{one['id']}: {'; '.join(node['html'][:160] for node in one['nodes'][:3])}"
            for one in found["violations"]
            if one["impact"] in BAD_IMPACTS
        ]


@contextmanager
def tab_of(
    browser: Browser,
    size: str = "desktop",
    scheme: str = "light",
    *,
    script: bool = True,
    touch: bool = False,
) -> Iterator[Tab]:
    """Open a tab of its own context."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]  # "light" or "dark"
        java_script_enabled=script,
        has_touch=touch,
    )
    tab = Tab(context.new_page())
    page, complaints = tab.page, tab.complaints
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: _note(complaints, request.url, request.failure))
    try:
        yield tab
    finally:
        context.close()


def faults(tab: Tab, address: str, folder: Path | None = None, *, status: int = 200) -> list[str]:
    """Open a page at both sizes, light and dark, and list what is wrong; axe-core looks once a scheme."""
    found = []
    for size, axe_in in zip(SIZES, SCHEMES, strict=True):
        tab.resize(size)
        tab.show("light")
        page = tab.open(address)
        if tab.status != status:
            found.append(f"{size}: answered {tab.status}")
        found += [f"{size}: complains: {said}" for said in tab.complaints]
        if not tab.fits():
            found.append(f"{size}: wider than the window")
        if not page.evaluate("document.fonts.check('16px Inter')"):
            found.append(f"{size}: the font is missing")
        for scheme in SCHEMES:
            tab.show(scheme)
            found += [f"{size}, {scheme}: weak: {text}" for text in tab.weak_texts()]
            if scheme == axe_in:
                found += [f"{size}, {scheme}: barrier: {barrier}" for barrier in tab.barriers()]
            if folder is not None:
                page.screenshot(path=folder / f"{size}-{scheme}.png")
    return found


def wait_until(page: Page, expression: str, most_ms: int = 30_000) -> None:
    """Wait for a condition; ``wait_for_function`` would need eval, which the pages' policy forbids."""
    for _ in range(most_ms // 50):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {expression}")


def _note(complaints: list[str], url: str, failure: str | None) -> None:
    # What is under way when the reader goes to another page ends there: that is no failure.
    if failure != "net::ERR_ABORTED":
        complaints.append(f"{url}: {failure}")


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
    if (!node.data.trim() || !at.checkVisibility() || at.closest(".sr, svg, title, script, option")) continue;
    const [one, two] = [light(rgb(getComputedStyle(at).color)), light(ground(at))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (two + 0.05);
    if (contrast < 4.5) weak.push(`${at.className} "${node.data.trim()}" ${contrast.toFixed(2)}`);
  }
  return [...new Set(weak)];
}"""
