"""READ FIRST for ``scripts/chaos``: faults and abuse on real parts, in one table; or the soak."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple, NoReturn

import msgspec
from benches import machine, net
from benches.errors import BenchError, NeedsError

from faults import soak
from faults.account import account, found
from faults.catalog import FAULTS, Fault, Seen
from faults.world import World, world

MOST_RSS_MB: Final = 900
"""Its two databases alone may take 4 GB as it is set; what the faults ask for is far below that."""
EXIT_MISSED: Final = 1
EXIT_INTERRUPTED: Final = 130
LEAST_AGENTS: Final = 3


def main() -> NoReturn:
    """Run what is asked; whatever happens, leave nothing behind."""
    given = _arguments()
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, _interrupt)
    try:
        sys.exit(EXIT_MISSED if _run(given) else 0)
    except BenchError as error:
        print(f"error: {error}\n  try: {error.remedy}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\nInterrupted: everything is ended and removed.", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)  # the end is under way
    raise KeyboardInterrupt


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    names = ", ".join(fault.name for fault in FAULTS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"soak, or some of: {names}")
    parser.add_argument("--agents", type=int, default=50, metavar="N", help="of the soak (50)")
    parser.add_argument("--minutes", type=float, default=60, metavar="N", help="of the soak (60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    given = parser.parse_args()
    known = {"soak", *(fault.name for fault in FAULTS)}
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"no fault is called {unknown[0]!r}; there are: soak, {names}")
    return given


def _run(given: argparse.Namespace) -> list[str]:
    if os.geteuid() != 0:
        raise NeedsError("this needs root (network namespaces, eBPF)", remedy="sudo scripts/chaos")
    net.sweep()
    with tempfile.TemporaryDirectory(prefix="pgb-") as folder:
        if "soak" in given.names:
            return _soak(given, Path(folder))
        return _faults(given, Path(folder))


def _soak(given: argparse.Namespace, folder: Path) -> list[str]:
    told = machine.describe()

    def keep(soaked: soak.Soaked) -> None:
        _keep(given.json, {"machine": told, **soak.as_json(soaked)})

    agents = max(LEAST_AGENTS, given.agents)
    soaked = soak.soak(folder, agents=agents, minutes=given.minutes, say=_say, keep=keep)
    keep(soaked)
    print("\n".join(soak.lines(soaked)))
    return soaked.missed()


class Row(NamedTuple):
    """One row of the table."""

    name: str
    words: str
    expected: str
    seen: str
    good: bool
    seconds: float
    server_mb: float = 0.0  # the most that it took meanwhile


def _faults(given: argparse.Namespace, folder: Path) -> list[str]:
    told = machine.describe()
    chosen = [fault for fault in FAULTS if not given.names or fault.name in given.names]
    with world(folder, _say) as made:
        rows = [_done(made, fault) for fault in chosen]
        rows += close(made)
    most_mb = max(row.server_mb for row in rows)
    rows.append(
        Row(
            "memory",
            "all of the above",
            f"the server stays below {MOST_RSS_MB} MB",
            f"{most_mb:.0f} MB at most",
            most_mb < MOST_RSS_MB,
            0.0,
        )
    )
    _keep(given.json, {"machine": told, "faults": [row._asdict() for row in rows]})
    for row in rows:
        print(f"{'ok   ' if row.good else 'DIFFERS'} {row.name}: {row.words}\n      expected: {row.expected}")
        also = f"  ({row.seconds:.0f} s, server {row.server_mb:.0f} MB)" if row.seconds else ""
        print(f"      seen:     {row.seen}{also}")
    lacking = [row.name for row in rows if not row.good]
    print(f"\nNOT AS EXPECTED: {', '.join(lacking)}" if lacking else "\nAll as expected.")
    return lacking


def _done(made: World, fault: Fault) -> Row:
    """Do one; what breaks it off differs, and the next is done all the same."""
    _say(f"{fault.name}: {fault.words} ...")
    began = time.monotonic()
    made.most_rss_kb = 0
    try:
        seen = fault.do(made)
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        seen = Seen(str(error), False)
    took = time.monotonic() - began
    most_mb = made.most_rss_kb / 1000
    state = "as expected" if seen.good else "DIFFERS"
    _say(f"  {state} after {took:.0f} s, server {most_mb:.0f} MB: {seen.words}")
    return Row(fault.name, fault.words, fault.expected, seen.words, seen.good, took, most_mb)


def close(made: World) -> list[Row]:
    """Have all that was kept taken in, stop the server, and count."""
    made.enough()
    try:
        made.until(lambda: made.waiting() == 0, "all that agents kept is taken in")
        made.stop_server()
    except BenchError as error:
        return [Row("rows", "all of the above", "0 lost, 0 doubled", str(error), False, 0.0)]
    kept = made.kept()
    had = found(made.data, made.names)
    one = account(kept, had)
    seen = f"{one.kept:,} rows kept by agents; {one.lost} lost, {one.doubled} doubled, {one.strange} strange"
    return [
        Row("rows", "all of the above", "0 lost, 0 doubled", seen, one.kept > 0 and not any(one[1:]), 0.0)
    ]


def _keep(path: Path | None, content: dict[str, Any]) -> None:
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
