"""READ FIRST: how fast pages and API are for a thousand agents while they send ten times what they need.

A real server process has 1,000 agents enrolled and 999,000 directed paths measured. Twenty people click: the
front page, the matrix's page and its cells, the page of a path and of an agent, taken by chance; each looks
at what came for a second, and clicks again. Meanwhile agents send batches of 999 readings, 33,300 a second:
ten times what a thousand agents send in cycles of five minutes. Every answer is timed from the click to its
last byte. Then chromium opens the matrix, agents sending: from the navigation's start to the first paint, and
until all cells are drawn. People, agents, chromium and the server share this machine's CPUs.

The baseline is the same people at the same server in the same run, while no agent sends.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from benches import rank_facts, web_fleet
from benches.bench import Bench, Report, Say
from benches.errors import BenchError, NeedsError
from benches.figures import Cell, Figure, Target, number
from benches.web_load import READING_S

COLUMN, QUIET = "pathgrade", "quiet"
ROOT: Final = Path(__file__).resolve().parents[2]
CHROMIUM: Final = Path("/usr/bin/chromium")
USERS: Final = 20
NEED_ROWS_PER_S: Final = 999_000 / 300
TIMES: Final = 10
CONNECTIONS: Final = 50
SENDERS: Final = 200
PROFILE: Final = "pacs"
PAGES: Final = {
    "overview": f"/?profile={PROFILE}",
    "matrix": f"/matrix?profile={PROFILE}",
    "cells": f"/v1/matrix?profile={PROFILE}&metric=letter",
    "path": f"/paths/{{src}}/{{dst}}?profile={PROFILE}",
    "agent": f"/agents/{{src}}?profile={PROFILE}",
}
WORDS: Final = {
    "overview": "front page",
    "matrix": "matrix's page",
    "cells": "matrix's cells",
    "path": "page of a path",
    "agent": "page of an agent",
}
CAME: Final = """() => performance.getEntriesByType('resource')
    .some(entry => entry.name.includes('/v1/matrix') && entry.responseEnd > 0)"""
FRAMES: Final = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""What is drawn when the cells came is on the screen two frames later."""
START_S: Final = 600
PAINTS: Final = 5


class Size(NamedTuple):
    """How much is done."""

    agents: int
    seconds: int
    rows_per_s: int


WHOLE: Final = Size(rank_facts.AGENTS, 45, round(TIMES * NEED_ROWS_PER_S))
QUICK: Final = Size(100, 8, 5_000)

FIGURES: Final = (
    *(
        figure
        for kind, words in WORDS.items()
        for figure in (
            Figure(f"{kind}_p95_ms", f"{words}: one in twenty", number(0, "ms"), Target(100)),
            Figure(f"{kind}_p50_ms", "  median", number(0, "ms")),
        )
    ),
    Figure("paint_ms", "matrix in chromium: first paint", number(0, "ms"), Target(1_000)),
    Figure("drawn_ms", "  all cells drawn", number(0, "ms")),
    Figure("page_kb", "largest page, gzipped", number(0, "kB"), Target(150, timed=False)),
    Figure("rows_per_s", "rows a second taken in meanwhile", number(0, ""), Target(33_000, at_least=True)),
    Figure("batch_p95_ms", "  a batch waits for its answer: one in twenty", number(0, "ms")),
    Figure("failed", "answers that were none", number(0, ""), Target(0, timed=False)),
    Figure("clicks", "clicks", number(0, "")),
    Figure("memory_mb", "memory of the server", number(0, "MB")),
)


def needs() -> None:
    """Chromium must be there."""
    if not CHROMIUM.exists():
        raise NeedsError(f"{CHROMIUM} is not there", remedy="scripts/setup --bench")


