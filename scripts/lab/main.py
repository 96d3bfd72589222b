"""READ FIRST for ``scripts/lab/run``: a lab that stays up in the background, and is looked at and changed."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, NoReturn

import msgspec
from rich.console import Console
from rich.table import Table

from lab import cables, pacs, product, state
from lab.errors import LabError, NameTakenError, PartError
from lab.needs import check_machine
from lab.network import Lab, current_truth, end_own, open_lab
from lab.plan import make_plan
from lab.processes import end_stranger
from lab.scenario import FOLDER, load
from lab.signals import interrupt_once
from lab.state import LabState
from lab.terminal import keep_logs, say_error
from lab.truth import Truth

UP_S: Final = 120.0
DOWN_S: Final = 30.0
LOOK_S: Final = 0.5
PIPE_WIDTH: Final = 140  # of a table that no terminal limits


def main() -> NoReturn:
    """Run one command of the lab."""
    given = _parser().parse_args()
    commands: dict[str, Callable[[argparse.Namespace], None]] = {
        "up": up, "keep": keep, "down": down, "status": status, "set": change, "truth": truth,
    }  # fmt: skip  # a table
    try:
        commands[given.command](given)
    except LabError as error:
        say_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/lab/run", description="A network whose truth is known.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    helps = {
        "up": "make a lab and leave it up",
        "keep": "make a lab and hold it until SIGTERM (what `up` runs in the background)",
        "down": "end a lab and remove everything it made; also after a crash; safe to repeat",
        "status": "show a lab: processes, cables, truth",
        "set": "change a running link: set hotel-uplink up.delay_ms=4 down.loss_percent=1",
        "truth": "write a lab's truth as JSON to a file",
    }
    each = {name: commands.add_parser(name, help=text, description=text) for name, text in helps.items()}
    for one in each.values():
        one.add_argument("--name", default="lab", help="name of the lab [%(default)s]")
    for one in (each["up"], each["keep"]):
        one.add_argument("--scenario", type=Path, default=FOLDER / "radiologist.toml", metavar="FILE")
        one.add_argument("--port", type=int, default=8080, help="of the page, on 127.0.0.1 [%(default)s]")
        one.add_argument("--bare", action="store_true", help="the network only: no server, agents, PACS")
    each["set"].add_argument("link", metavar="LINK")
    each["set"].add_argument("settings", metavar="KEY=VALUE", nargs="+")
    each["truth"].add_argument("file", metavar="FILE", type=Path)
    return parser


def up(given: argparse.Namespace) -> None:
    """Start the process that holds the lab, and wait until it says that the lab is up."""
    check_machine()
    load(given.scenario)
    if (held := state.read(given.name)) and held.kept:
        raise NameTakenError(
            f"lab '{given.name}' is up", remedy=f"scripts/lab/run down --name {given.name}, or another --name"
        )
    with (
        tempfile.TemporaryFile() as said
    ):  # not this one's stderr: whoever waits for its end would wait for both
        keeper = subprocess.Popen(
            [sys.executable, "-m", "lab.main", "keep", *sys.argv[2:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        try:
            _wait_until_up(given.name, keeper, said)
        except BaseException:
            keeper.terminate()
            keeper.wait(DOWN_S)
            raise
    status(given)


def _wait_until_up(name: str, keeper: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    deadline = time.monotonic() + UP_S
    while not ((now := state.read(name)) and now.phase == "up" and now.keeper.pid == keeper.pid):
        if keeper.poll() is not None:
            said.seek(0)
            why = said.read().decode(errors="replace").strip().removeprefix("error: ")
            raise PartError(f"lab '{name}' did not come up: {why}")
        if time.monotonic() > deadline:
            raise PartError(f"lab '{name}' was not up within {UP_S:g} s")
        time.sleep(0.1)


def keep(given: argparse.Namespace) -> None:
    """Hold a lab until SIGTERM or Ctrl-C."""
    interrupt_once()
    try:
        lab = open_lab(given.scenario, given.name, port=given.port, report=not given.bare)
        _hold(lab, bare=given.bare)
    finally:
        end_own(given.name)


def _hold(lab: Lab, *, bare: bool) -> NoReturn:
    try:
        if not bare:
            _start_product(lab)
        lab.begin()
        while True:
            lab.parts.check()
            lab.apply_due_faults()
            time.sleep(LOOK_S)
    except LabError as error:
        keep_logs(lab, error)
        raise
    finally:
        lab.down()


def _start_product(lab: Lab) -> None:
    product.start_turn(lab)
    product.start_server(lab)
    if lab.scenario.pacs:
        pacs.start(lab)
    product.start_agents(lab)


def down(given: argparse.Namespace) -> None:
    """End the holder, then sweep what is left, if anything is."""
    found = state.read(given.name)
    if not found:
        print(f"lab '{given.name}' is not up")
        return
    if found.keeper.pid != os.getpid():
        end_stranger(found.keeper.pid, found.keeper.started, DOWN_S)
    state.sweep(state.read(given.name) or found)
    print(f"lab '{given.name}' is down; nothing is left")


def _read_up(name: str) -> LabState:
    found = state.read(name)
    if not found or not found.kept:
        others = ", ".join(state.known())
        raise LabError(
            f"lab '{name}' is not up",
            remedy=f"scripts/lab/run up --name {name}" + (f"\n--name, one of: {others}" if others else ""),
        )
    return found


def _truth_of(found: LabState) -> Truth:
    plan = make_plan(load(Path(found.scenario)), found.name)
    return current_truth(plan, Path(found.folder))


def status(given: argparse.Namespace) -> None:
    """Print processes, cables and the truth."""
    found = _read_up(given.name)
    scenario = load(Path(found.scenario))
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(f"lab '{found.name}': {scenario.title}; {found.phase}, held by process {found.keeper.pid}")
    if found.port:
        console.print(f"page: http://127.0.0.1:{found.port}   logs: {found.folder}")
    console.print(_cable_table(found, list(scenario.links())))
    console.print(_truth_table(_truth_of(found)))


def _cable_table(found: LabState, links: list[str]) -> Table:
    table = Table(title="Cables")
    for column in ("link", "", "delay ms", "jitter ms", "loss %", "Mbit/s", "packets", "lost", "queue full"):
        table.add_column(column, justify="left" if column in {"link", ""} else "right")
    for link in links:
        now = cables.state(Path(found.folder), link)
        for arrow, line in (("up", now.up), ("down", now.down)):
            table.add_row(*(link, arrow), *_line_cells(line))
    return table


def _line_cells(line: cables.Counters) -> list[str]:
    return [
        f"{line.delay_us / 1000:g}",
        f"{line.jitter_us / 1000:g}",
        f"{line.loss_ppm / 10_000:g}",
        f"{line.rate_kbps / 1000:g}" if line.rate_kbps else "∞",
        *(str(count) for count in (line.packets, line.lost, line.queue_dropped)),
    ]


def _truth_table(truth: Truth) -> Table:
    table = Table(title="Truth")
    for column in ("path", "rung", "RTT ms", "loss → %", "loss ← %", "→ Mbit/s", "largest leg", "ms"):
        table.add_column(column, justify="left" if column in {"path", "rung", "largest leg"} else "right")
    for path in truth.paths:
        table.add_row(
            f"{path.src} -> {path.dst}",
            " or ".join(path.rungs),
            f"{path.rtt_median_us / 1000:.1f}",
            f"{path.loss_ppm / 10_000:g}",
            f"{path.loss_back_ppm / 10_000:g}",
            f"{path.rate_kbps / 1000:g}" if path.rate_kbps else "∞",
            path.largest_leg,
            f"{path.legs[path.largest_leg] / 1000:.1f}",
        )
    return table


def change(given: argparse.Namespace) -> None:
    """Set a running link; it takes effect with the next packet."""
    found = _read_up(given.name)
    links = load(Path(found.scenario)).links()
    if given.link not in links:
        raise LabError(f"there is no link '{given.link}'", remedy=f"one of: {', '.join(links)}")
    settings = {key: value for text in given.settings for key, value in cables.parse_setting(text).items()}
    cables.change(Path(found.folder), given.link, settings)


def truth(given: argparse.Namespace) -> None:
    """Write the truth as JSON."""
    found = _read_up(given.name)
    body = msgspec.json.format(msgspec.json.encode(_truth_of(found)), indent=1)
    try:
        given.file.write_bytes(body + b"\n")
    except OSError as error:
        raise LabError(
            f"write {given.file}: {error.strerror}", remedy="name a file that can be written"
        ) from error


if __name__ == "__main__":
    main()
