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

from benches import (
    accuracy,
    alert,
    crash,
    detect,
    ingest,
    legs,
    machine,
    mesh,
    net,
    pacs,
    passive,
    rank,
    tomography,
    web,
)
from benches.bench import Bench, Report
from benches.errors import BenchError, NeedsError
from benches.figures import missed, notes, table

BENCHES: Final = {
    bench.name: bench
    for bench in (
        passive.BENCH,
        accuracy.BENCH,
        mesh.BENCH,
        legs.BENCH,
        detect.BENCH,
        rank.BENCH,
        ingest.BENCH,
        crash.BENCH,
        pacs.BENCH,
        tomography.BENCH,
        web.BENCH,
        alert.BENCH,
    )
}
EXIT_MISSED: Final = 1
LEAST_AGENTS: Final = 3
EXIT_INTERRUPTED: Final = 130
EXAMPLES: Final = """examples:
  scripts/bench passive                     the table; exit 1 if a target is missed
  scripts/bench passive --json bench.json   and all figures as JSON, for a comparison later
  scripts/bench mesh --agents 30            a smaller fleet than the hundred
  scripts/bench pacs --cells "0 % loss"     only the links that lose nothing
  scripts/bench accuracy --quick            does it all work here? times mean nothing, only counts are judged
"""


def main() -> NoReturn:
    """Run a bench; whatever happens, leave nothing behind."""
    given = _arguments()
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, _interrupt)
    try:
        sys.exit(EXIT_MISSED if _run(BENCHES[given.bench], given) else 0)
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
    benches = parser.add_subparsers(metavar="BENCH", dest="bench", required=True)
    for bench in BENCHES.values():
        _add(
            benches.add_parser(
                bench.name,
                help=bench.words,
                description=bench.description,
                formatter_class=argparse.RawDescriptionHelpFormatter,
                epilog=EXAMPLES,
            ),
            bench,
        )
    return parser.parse_args()


def _add(parser: argparse.ArgumentParser, bench: Bench) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    parser.add_argument("--quick", action="store_true", help="small loads; judge only what is counted")
    if bench.resized:
        parser.add_argument("--agents", type=int, metavar="N", help="so many agents (at least 3)")
    if bench.chosen:
        parser.add_argument("--cells", metavar="WORDS", help='only cells with these words, as "20 ms, 100"')


def _run(bench: Bench, given: argparse.Namespace) -> list[str]:
    """Measure; returns the targets that are missed."""
    if os.geteuid() != 0:
        raise NeedsError(
            "this needs root (network namespaces, eBPF)", remedy=f"sudo scripts/bench {bench.name}"
        )
    if bench.resized and given.agents:
        bench = bench.resized(max(LEAST_AGENTS, given.agents))
    if bench.chosen and given.cells:
        bench = bench.chosen(given.cells)
    bench.needs()
    net.sweep()
    began, told = time.monotonic(), machine.describe()
    with tempfile.TemporaryDirectory(prefix="pgb-") as folder:
        report = bench.measure(given.quick, Path(folder), _say)
    told["seconds"] = round(time.monotonic() - began, 1)
    lacking = missed(bench.figures, report.cells, judged=bench.judged, quick=given.quick)
    _print(bench, report, told, lacking, quick=given.quick)
    if given.json:
        given.json.write_bytes(_json(bench, report, told, lacking, quick=given.quick))
    return lacking


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(bench: Bench, report: Report, told: dict[str, Any], lacking: list[str], *, quick: bool) -> None:
    words = ", ".join(f"{name} {value}" for name, value in told.items())
    print(f"\n{words}\n")
    print(table(bench.figures, report.cells, bench.headings, judged=bench.judged, quick=quick))
    print()
    for line in [*notes(report.cells, bench.headings), *report.details]:
        print(line)
    print(f"\nMISSED: {'; '.join(lacking)}" if lacking else "\nAll judged targets are met.")


def _json(bench: Bench, report: Report, told: dict[str, Any], lacking: list[str], *, quick: bool) -> bytes:
    content = {
        "bench": bench.name,
        "quick": quick,
        "machine": told,
        "figures": report.cells,
        **report.more,
        "targets": {figure.key: figure.target._asdict() for figure in bench.figures if figure.target},
        "missed": lacking,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"


if __name__ == "__main__":
    main()
