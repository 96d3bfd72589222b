"""READ FIRST for ``scripts/chaos``: faults and abuse on real parts, in one table; or the soak."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import msgspec
from benches import machine, net
from benches.errors import BenchError, NeedsError

from faults import soak

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
    parser.add_argument("names", nargs="*", metavar="NAME", help="soak")
    parser.add_argument("--agents", type=int, default=50, metavar="N", help="of the soak (50)")
    parser.add_argument("--minutes", type=float, default=60, metavar="N", help="of the soak (60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    return parser.parse_args()


def _run(given: argparse.Namespace) -> list[str]:
    if os.geteuid() != 0:
        raise NeedsError("this needs root (network namespaces, eBPF)", remedy="sudo scripts/chaos")
    net.sweep()
    with tempfile.TemporaryDirectory(prefix="pgb-") as folder:
        return _soak(given, Path(folder))


def _soak(given: argparse.Namespace, folder: Path) -> list[str]:
    told = machine.describe()
    soaked = soak.soak(folder, agents=max(LEAST_AGENTS, given.agents), minutes=given.minutes, say=_say)
    _keep(given.json, {"machine": told, **soak.as_json(soaked)})
    print("\n".join(soak.lines(soaked)))
    return soaked.missed()


def _keep(path: Path | None, content: dict[str, Any]) -> None:
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
