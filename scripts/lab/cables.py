"""The cable emulator from Python: build it once, start one process for all cables of a lab, talk to it."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from lab.errors import CableError
from lab.net import run
from lab.plan import Cable, Plan
from lab.processes import Parts
from lab.scenario import UNITS, Line, LineSettings, to_cable

SOURCE: Final = Path(__file__).with_name("wire.c")
CACHE: Final = Path("/var/cache/pathgrade/lab")
ANSWER_S: Final = 10.0
READY_S: Final = 30.0
DIRECTIONS: Final = ("up", "down")
SEPARATOR: Final = "--"  # between two cables on the command line


class Counters(LineSettings, frozen=True, kw_only=True):
    """One direction's settings as they are now, and what went through it."""

    packets: int
    bytes: int
    lost: int
    queue_dropped: int
    delivered: int
    refused: int


class CableState(msgspec.Struct, frozen=True, kw_only=True):
    """What a cable says of itself; ``lead_us`` is how late it has learnt that sleeps end here."""

    realtime: int
    lead_us: int
    up: Counters
    down: Counters


def build(cache: Path = CACHE) -> Path:
    """Compile the emulator, unless this very source is compiled already; returns the program."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    program = cache / f"wire-{digest}"
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = cache / f"{program.name}.{os.getpid()}.tmp"
        run(["cc", "-O2", "-Wall", "-Wextra", "-o", str(fresh), str(SOURCE), "-lm"])
        fresh.rename(program)
    return program


def start(parts: Parts, plan: Plan, folder: Path) -> None:
    """Start all cables of a plan and wait until their devices exist. Controls are in ``folder``."""
    part = parts.start("cables", [str(build()), *_all_cables(plan, folder)])
    parts.wait_until(lambda: "ready" in part.log_tail(), what="the cables are ready", at_most_s=READY_S)


def _all_cables(plan: Plan, folder: Path) -> list[str]:
    described = [_description(plan, cable, folder) for cable in plan.cables]
    return [word for one in described for word in (SEPARATOR, *one)][1:]


def _description(plan: Plan, cable: Cable, folder: Path) -> list[str]:
    link = plan.links[cable.link]
    ends = [plan.namespace(cable.node_a), cable.device_a, plan.namespace(cable.node_b), cable.device_b]
    settings = [*_arguments("up", link.up), *_arguments("down", link.down)]
    return [*ends, str(control_path(folder, cable.link)), str(cable.seed), *settings]


def _arguments(direction: str, line: Line) -> list[str]:
    return [f"{direction}.{key}={value}" for key, value in msgspec.structs.asdict(line.settings).items()]


def control_path(folder: Path, link: str) -> Path:
    """Where a cable's control socket is."""
    return folder / f"{link}.cable"


def change(folder: Path, link: str, settings: Mapping[str, int]) -> None:
    """Set ``{"up.delay_us": 20000}`` on a running cable; raises ``CableError`` if it refuses."""
    words = " ".join(f"{key}={value}" for key, value in settings.items())
    answer = _ask(control_path(folder, link), f"set {words}")
    if answer != "ok":
        raise CableError(f"cable {link}: {answer}", remedy=f"settings are {', '.join(UNITS)}")


def state(folder: Path, link: str) -> CableState:
    """Ask a running cable for its settings and counters."""
    return msgspec.json.decode(_ask(control_path(folder, link), "get"), type=CableState)


def parse_setting(text: str) -> dict[str, int]:
    """Read ``up.delay_ms=50``; without a direction it is for both. Raises ``CableError``."""
    name, equals, value = text.partition("=")
    direction, _, key = name.rpartition(".")
    directions = (direction,) if direction else DIRECTIONS
    if not equals or key not in UNITS or any(one not in DIRECTIONS for one in directions):
        raise CableError(
            f"'{text}' is not a setting", remedy=f"[up.|down.]KEY=VALUE, KEY one of {', '.join(UNITS)}"
        )
    try:
        number = to_cable(key, float(value))
    except (ValueError, OverflowError) as error:
        raise CableError(f"'{text}': {error}", remedy="VALUE is a number, as in up.delay_ms=50") from error
    return {f"{one}.{UNITS[key][0]}": number for one in directions}


def _ask(control: Path, request: str) -> str:
    try:
        with _own_address() as own:
            own.settimeout(ANSWER_S)
            own.sendto(request.encode(), str(control))
            return own.recv(4096).decode()
    except OSError as error:
        raise CableError(
            f"{control}: {error or 'no answer'}", remedy="is the lab up? scripts/lab/run status"
        ) from error


@contextmanager
def _own_address() -> Iterator[socket.socket]:
    """A datagram socket with an address to answer to."""
    with (
        tempfile.TemporaryDirectory(prefix="pathgrade-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own,
    ):
        own.bind(f"{folder}/answer")
        yield own
