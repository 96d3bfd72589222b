"""Machines to try packages on: containers (systemd-nspawn) that boot a root's own systemd.

Nothing in them reaches anything but each other: each has a network namespace, joined by one bridge.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from pack.errors import CommandError, PackError
from pack.package import Release
from pack.programs import CLEAN, require, run
from pack.roots import base, copy_of

BOOT_S: Final = 60.0
END_S: Final = 20.0
POLL_S: Final = 0.2
PREFIX: Final = "192.0.2."  # TEST-NET-1 (RFC 5737)
CGROUP: Final = Path("/sys/fs/cgroup")
ONE_TREE_FROM: Final = 13
"""Release whose systemd wants cgroups in one tree (v2)."""
GIVEN: Final = ("CAP_BPF", "CAP_PERFMON", "CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_SYS_NICE")
"""Capabilities of a machine that nspawn does not give by itself."""


class Machine:
    """One booted container."""

    def __init__(self, name: str, root: Path, address: str, leader: int) -> None:
        self.name = name
        self.root = root
        self.address = address
        self.leader = leader  # its process 1, as this machine counts

    def run(self, *command: str, timeout_s: float = 300.0) -> str:
        """Run a program in it, as root. Raises ``CommandError``."""
        return run(*self.entered(), *command, environment=CLEAN, timeout_s=timeout_s)

    def tried(self, *command: str) -> tuple[bool, str]:
        """Run a program in it; whether it ended with 0, and its last line or that of the error."""
        try:
            said = self.run(*command)
        except CommandError as error:
            return False, str(error).splitlines()[-1]
        return True, (said.strip().splitlines() or [""])[-1]

    def entered(self) -> list[str]:
        """Words in front of a program that is to run in it."""
        namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        return ["nsenter", "--target", str(self.leader), *namespaces, "--"]

    def main_pid(self, unit: str) -> int:
        """Give the number of a unit's process as the machine counts; raises ``PackError`` if it has none."""
        pid = int(self.run("systemctl", "show", "--property=MainPID", "--value", unit).strip() or 0)
        if not pid:
            raise PackError(f"{self.name}: {unit} does not run", remedy="\n".join(self.log(unit)))
        return pid

    def outer_pid(self, pid: int) -> int:
        """Give the number that this machine knows a process by; raises ``PackError`` where it is gone."""
        here = (Path("/proc") / str(self.leader) / "ns/pid").readlink()
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                known = re.search(r"^NSpid:.*\s(\d+)$", status.read_text(), re.MULTILINE)
                same = (status.parent / "ns/pid").readlink() == here
                if same and known is not None and int(known[1]) == pid:
                    return int(status.parent.name)
        raise PackError(f"{self.name}: process {pid} is gone")

    def log(self, unit: str, lines: int = 20) -> list[str]:
        """Give the last lines of a unit's log."""
        return self.run(
            "journalctl", "--unit", unit, "-n", str(lines), "-o", "cat", "--no-pager"
        ).splitlines()


@contextlib.contextmanager
def machines(names: Sequence[str], release: Release, *, more: Sequence[str] = ()) -> Iterator[list[Machine]]:
    """Boot machines that see each other and nothing else; all of it is gone at the end.

    ``more``: packages of Debian's that they have besides the base root's, from the mirror.
    """
    require("systemd-nspawn", "ip", "nsenter")
    own = f"pgd{os.getpid()}"
    with contextlib.ExitStack() as opened:
        hub = _namespace(f"{own}-hub", opened)
        run("ip", "-n", hub, "link", "add", "hub", "type", "bridge")
        run("ip", "-n", hub, "link", "set", "hub", "up")
        made = []
        for number, name in enumerate(names, start=1):
            address = f"{PREFIX}{number}"
            network = _joined(f"{own}-{name}", hub, number, address, opened)
            root = opened.enter_context(copy_of(base(release), name))
            _add(root, more)
            (root / "etc/hostname").write_text(f"{name}\n")
            (root / "etc/machine-id").write_text("")
            # Thrown away in minutes: no need for dpkg to wait for the disk after each file.
            (root / "etc/dpkg/dpkg.cfg.d/pathgrade-try").write_text("force-unsafe-io\n")
            made.append(opened.enter_context(_booted(name, root, network, address, release)))
        yield made


