"""READ FIRST for ``scripts/fuzz``: which targets, for how long, and a table of what came of it."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from fuzzing.targets import load, names

SECONDS: Final = 300
EXIT_CRASHED: Final = 1
EXIT_USAGE: Final = 64


def main(arguments: Sequence[str]) -> int:
    """Do what was asked for; gives the exit status."""
    asked = _parser().parse_args(arguments)
    chosen = asked.targets or names()
    if unknown := set(chosen) - set(names()):
        print(
            f"error: no target is called {', '.join(sorted(unknown))}.\n  try: scripts/fuzz --list",
            file=sys.stderr,
        )
        return EXIT_USAGE
    if asked.list:
        return _list(chosen)
    if asked.seeds:
        return _write_seeds(chosen)
    if asked.replay is not None:
        return _replay(chosen, asked.replay)
    return _fuzz(chosen, asked)


def _fuzz(chosen: Sequence[str], asked: argparse.Namespace) -> int:
    from fuzzing import campaign  # noqa: PLC0415  # what lists and replays needs no atheris

    seconds = asked.seconds or (None if asked.runs else SECONDS)
    limit = campaign.Limit(seconds=seconds, runs=asked.runs)

    def one(name: str) -> campaign.Outcome:
        outcome = campaign.run(load(name), limit)
        print(f"{name}: {outcome.executions:,} executions {outcome.why}", file=sys.stderr, flush=True)
        return outcome

    with ThreadPoolExecutor(asked.jobs) as pool:
        outcomes = list(pool.map(one, chosen))
    print(campaign.table(outcomes))
    if asked.json:
        asked.json.write_text(json.dumps([outcome.as_json() for outcome in outcomes], indent=1) + "\n")
    crashed = [outcome for outcome in outcomes if outcome.why]
    for outcome in crashed:
        print(
            f"{outcome.target}: {outcome.why}\n  try: scripts/fuzz {outcome.target} --replay {outcome.crash}"
        )
    return EXIT_CRASHED if crashed else 0


def _list(chosen: Sequence[str]) -> int:
    for name in chosen:
        target = load(name)
        print(f"{name:16} {target.about}")
    return 0


def _write_seeds(chosen: Sequence[str]) -> int:
    """Write real encodings anew, beside what else is kept. Signatures and keys differ from run to run."""
    for name in chosen:
        target = load(name)
        target.corpus.mkdir(parents=True, exist_ok=True)
        for old in target.corpus.glob("seed-*"):
            old.unlink()
        for number, seed in enumerate(target.seeds()):
            (target.corpus / f"seed-{number:02d}").write_bytes(seed)
    return 0


def _replay(chosen: Sequence[str], file: Path) -> int:
    """Feed one input, in plain Python, and show what it raises."""
    if len(chosen) != 1:
        print("error: --replay is of one target.\n  try: scripts/fuzz TARGET --replay FILE", file=sys.stderr)
        return EXIT_USAGE
    try:
        taken = load(chosen[0]).run(file.read_bytes())
    except Exception:  # whatever it is: that is the question
        traceback.print_exc(limit=-12)  # of one that nests too deep there are a thousand
        return EXIT_CRASHED
    print("taken" if taken else "refused with a declared error")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=float, help=f"for each target (default {SECONDS})")
    parser.add_argument(
        "--runs", type=int, help="executions of each target; with --seconds, what comes first"
    )
    parser.add_argument("--jobs", type=int, default=1, help="targets at once (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures as JSON, too")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="feed one input and show what it raises")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--seeds", action="store_true", help="write tests/fuzz/corpus/TARGET/seed-* anew")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