def measure(quick: bool, folder: Path, say: Say) -> Report:
    """Make the fleet, run the server, let people click: first alone, then while agents send."""
    size = QUICK if quick else WHOLE
    say(f"Enrolling {size.agents:,} agents, sealing two cycles of all their paths ...")
    fleet = web_fleet.make(folder / "data", size.agents)
    with serving(folder) as server:
        say("Waiting for the server ...")
        began = time.monotonic()
        pages = _offered(server, fleet, say)
        say(f"It answers after {time.monotonic() - began:.0f} s. People click, no agent sends ...")
        quiet = load(folder, server, fleet, size, pages, rows_per_s=0)
        say(f"The same, while agents send {size.rows_per_s:,} rows a second ...")
        loaded = load(folder, server, fleet, size, pages, rows_per_s=size.rows_per_s)
        say("Chromium opens the matrix, agents sending ...")
        paints = painted(folder, server, fleet, size) if "matrix" in pages else []
        memory = server.peak_mb()
    cells = {COLUMN: _cells(loaded, size), QUIET: _cells(quiet, size)}
    cells[COLUMN] |= {"memory_mb": memory, **_paint(paints)}
    details = [
        f"{size.agents:,} agents, {fleet.paths:,} paths; {USERS} people for {size.seconds} s.",
        f"A person clicks, looks for {READING_S:.0f} s (give or take a half) at what came, and clicks again.",
        f"Batches of 999 readings, gzipped, {CONNECTIONS} at a time, each agent on one of its own (TLS).",
        f"Profile {PROFILE}.",
        *(f"{WORDS[kind]}: not in this version." for kind in PAGES if kind not in pages),
    ]
    return Report(cells, details, {"quiet": _short(quiet), "loaded": _short(loaded), "paints": paints})


# --- the server ---------------------------------------------------------------------------------------------


class Server(NamedTuple):
    """A running server."""

    pid: int
    agents: tuple[str, int]
    report: tuple[str, int]

    def peak_mb(self) -> float:
        """Greatest resident memory so far, in MB (10^6 bytes)."""
        told = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        (kib,) = re.findall(r"^VmHWM:\s+(\d+) kB", told, re.MULTILINE)
        return int(kib) * 1024 / 1e6

    def get(self, address: str) -> int:
        """Ask for a page; returns the status."""
        url = f"http://{self.report[0]}:{self.report[1]}{address}"
        try:
            with urllib.request.urlopen(url, timeout=START_S) as answer:  # ours, on loopback
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Run a server over a data folder; its log is beside it."""
    command = [sys.executable, "pathgrade.py", "server", "run", "--data", folder / "data"]
    command += ["--agents", "127.0.0.1:0", "--report", "127.0.0.1:0", "--stun", "127.0.0.1:0"]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *map(str, command)],
            cwd=ROOT,
            stderr=output,
            stdout=output,
            env={**os.environ, "PYTHONPATH": ""},
        )
    try:
        yield _ready(process, log)
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(process: subprocess.Popen[bytes], log: Path) -> Server:
    pattern = re.compile(r"ready agents=(\S+):(\d+) report=(\S+):(\d+)")
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        found = pattern.search(log.read_text(encoding="utf-8"))
        if found is not None:
            agents, agents_port, report, report_port = found.groups()
            return Server(process.pid, (agents, int(agents_port)), (report, int(report_port)))
        time.sleep(0.1)
    raise BenchError(
        f"the server did not start: {log.read_text(encoding='utf-8')[-500:]}", remedy="see above"
    )


def _offered(server: Server, fleet: web_fleet.Fleet, say: Say) -> dict[str, str]:
    """Name the pages that there are; the first answer waits for the first board."""
    found = {}
    for kind, address in PAGES.items():
        status = server.get(address.format(src=fleet.names[1], dst=fleet.names[2]))
        if status == 200:  # OK
            found[kind] = address
        else:
            say(f"{WORDS[kind]}: {status}")
    return found


# --- the load -----------------------------------------------------------------------------------------------


def load(
    folder: Path,
    server: Server,
    fleet: web_fleet.Fleet,
    size: Size,
    pages: Mapping[str, str],
    *,
    rows_per_s: int,
    users: int = USERS,
) -> dict[str, Any]:
    """Let people click, and agents send."""
    with loading(folder, server, fleet, size, pages, rows_per_s=rows_per_s, users=users) as process:
        told, _ = process.communicate(timeout=START_S)
    return json.loads(told)  # type: ignore[no-any-return]  # as benches.web_load writes it


@contextmanager
def loading(
    folder: Path,
    server: Server,
    fleet: web_fleet.Fleet,
    size: Size,
    pages: Mapping[str, str],
    *,
    rows_per_s: int,
    users: int,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the load in a process of its own, from when it has all its batches ready."""
    asked = {
        "seconds": size.seconds,
        "rows_per_s": rows_per_s,
        "users": users,
        "senders": min(SENDERS, size.agents),
        "connections": CONNECTIONS,
        "names": fleet.names,
        "shown": fleet.shown,
        "authority": fleet.authority,
        "agents": server.agents,
        "report": server.report,
        "pages": dict(pages),
        "cookie": "",
    }
    file = folder / "load.json"
    file.write_text(json.dumps(asked), encoding="utf-8")
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "benches.web_load", str(file)],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise BenchError("the load did not start", remedy="see above")
        yield process
    finally:
        process.kill()
        process.wait()


