"""Wheels: pathgrade's own, and those of its libraries for one Python, fetched by this machine's pip."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pack.errors import PackError
from pack.package import Release
from pack.programs import run
from pack.requirements import renumbered
from pack.roots import CACHE

ROOT: Final = Path(__file__).resolve().parents[3]
LOCK: Final = ROOT / "scripts/locks/run.txt"
PARTS: Final = ("agent", "analytics", "ebpf", "server")
SOURCES: Final = (*PARTS, "pathgrade.py", "pyproject.toml", "README.md", "LICENSE")
GLIBC_MINORS: Final = (36, 34, 31, 28, 27, 26, 24, 17, 12, 5)
PLATFORMS: Final = (
    *(f"manylinux_2_{minor}_x86_64" for minor in GLIBC_MINORS),
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
)
"""What runs on Debian 12's C library (2.36)."""
NEVER: Final = shutil.ignore_patterns("__pycache__", "*.pyc", "*.tmp", "*.egg-info")


def own(out: Path, *, version: str | None = None) -> Path:
    """Build pathgrade's wheel into ``out``; another ``version`` than its own for a trial of an upgrade."""
    with tempfile.TemporaryDirectory(prefix="pathgrade-wheel-") as made:
        source = Path(made) / "source"
        source.mkdir()
        for name in SOURCES:
            _copy(ROOT / name, source / name)
        if version is not None:
            told = source / "pyproject.toml"
            told.write_text(renumbered(told.read_text(), version))
        built = Path(made) / "built"
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", built, source)
        wheels = list(built.glob("pathgrade-*.whl"))
        if len(wheels) != 1:
            raise PackError(f"build the wheel: pip left {len(wheels)} of them")
        if gone := absent(zipfile.ZipFile(wheels[0]).namelist(), source):
            raise PackError(f"build the wheel: it lacks {', '.join(gone[:3])} ({len(gone)} files)")
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy2(wheels[0], out))


def absent(names: Iterable[str], source: Path) -> list[str]:
    """List what of the sources is not in a wheel: templates, rules, programs in C, the licence."""
    there = set(names)
    packages = [path for part in PARTS for path in (source / part).rglob("*") if path.suffix != ".pyc"]
    wanted = {str(path.relative_to(source)) for path in packages if path.is_file()}
    licence = [] if any(name.endswith("licenses/LICENSE") for name in there) else ["LICENSE"]
    return licence + sorted(wanted - there)


def libraries(release: Release) -> Path:
    """Fetch the wheels that the lock names, each with its hash; kept for the next time."""
    version = "".join(map(str, release.python))
    folder = CACHE / f"wheels-{release.name}-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    if folder.exists():
        return folder
    making = folder.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)
    run(
        sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", making,
        "--no-deps", "--require-hashes", "--requirement", LOCK,
        "--implementation", "cp", "--python-version", version,
        "--abi", f"cp{version}", "--abi", "abi3", "--abi", "none",
        *(word for platform in PLATFORMS for word in ("--platform", platform)),
    )  # fmt: skip  # options beside their values
    making.rename(folder)
    return folder


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=NEVER)
    else:
        shutil.copy2(source, target)
