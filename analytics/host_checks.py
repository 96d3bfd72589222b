"""What a checkup asks of any host: free space, who may read a file, whether its clock is kept."""

from __future__ import annotations

import ctypes
import os
import platform
import stat
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from analytics import words
from analytics.checkup import Found, State, look, ok, wrong

LITTLE: Final = 1_000_000_000
TOO_LITTLE: Final = 100_000_000
"""Bytes free."""

FOR_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
TIME_ERROR: Final = 5
"""What adjtimex(2) returns where the clock is not synchronised."""
TIMEX_BYTES: Final = 512  # struct timex is 208 long on 64-bit Linux

CLOCK_OFF_S: Final = 2.0
CLOCK_WRONG_S: Final = 300.0


def versions(*packages: str) -> Found:
    """Say which kernel, Python, pathgrade and libraries these are."""
    known = ", ".join(f"{name} {version_of(name)}" for name in ("pathgrade", *packages))
    return ok(f"{known}; Python {platform.python_version()}, Linux {platform.release()}")


def version_of(package: str) -> str:
    """The version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def free_space(folder: Path) -> Found:
    """Say how much room there is where a folder is, or will be."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    found = os.statvfs(there)
    free = found.f_bavail * found.f_frsize
    percent = 100 * found.f_bavail // max(1, found.f_blocks)
    seen = f"{words.size(free)} free at {there} ({percent} %)"
    if free < TOO_LITTLE or not found.f_favail:
        return wrong(seen, "free some: what cannot be written is refused, and agents keep it until then")
    return (
        ok(seen) if free >= LITTLE else look(seen, "free some, or keep less: keep_readings_days and others")
    )


def private(files: Iterable[Path]) -> Found:
    """Say whether nobody but its owner can read any of these; those that are not there are left out."""
    there = [(path, stat.S_IMODE(path.stat().st_mode)) for path in files if path.exists()]
    open_ = [(path, mode) for path, mode in there if mode & FOR_OTHERS]
    if open_:
        return wrong(
            ", ".join(f"{path} has mode {mode:04o}" for path, mode in open_),
            f"chmod 600 {' '.join(str(path) for path, _ in open_)}",
        )
    named = ", ".join(path.name for path, _ in there)
    return ok(f"for their owner only: {named}") if there else ok("none yet")


def clock_kept() -> Found:
    """Ask the kernel whether anything keeps its clock right (adjtimex(2))."""
    buffer = ctypes.create_string_buffer(TIMEX_BYTES)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if state != TIME_ERROR:
        return ok("synchronised")
    return look(
        "nothing synchronises it (in a container or a virtual machine the host may)",
        "timedatectl set-ntp true, or install chrony: one-way delays need clocks that agree",
    )


def clock_beside(date: str | None, sent_s: float, received_s: float) -> Found:
    """Compare this host's clock with an HTTP Date (RFC 9110, section 6.6.1), which is a whole second.

    ``sent_s`` and ``received_s``: when the question left and the answer came, s since 1970 by this clock.
    """
    if date is None:
        return look("the server does not say how late it is", "ask it directly, not through a proxy")
    off_s = clock_off_s(parsedate_to_datetime(date).timestamp(), sent_s, received_s)
    seen = "agrees with the server's" if not off_s else f"{abs(off_s):.0f} s {_side(off_s)} the server's"
    remedy = "set the clock that is wrong: timedatectl set-ntp true"
    state = State.OK if abs(off_s) < CLOCK_OFF_S else State.LOOK
    return Found(State.WRONG if abs(off_s) >= CLOCK_WRONG_S else state, seen, remedy)


def clock_off_s(server_s: float, sent_s: float, received_s: float) -> float:
    """Tell by how many seconds this clock is certainly ahead of the server's; negative: behind.

    The server made its answer between the two moments, in the second that ``server_s`` begins.
    """
    return max(0.0, sent_s - (server_s + 1)) or min(0.0, received_s - server_s)


def _side(off_s: float) -> str:
    return "ahead of" if off_s > 0 else "behind"
