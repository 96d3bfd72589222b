"""Hash-locked dependencies: ``scripts/lock`` writes ``scripts/locks``, and setup installs from there.

One resolution of everything, so that all files agree; then a file for what a host runs (``run``), one for
what builds the package (``build``), and one for each extra of pyproject.toml with what it needs besides. Each
names at its top the digest of the dependencies that it was made from, so that a test can say when it is
stale, without a resolver.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
LOCKS: Final = ROOT / "scripts" / "locks"
RUN, BUILD = "run", "build"
EDITABLE: Final = "editables>=0.5"
"""What hatchling asks for besides where the package is installed as it lies here."""
PYTHON: Final = "3.11"
"""The oldest one that is supported; the locks hold for it and all later ones."""

EX_DATAERR: Final = 65  # sysexits.h

_NAME: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)")
_DIGEST: Final = re.compile(r"^# dependencies: sha256:([0-9a-f]{64})$", re.MULTILINE)
_HEAD: Final = """\
# Written by scripts/lock; do not edit. {about}
# dependencies: sha256:{digest}
"""


def declared(project: Mapping[str, Any]) -> dict[str, list[str]]:
    """List what pyproject.toml asks for, by lock file."""
    named = {extra: list(wanted) for extra, wanted in project["project"]["optional-dependencies"].items()}
    return {
        RUN: list(project["project"]["dependencies"]),
        BUILD: [*project["build-system"]["requires"], EDITABLE],
    } | named


def digest_of(wanted: Mapping[str, Sequence[str]]) -> str:
    """Name everything that is asked for: another word of it is another digest."""
    return hashlib.sha256(
        json.dumps({key: sorted(wanted[key]) for key in sorted(wanted)}).encode()
    ).hexdigest()


def digest_in(lock: str) -> str:
    """Read the digest that a lock file was made from; empty where it names none."""
    found = _DIGEST.search(lock)
    return found[1] if found else ""


def blocks(lock: str) -> dict[str, list[str]]:
    """Take a lock apart: each package's requirement with its hashes, by name; several by marker."""
    found: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=\S)", lock.strip()):
        name = _NAME.match(block)
        if name:
            found.setdefault(normal(name[1]), []).append(block)
    return found


def normal(name: str) -> str:
    """Write a package's name as PEP 503 does."""
    return re.sub(r"[-_.]+", "-", name).lower()


def written(key: str, names: Sequence[str], whole: Mapping[str, Sequence[str]], digest: str) -> str:
    """Lay out one lock file: these packages, as the whole resolution has them."""
    about = {RUN: "What a host runs.", BUILD: "What builds the package."}.get(
        key, f"What the extra {key!r} needs besides."
    )
    lines = [block for name in sorted(names) for block in whole[name]]
    return _HEAD.format(about=about, digest=digest) + "\n".join(lines) + "\n"


def resolve(uv: str, wanted: Sequence[str], *arguments: str) -> str:
    """Have uv choose versions for every platform and Python; raises ``CalledProcessError``."""
    command = [uv, "pip", "compile", "-", "--universal", "--python-version", PYTHON, *arguments]
    command += ["--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
    return subprocess.run(command, input="\n".join(wanted), text=True, capture_output=True, check=True).stdout


def made(uv: str, wanted: Mapping[str, Sequence[str]], work: Path, *, upgrade: bool) -> dict[str, str]:
    """Make every lock file's text. What was locked before stays where it still fits, unless ``upgrade``."""
    before, chosen = work / "before.txt", work / "chosen.txt"
    before.write_text("\n".join(path.read_text() for path in sorted(LOCKS.glob("*.txt"))))
    kept = ["--upgrade"] if upgrade else []
    resolve(uv, [one for key in wanted for one in wanted[key]], *kept, "--output-file", str(before))
    whole = blocks(before.read_text())
    chosen.write_text("\n".join(block.partition(" \\")[0] for found in whole.values() for block in found))
    of = {key: blocks(resolve(uv, asked, "--constraints", str(chosen))) for key, asked in wanted.items()}
    digest = digest_of(wanted)
    besides = {key: set(own) - (set() if key in (RUN, BUILD) else set(of[RUN])) for key, own in of.items()}
    return {key: written(key, sorted(besides[key]), whole, digest) for key in wanted}


def stale(project: Mapping[str, Any], folder: Path = LOCKS) -> list[str]:
    """Say what is wrong with the locks: missing, or made from other dependencies."""
    wanted = declared(project)
    digest = digest_of(wanted)
    faults = []
    for key in wanted:
        path = folder / f"{key}.txt"
        if not path.exists() or digest_in(path.read_text()) != digest:
            faults.append(f"scripts/locks/{key}.txt is not of pyproject.toml's dependencies")
    return faults


def project() -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def main(arguments: Sequence[str]) -> int:
    """Write the locks; with --check, only say whether they are stale."""
    if "--check" in arguments:
        faults = stale(project())
        for fault in faults:
            print(f"error: {fault}\n  try: scripts/lock", file=sys.stderr)
        return EX_DATAERR if faults else 0
    uv = str(Path(sys.executable).with_name("uv"))
    try:
        with tempfile.TemporaryDirectory() as work:
            texts = made(uv, declared(project()), Path(work), upgrade="--upgrade" in arguments)
    except subprocess.CalledProcessError as error:
        print(f"error: the dependencies cannot be resolved:\n{error.stderr}", file=sys.stderr)
        return 1
    for key, text in texts.items():
        (LOCKS / f"{key}.txt").write_text(text)
        print(f"scripts/locks/{key}.txt: {len(blocks(text))} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
