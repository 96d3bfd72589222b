"""READ FIRST for ``scripts/bench``: measure, print a table against peers, and judge by the targets.

The table goes to standard output, progress to standard error.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import msgspec

from benches import machine, net, passive
from benches.cells import program_lines
from benches.errors import BenchError, NeedsError
from benches.figures import missed, notes, table
from benches.loads import build_storm
from benches.measures import Rig

EXIT_MISSED: Final = 1
EXIT_INTERRUPTED: Final = 130
EXAMPLES: Final = """examples:
  scripts/bench passive                     the table; exit 1 if a target is missed
  scripts/bench passive --json bench.json   and all figures as JSON, for a comparison later
  scripts/bench passive --quick             does it all work here? times mean nothing, only counts are judged
"""


def main() -> NoReturn:
    """Run a bench; whatever happens, leave nothing behind."""
    given = _arguments()
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, _interrupt)
    try:
        sys.exit(EXIT_MISSED if _passive(given) else 0)
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
    parser = argparse.ArgumentParser(
        prog="scripts/bench", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES
    )
    benches = parser.add_subparsers(metavar="BENCH", required=True)
    bench = benches.add_parser(
        "passive",
        help="watching TCP sessions: what is seen, what it costs",
        description=passive.__doc__.partition(": ")[2] if passive.__doc__ else "",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
    )
    bench.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    bench.add_argument("--quick", action="store_true", help="small loads; judge only what is counted")
    return parser.parse_args()


def _passive(given: argparse.Namespace) -> list[str]:
    """Measure passive capture; returns the targets that are missed."""
    _require_machine()
    net.sweep()
    began, told = time.monotonic(), machine.describe()
    outcome = _measure(quick=given.quick)
    told["seconds"] = round(time.monotonic() - began, 1)
    lacking = missed(passive.FIGURES, outcome.cells, judged=passive.JUDGED, quick=given.quick)
    _print(outcome, told, lacking, quick=given.quick)
    if given.json:
        given.json.write_bytes(_json(outcome, told, lacking, quick=given.quick))
    return lacking


def _require_machine() -> None:
    if os.geteuid() != 0:
        raise NeedsError("this needs root (network namespaces, eBPF)", remedy="sudo scripts/bench passive")
    if not machine.BTF.exists():
        raise NeedsError(f"there is no {machine.BTF}", remedy="boot a kernel with CONFIG_DEBUG_INFO_BTF=y")


def _measure(*, quick: bool) -> passive.Outcome:
    plan = (passive.quick if quick else passive.full)(max(2, os.cpu_count() or 2))
    with tempfile.TemporaryDirectory(prefix="pgb-") as folder:
        rig = Rig(storm=build_storm(Path(folder)), folder=Path(folder))
        return passive.run(plan, rig, _say)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(outcome: passive.Outcome, told: dict[str, Any], lacking: list[str], *, quick: bool) -> None:
    words = ", ".join(f"{name} {value}" for name, value in told.items())
    print(f"\n{words}\n")
    print(table(passive.FIGURES, outcome.cells, passive.HEADINGS, judged=passive.JUDGED, quick=quick))
    print("\nratios: median (least..greatest) of pairs; 'no agent': how far its own runs lie apart")
    for line in notes(outcome.cells, passive.HEADINGS):
        print(line)
    for kind, programs in outcome.programs.items():
        if programs:
            print(f"\neBPF of {passive.HEADINGS[kind]}, per connection")
            print(program_lines(programs, outcome.connections))
    print(f"\nMISSED: {'; '.join(lacking)}" if lacking else "\nAll judged targets are met.")


def _json(outcome: passive.Outcome, told: dict[str, Any], lacking: list[str], *, quick: bool) -> bytes:
    targets = {figure.key: figure.target for figure in passive.FIGURES if figure.target}
    report = {
        "bench": "passive",
        "quick": quick,
        "machine": told,
        "figures": outcome.cells,
        "programs": {
            kind: {hook: runs._asdict() for hook, runs in found.items()}
            for kind, found in outcome.programs.items()
        },
        "connections": outcome.connections,
        "targets": {key: target._asdict() for key, target in targets.items()},
        "missed": lacking,
    }
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


if __name__ == "__main__":
    main()
