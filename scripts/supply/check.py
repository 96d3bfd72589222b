"""READ FIRST for ``scripts/check``: what can be said of the code, and of what it is made of, unrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supply import locks, sbom

PACKAGES: Final = ("lab", "benches", "faults", "fuzzing", "supply", "pack")
TOOLS: Final = Path(sys.executable).parent
STATIC: Final[tuple[tuple[str, ...], ...]] = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("mypy", *(word for name in PACKAGES for word in ("--package", name))),
    ("lint-imports", "--no-logo"),
)
AUDIT_S: Final = 120
"""For the advisory service to answer about everything."""
LISTED: Final = ("GPL-2.0-only", "MPL-2.0")
"""Licences that ask for more than a notice: named with the packages that have them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one part."""

    said: str
    good: bool | None = True  # None: could not be found out here


def static() -> Verdict:
    """Style, types and import rules, as CI runs them."""
    folders = (locks.ROOT / "scripts", locks.ROOT / "scripts/packaging")
    environment = os.environ | {"MYPYPATH": ":".join(map(str, folders))}
    for command in STATIC:
        program = str(TOOLS / command[0])
        if subprocess.run([program, *command[1:]], cwd=locks.ROOT, env=environment, check=False).returncode:
            return Verdict(f"{' '.join(command)} found faults", good=False)
    return Verdict("style, types and import rules hold")


def lock() -> Verdict:
    """Whether the locks are of pyproject.toml's dependencies."""
    faults = locks.stale(locks.project())
    return Verdict(
        "; ".join(faults) + ": scripts/lock" if faults else "of pyproject.toml's dependencies", not faults
    )


def bill() -> Verdict:
    """Whether the bill of materials is of the locked packages."""
    faults = sbom.faults()
    return Verdict("; ".join(faults) + ": scripts/sbom" if faults else "of the locked packages", not faults)


def licences() -> Verdict:
    """Which licences there are; every component must have one."""
    bom = json.loads(sbom.SBOM.read_text())
    found = sbom.licences(bom)
    if "" in found:
        return Verdict(f"without a licence: {', '.join(found[''])}", good=False)
    listed = "; ".join(f"{licence}: {', '.join(found[licence])}" for licence in LISTED if licence in found)
    return Verdict(f"{sbom.counted(bom)} ({listed})")


def advisories() -> Verdict:
    """Known vulnerabilities of the locked packages; not run where nobody can be asked."""
    command = [
        str(TOOLS / "pip-audit"),
        "-r",
        str(locks.LOCKS / f"{locks.RUN}.txt"),
        "--no-deps",
        "--disable-pip",
    ]
    command += ["--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Verdict(str(error), good=None)
    return read_audit(done.stdout, done.stderr)


def read_audit(told: str, said: str) -> Verdict:
    """Judge pip-audit's answer. Pure."""
    try:
        packages: list[Mapping[str, Any]] = json.loads(told)["dependencies"]
    except (ValueError, KeyError, TypeError):
        why = said.strip().rpartition("\n")[2][:150]
        return Verdict(f"the advisory service cannot be asked: {why}", good=None)
    hurt = [_hurt(one) for one in packages if one.get("vulns")]
    if hurt:
        return Verdict("; ".join(hurt), good=False)
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    if skipped:
        known = f"the advisory service knows nothing of {len(skipped)} of {len(packages)} packages"
        return Verdict(known, good=None)
    return Verdict(f"none known of {len(packages)} packages")


def _hurt(package: Mapping[str, Any]) -> str:
    return f"{package['name']} {package['version']}: {', '.join(one['id'] for one in package['vulns'])}"


STATES: Final = {True: "ok", False: "FAULT", None: "not run"}
PARTS: Final[dict[str, Callable[[], Verdict]]] = {
    "static": static,
    "locks": lock,
    "sbom": bill,
    "licences": licences,
    "advisories": advisories,
}


def main(arguments: Sequence[str]) -> int:
    """Run the parts that are named, or all; gives the exit status."""
    if unknown := [name for name in arguments if name not in PARTS]:
        print(f"error: no part is called {unknown[0]!r}; there are: {' '.join(PARTS)}", file=sys.stderr)
        return os.EX_USAGE
    verdicts = {name: PARTS[name]() for name in arguments or PARTS}
    for name, verdict in verdicts.items():
        print(f"{name:10}  {STATES[verdict.good]:7}  {verdict.said}")
    return 0 if all(verdict.good is not False for verdict in verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
