"""Roots of a Debian release: one made by debootstrap and kept, and throw-away copies of it (overlayfs)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pack.errors import PackError
from pack.package import Release
from pack.programs import CLEAN, require, run

CACHE: Final = Path(os.environ.get("PATHGRADE_PACKAGING_CACHE", "/var/cache/pathgrade-packaging"))
MIRROR: Final = os.environ.get("PATHGRADE_DEBIAN_MIRROR", "http://deb.debian.org/debian")
INCLUDED: Final = (
    "ca-certificates",
    "dbus",
    "init-system-helpers",
    "iproute2",
    "procps",
    "python3",
    "python3-bpfcc",
    "python3-venv",
    "systemd",
    "systemd-sysv",
)
"""In the base root besides minbase: what the packages depend on, so that they install without a network, and
what a root needs to boot and to build in."""


def base(release: Release) -> Path:
    """Give the base root of a release, made at the first time (two minutes). Raises ``PackError``."""
    require("debootstrap")
    if os.geteuid() != 0:
        raise PackError("make a root: needs root", remedy="sudo, in front of the same command")
    root = CACHE / f"base-{release.name}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with _locked(CACHE / f"base-{release.name}.lock"):
        if not root.exists():
            making = root.with_suffix(".making")
            shutil.rmtree(making, ignore_errors=True)
            included = ",".join(INCLUDED)
            run("debootstrap", "--variant=minbase", f"--include={included}", release.name, making, MIRROR)
            making.rename(root)
    return root


@contextlib.contextmanager
def copy_of(root: Path, name: str) -> Iterator[Path]:
    """Give a copy that can be written, gone at the end; ``root`` stays as it is. Raises ``PackError``."""
    folder = Path(tempfile.mkdtemp(prefix=f"pathgrade-{name}-"))
    upper, work, merged = folder / "upper", folder / "work", folder / "root"
    for made in (upper, work, merged):
        made.mkdir()
    layers = f"lowerdir={root},upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "overlay", "-o", layers, merged)
    try:
        yield merged
    finally:
        run("umount", "--recursive", merged)
        shutil.rmtree(folder)


@contextlib.contextmanager
def bound(source: Path, target: Path) -> Iterator[None]:
    """Show a folder of this machine inside a root, read-only."""
    target.mkdir(parents=True, exist_ok=True)
    run("mount", "--bind", source, target)
    try:
        run("mount", "-o", "remount,bind,ro", target)
        yield
    finally:
        run("umount", target)


def inside(root: Path, *command: str, timeout_s: float = 1_200.0) -> str:
    """Run a program in a root, without a network. Raises ``CommandError``."""
    apart = ("unshare", "--net", "--mount", "chroot", root)
    return run(*apart, *command, environment=CLEAN, timeout_s=timeout_s)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
