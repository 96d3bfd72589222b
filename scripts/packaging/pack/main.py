"""READ FIRST for ``scripts/packaging/build``: makes the wheel, or Debian packages."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from pack import deb, wheels
from pack.errors import PackError
from pack.package import PACKAGES, RELEASES


def main() -> NoReturn:
    """Run the command; a known error is one line and what to try."""
    given = _parser().parse_args()
    try:
        for path in _COMMANDS[given.what](given):
            print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    except PackError as error:
        say(error)
        sys.exit(error.exit_code)
    sys.exit(0)


def say(error: PackError) -> None:
    """Print what went wrong and what to try."""
    print(f"error: {error}", file=sys.stderr)
    if error.remedy:
        print(f"  try: {error.remedy}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/packaging/build", description="Makes packages.")
    parser.add_argument("what", choices=sorted(_COMMANDS), help="what to make")
    parser.add_argument("--release", choices=[*RELEASES], action="append", help="of a deb [default: both]")
    parser.add_argument("--part", choices=[*PACKAGES], action="append", help="of a deb [default: both]")
    parser.add_argument("--version", help="another version than pyproject.toml's, to try an upgrade")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder [default: dist]")
    return parser


def _wheel(given: argparse.Namespace) -> list[Path]:
    return [wheels.own(given.out, version=given.version)]


def _deb(given: argparse.Namespace) -> list[Path]:
    wheel = wheels.own(given.out, version=given.version)
    return [
        wheel,
        *(
            deb.build(part, RELEASES[release], given.out, wheel=wheel)
            for release in given.release or RELEASES
            for part in given.part or PACKAGES
        ),
    ]


_COMMANDS = {"wheel": _wheel, "deb": _deb}


if __name__ == "__main__":
    main()
