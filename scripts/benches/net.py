"""The bench's own network namespaces: made for one run of a load, and gone after it.

Each load has a fresh one, so that none meets ports that another left in TIME_WAIT. Names carry the pid: by it
the next bench knows what a killed one left, and removes it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benches.errors import CommandError

PREFIX: Final = "pgb"
NETNS: Final = Path("/run/netns")
PORTS: Final = "1024 65535"
"""As many as there are: a storm of 50,000 connections to one port uses each once."""
COMMAND_S: Final = 60

_numbers = itertools.count()


@contextmanager
def namespace() -> Iterator[str]:
    """Make a namespace with loopback only; removed at the end. Raises ``CommandError``."""
    name = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
    run(["ip", "netns", "add", name])
    try:
        run(["ip", "-n", name, "link", "set", "lo", "up"])
        run(inside(name, ["sysctl", "-qw", f"net.ipv4.ip_local_port_range={PORTS}"]))
        yield name
    finally:
        run(["ip", "netns", "delete", name])


def sweep() -> None:
    """Remove the namespaces of benches that are no more."""
    for path in NETNS.glob(f"{PREFIX}-*-*") if NETNS.is_dir() else ():
        pid = path.name.split("-")[1]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            run(["ip", "netns", "delete", path.name])


def inside(name: str, command: Sequence[object]) -> list[str]:
    """Give the command line that runs ``command`` in a namespace, not outliving this process."""
    return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={NETNS / name}", "--", *map(str, command)]


def run(
    command: Sequence[str],
    *,
    stdin: str = "",
    within_s: float = COMMAND_S,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run a command to its good end; returns what it printed. Raises ``CommandError`` with what it said."""
    env = {**os.environ, **(variables or {})}
    try:
        done = subprocess.run(
            command, input=stdin, env=env, capture_output=True, text=True, timeout=within_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{' '.join(command)}: {error}", remedy="scripts/setup --bench") from error
    if done.returncode:
        said = done.stderr.strip() or f"exit {done.returncode}"
        raise CommandError(f"{' '.join(command)}: {said}", remedy="run it by hand")
    return done.stdout