def _add(root: Path, packages: Sequence[str]) -> None:
    """Install packages of Debian's before it boots, by this machine's network."""
    if packages:
        shutil.copy2("/etc/resolv.conf", root / "etc/resolv.conf")
        for command in (("update",), ("install", "-y", "--no-install-recommends", *packages)):
            run("chroot", root, "apt-get", "-qq", *command, environment=CLEAN)


def _namespace(name: str, opened: contextlib.ExitStack) -> str:
    run("ip", "netns", "add", name)
    opened.callback(run, "ip", "netns", "delete", name)
    run("ip", "-n", name, "link", "set", "lo", "up")
    return name


def _joined(name: str, hub: str, number: int, address: str, opened: contextlib.ExitStack) -> str:
    """Make a network namespace with a cable to the hub."""
    _namespace(name, opened)
    port = f"port{number}"
    run("ip", "-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "-n", hub, "link", "set", port, "master", "hub", "up")
    run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
    run("ip", "-n", name, "link", "set", "eth0", "up")
    return name


@contextlib.contextmanager
def _booted(name: str, root: Path, network: str, address: str, release: Release) -> Iterator[Machine]:
    log_path = root.parent / "boot.log"
    with log_path.open("wb") as log:
        nspawn = _started(name, root, network, release, log)
        try:
            leader = _leader_of(nspawn, log_path)
            machine = Machine(name, root, address, leader)
            _wait_up(machine)
            yield machine
        finally:
            _end(nspawn)


def _started(
    name: str, root: Path, network: str, release: Release, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    command = [
        "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe",
        f"--directory={root}", f"--machine=pathgrade-{name}-{os.getpid()}", f"--hostname={name}",
        f"--network-namespace-path=/run/netns/{network}",
        f"--capability={','.join(GIVEN)}", "--system-call-filter=bpf perf_event_open",
    ]  # fmt: skip  # options beside their values
    environment = dict(os.environ)
    if release.number >= ONE_TREE_FROM and not (CGROUP / "cgroup.controllers").exists():
        # This machine mixes v1 and v2; such a release boots in a tree of its own, where no limit is counted.
        command = ["unshare", "--mount", "sh", "-c", 'mount -t cgroup2 cgroup2 "$1" && shift && exec "$@"',
                   "sh", str(CGROUP), *command]  # fmt: skip
        environment["UNIFIED_CGROUP_HIERARCHY"] = environment["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def _leader_of(nspawn: subprocess.Popen[bytes], log: Path) -> int:
    """Find the process that is number 1 in the container."""
    until_s = time.monotonic() + BOOT_S
    children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
    while time.monotonic() < until_s and nspawn.poll() is None:
        for word in children.read_text().split():
            if Path(f"/proc/{word}/comm").read_text().strip() == "systemd":
                return int(word)
        time.sleep(POLL_S)
    raise PackError(f"boot {log.parent.name}: {log.read_text(errors='replace')[-500:] or 'no systemd in it'}")


def _wait_up(machine: Machine) -> None:
    until_s = time.monotonic() + BOOT_S
    while True:
        up, said = machine.tried("systemctl", "is-system-running")
        if up or said in ("running", "degraded"):
            return
        if time.monotonic() > until_s:
            raise PackError(f"boot {machine.name}: systemd says {said!r} after {BOOT_S:.0f} s")
        time.sleep(POLL_S)


def _end(nspawn: subprocess.Popen[bytes]) -> None:
    """Have it power off; one that does not in time is killed with all that is in it."""
    if nspawn.poll() is None:
        nspawn.send_signal(signal.SIGTERM)
    try:
        nspawn.wait(END_S)
    except subprocess.TimeoutExpired:
        nspawn.kill()
        nspawn.wait()
