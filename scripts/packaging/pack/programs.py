"""Programs of the system: run, and their last words told where they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pack.errors import CommandError, ToolMissingError

LAST_LINES: Final = 15
PACKAGE_OF: Final = {
    "debootstrap": "debootstrap",
    "dpkg-deb": "dpkg",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "ansible-playbook": "ansible-core",
    "ssh-keygen": "openssh-client",
}
CLEAN: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
"""Environment inside a root: nothing of this machine's comes along."""


def require(*names: str) -> None:
    """Raise ``ToolMissingError`` for the first program that is not on the path."""
    for name in names:
        if shutil.which(name) is None:
            package = PACKAGE_OF.get(name, name)
            raise ToolMissingError(f"{name} is not installed", remedy=f"apt install {package}")


def run(
    *command: str | Path,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
    timeout_s: float = 1_200.0,
) -> str:
    """Run a program; returns what it printed. Raises ``CommandError`` with its last lines."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=environment if environment is not None else dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{_short(words)}: not done after {timeout_s:.0f} s") from error
    if done.returncode:
        said = "\n".join(done.stdout.splitlines()[-LAST_LINES:])
        raise CommandError(f"{_short(words)}: exit {done.returncode}\n{said}")
    return done.stdout


def _short(words: Sequence[str]) -> str:
    said = " ".join(words)
    return said if len(said) <= 200 else f"{said[:200]} ..."