def painted(folder: Path, server: Server, fleet: web_fleet.Fleet, size: Size) -> list[dict[str, float]]:
    """Open the matrix in chromium some times, each in a profile of its own, while agents send."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # for this figure only

    url = f"http://{server.report[0]}:{server.report[1]}{PAGES['matrix']}"
    found = []
    with (
        loading(folder, server, fleet, size, {}, rows_per_s=size.rows_per_s, users=0) as process,
        sync_playwright() as playwright,
    ):
        drain = threading.Thread(target=process.communicate, daemon=True)
        drain.start()
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for _ in range(PAINTS):
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            page = context.new_page()
            page.goto(url)
            page.wait_for_function(PAINTED)
            first = float(page.evaluate(FIRST_PAINT))
            page.wait_for_function(CAME)
            page.evaluate(FRAMES)
            found.append({"paint_ms": first, "drawn_ms": float(page.evaluate("performance.now()"))})
            context.close()
        browser.close()
    return found


FIRST_PAINT: Final = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
PAINTED: Final = "() => performance.getEntriesByName('first-contentful-paint').length > 0"


# --- figures ------------------------------------------------------------------------------------------------


def _cells(seen: dict[str, Any], size: Size) -> dict[str, Cell]:
    found: dict[str, Cell] = {}
    for kind, times in seen["ms"].items():
        found[f"{kind}_p95_ms"], found[f"{kind}_p50_ms"] = quantile(times, 0.95), median(times)
    statuses = [status for own in seen["statuses"].values() for status in own]
    found["failed"] = sum(status != 200 for status in statuses) + seen["refused"]  # OK
    found["clicks"] = len(statuses)
    html = (size for kind, size in seen["bytes_sent"].items() if kind != "cells")
    found["page_kb"] = max(html, default=0) / 1_000
    if seen["sending_s"]:
        found["rows_per_s"] = seen["batches"] * 999 / max(size.seconds, seen["sending_s"])
        found["batch_p95_ms"] = quantile(seen["answered_ms"], 0.95)
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that this share of all is not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _paint(paints: Sequence[Mapping[str, float]]) -> dict[str, Cell]:
    if not paints:
        return {}
    return {key: median(one[key] for one in paints) for key in ("paint_ms", "drawn_ms")}


def _short(seen: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in seen.items() if key not in {"answered_ms", "statuses"}}


BENCH: Final = Bench(
    name="web",
    words="pages and API for a thousand agents, while they send ten times what they need",
    description=__doc__ or "",
    figures=FIGURES,
    headings={COLUMN: "pathgrade", QUIET: "no agent sends"},
    judged=COLUMN,
    needs=needs,
    measure=measure,
)
