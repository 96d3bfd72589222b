"""READ FIRST for ``scripts/packaging/try-ansible``: the role on two clean machines, twice.

The control host is this one: Ansible runs in the network of the machine "server", and reaches both by ssh.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Final, NoReturn

from pack import deb, wheels
from pack.errors import PackError
from pack.found import drawn
from pack.machines import Machine, machines
from pack.main import say
from pack.package import PACKAGES, RELEASES, Release
from pack.programs import require, run
from pack.requirements import version_of
from pack.trial import Trial, online, until

ROLE: Final = Path(__file__).resolve().parents[1] / "ansible"
NEEDED: Final = ("openssh-server", "python3-apt")
"""What a host needs for Ansible, besides Python."""
RUN_S: Final = 600.0
PERIOD_S: Final = 240
"""A setting of the server's that is not its default: it must arrive."""


def main() -> NoReturn:
    """Run the trial; the table is the result."""
    parser = argparse.ArgumentParser(prog="scripts/packaging/try-ansible", description="Tries the role.")
    parser.add_argument("release", choices=[*RELEASES])
    parser.add_argument("--debs", type=Path, help="folder of packages made already [default: make them]")
    given = parser.parse_args()
    try:
        good = _tried(RELEASES[given.release], given.debs)
    except PackError as error:
        say(error)
        sys.exit(error.exit_code)
    sys.exit(0 if good else 1)


def _tried(release: Release, debs: Path | None) -> bool:
    require("ansible-playbook", "ssh-keygen")
    with tempfile.TemporaryDirectory(prefix="pathgrade-ansible-") as made:
        folder = Path(made)
        if debs is None:
            debs = folder / "debs"
            wheel = wheels.own(debs)
            for part in PACKAGES:
                deb.build(part, release, debs, wheel=wheel, quick=True)
        with machines(("server", "clinic"), release, more=NEEDED) as (server, clinic):
            trial = Trial(server, clinic, debs)
            _run(trial, Control(folder, debs, server, clinic))
    print(f"\nthe Ansible role on {release.name}\n\n{drawn(trial.findings.rows)}")
    return trial.findings.all_ok


class Control:
    """The control host: a folder with key, inventory and variables, and how Ansible is run."""

    def __init__(self, folder: Path, debs: Path, server: Machine, clinic: Machine) -> None:
        self._folder = folder
        self._server = server
        key = folder / "key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        for machine in (server, clinic):
            _let_in(machine, key.with_suffix(".pub").read_text())
        (folder / "inventory").write_text(
            f"[pathgrade_servers]\nserver ansible_host={server.address}\n"
            f"[pathgrade_agents]\nserver\nclinic ansible_host={clinic.address}\n"
            "[all:vars]\nansible_user=root\nansible_python_interpreter=/usr/bin/python3\n"
            f"ansible_ssh_private_key_file={key}\n"
            "ansible_ssh_common_args=-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null\n"
            f"pathgrade_debs={debs.resolve()}\n"
            f"pathgrade_version={version_of((wheels.ROOT / 'pyproject.toml').read_text())}\n"
            f"pathgrade_url=https://{server.address}:8440\n"
            f"pathgrade_server_settings={{'period_s': {PERIOD_S}}}\n"
        )

    def play(self, token: str = "", limit: str = "all") -> dict[str, dict[str, int]]:
        """Run the playbook; what it counts for each host. Raises ``CommandError`` where a task failed."""
        variables = self._folder / "vault.yml"
        variables.touch(mode=0o600)
        variables.write_text(f"pathgrade_token: '{token}'\n")
        said = run(
            "nsenter", "--target", str(self._server.leader), "--net", "--",
            "ansible-playbook", "-i", self._folder / "inventory", ROLE / "site.yml",
            "-e", f"@{variables}", "--limit", limit,
            environment=dict(os.environ) | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCAL_TEMP": str(self._folder)},
            timeout_s=RUN_S,
        )  # fmt: skip  # options beside their values
        return counted(said)


def counted(said: str) -> dict[str, dict[str, int]]:
    """Read the recap: host -> what is counted -> how often."""
    lines = re.findall(r"^(\S+)\s+: (ok=\d+ .+)$", said, re.MULTILINE)
    return {
        host: {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line)} for host, line in lines
    }


def _let_in(machine: Machine, key: str) -> None:
    machine.run("install", "-d", "-m", "700", "/root/.ssh")
    (machine.root / "root/.ssh/authorized_keys").write_text(key)
    machine.run("chmod", "600", "/root/.ssh/authorized_keys")
    machine.run("systemctl", "start", "ssh")


def _run(trial: Trial, control: Control) -> None:
    def first_server() -> str:
        return _shown(control.play(limit="pathgrade_servers"), changed=True)

    def first() -> str:
        said = trial.server.run(
            "pathgrade", "server", "token", "--data", "/var/lib/pathgrade", "--seats", "2"
        )
        tokens.append(said.split()[0])
        return _shown(control.play(tokens[0]), changed=True)

    def arrived() -> str:
        until(lambda: "2" if online(trial.server) == 2 else "", 60.0)
        return trial.server.run("cat", "/etc/pathgrade/server.env").splitlines()[-1] + "; both on line"

    tokens: list[str] = []
    trial.step("first run, server", "changes, none failed", first_server)
    trial.step("first run, with a token", "changes, none failed", first)
    trial.step("what came of it", f"PATHGRADE_PERIOD_S={PERIOD_S}, both agents on line", arrived)
    trial.step("second run", "changes nothing", lambda: _shown(control.play(tokens[0]), changed=False))


def _shown(counts: dict[str, dict[str, int]], *, changed: bool) -> str:
    said = ", ".join(f"{host}: {count['changed']} of {count['ok']}" for host, count in counts.items())
    if not counts or any(bool(count["changed"]) is not changed for count in counts.values()):
        raise PackError(f"changed {said}")
    return f"changed {said}"


if __name__ == "__main__":
    main()
