"""READ FIRST for ``scripts/screenshots``: every page in Debian's chromium, over the demo lab's real data.

Pictures go to ``docs/img``: each page on a desktop, light, and on a phone, dark. WebP, as PNG would be three
times as large.
"""

from __future__ import annotations

import argparse
import base64
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

from playwright.sync_api import Page, sync_playwright

from lab import demo
from lab.errors import LabError
from lab.needs import check_machine
from lab.network import end_own, open_lab
from lab.scenario import FOLDER
from lab.signals import interrupt_once
from lab.terminal import Steps, say_error

CHROMIUM: Final = "/usr/bin/chromium"
ARGUMENTS: Final = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
NAME: Final = "shots"
PORT: Final = 18_080
IMAGES: Final = Path(__file__).parents[2] / "docs" / "img"
QUALITY: Final = 82
MOST_BYTES: Final = 2_000_000
"""Of all pictures: they are in everybody's clone."""
SETTLE_MS: Final = 1_500
"""For pictures that a page's script draws."""

PAGES: Final[Mapping[str, str]] = {
    "overview": "/",
    "matrix": "/matrix",
    "map": "/map",
    "path": "/paths/pacs/radiologist?range=1h",
    "alerts": "/alerts",
    "agents": "/agents",
    "agent": "/agents/radiologist",
    "services": "/services",
    "flows": "/flows",
    "changes": "/diff?before=5m",
    "sla": "/sla?service=PACS",
    "audit": "/audit",
    "settings": "/settings",
}
LOOKS: Final[Mapping[str, Mapping[str, Any]]] = {
    "": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
    "-phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}


def main() -> NoReturn:
    """Take the pictures; whatever happens, leave no lab behind."""
    given = _arguments()
    interrupt_once()
    try:
        with _server(given.url) as url:
            missing = take(url, given.out, png=given.png)
    except LabError as error:
        say_error(error)
        sys.exit(error.exit_code)
    finally:
        end_own(NAME)
    size = sum(file.stat().st_size for file in given.out.iterdir())
    print(f"{given.out}: {size / 1e6:.2f} MB of {MOST_BYTES / 1e6:.0f}")
    for name, said in missing.items():
        print(f"error: no picture of {name}: {PAGES[name]} says {said}", file=sys.stderr)
    sys.exit(1 if missing or size > MOST_BYTES else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/screenshots", description=__doc__.partition(": ")[2].strip()
    )
    parser.add_argument("--url", help="of a server that runs; default: a demo lab of its own")
    parser.add_argument("--out", type=Path, default=IMAGES, metavar="FOLDER")
    parser.add_argument("--png", action="store_true", help="PNG, to be looked at where WebP cannot be")
    return parser.parse_args()


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    check_machine()
    steps = Steps()
    with steps.step("Lab", "the demo's"):
        lab = open_lab(FOLDER / "radiologist.toml", NAME, port=PORT, report=True)
    try:
        demo.measure(lab, steps)
        yield lab.url
    finally:
        lab.down()


def take(url: str, folder: Path, *, png: bool) -> dict[str, str]:
    """Take a picture of each page in each look; returns the pages that did not answer, and what they said."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for look, options in LOOKS.items():
            page = browser.new_context(**options).new_page()
            for name, path in PAGES.items():
                answer = page.goto(url + path)
                if answer is None or not answer.ok:
                    missing[name] = " ".join(page.inner_text("body").split())[:300]
                    continue
                page.evaluate("document.fonts.ready.then(() => true)")
                page.wait_for_timeout(SETTLE_MS)
                _save(page, folder / f"{name}{look}", png=png)
        browser.close()
    return missing


def _save(page: Page, file: Path, *, png: bool) -> None:
    if png:
        page.screenshot(path=file.with_suffix(".png"))
        return
    told = page.context.new_cdp_session(page).send(
        "Page.captureScreenshot", {"format": "webp", "quality": QUALITY}
    )
    file.with_suffix(".webp").write_bytes(base64.b64decode(told["data"]))


if __name__ == "__main__":
    main()
