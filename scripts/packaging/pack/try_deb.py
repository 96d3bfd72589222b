"""READ FIRST for ``scripts/packaging/try-deb``: the packages on two clean machines, from install to purge.

::

    machine "server" 192.0.2.1: pathgrade-server, pathgrade-agent
    machine "clinic" 192.0.2.2: pathgrade-agent

Both boot the release's own systemd, so the units run in their real sandbox.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final, NoReturn

from pack import deb, hardships, wheels
from pack.errors import PackError
from pack.found import EVENTS, capabilities_of, drawn, left_over, parts_of
from pack.machines import Machine, machines
from pack.main import say
from pack.memory import MB, Group, limited
from pack.package import PACKAGES, RELEASES, Release
from pack.requirements import version_of
from pack.trial import Trial, letters, online, until

FIRST_PATH_S: Final = 120.0
"""From the first command to a graded path."""
PATIENCE_S: Final = 420.0
DATA: Final = "/var/lib/pathgrade"
AGENTS_PORT: Final = 8440
LISTED: Final = ("find", "/", "-xdev", "-not", "-path", "/proc/*", "-not", "-path", "/sys/*")
CAP_PERFMON_BPF: Final = 1 << 38 | 1 << 39
SECCOMP_FILTER: Final = 2
KEPT: Final = (
    "/var/lib/pathgrade/authority.pem",
    "/var/lib/pathgrade/grant-key.pem",
    "/var/lib/pathgrade-agent/identity.pem",
    "/etc/pathgrade/agent.toml",
    "/etc/pathgrade/server.env",
)
"""What an upgrade must not touch: who they are, and what was set."""


def main() -> NoReturn:
    """Run the trial; the table is the result."""
    parser = argparse.ArgumentParser(prog="scripts/packaging/try-deb", description="Tries the packages.")
    parser.add_argument("release", choices=[*RELEASES])
    parser.add_argument("--debs", type=Path, help="folder of packages made already [default: make them]")
    parser.add_argument("--logs", type=Path, help="folder for what the units said [default: not kept]")
    given = parser.parse_args()
    try:
        good = _tried(RELEASES[given.release], given.debs, given.logs)
    except PackError as error:
        say(error)
        sys.exit(error.exit_code)
    sys.exit(0 if good else 1)


def _tried(release: Release, debs: Path | None, logs: Path | None) -> bool:
    with tempfile.TemporaryDirectory(prefix="pathgrade-debs-") as made:
        folder = debs or Path(made)
        own = version_of((wheels.ROOT / "pyproject.toml").read_text())
        versions = (own, _next(own))
        if debs is None:
            _build(folder, release, versions)
        with machines(("server", "clinic"), release) as (server, clinic):
            trial = Trial(server, clinic, folder)
            try:
                _run(trial, release, versions)
            finally:
                _keep_logs(trial, logs)
    rows = trial.findings.rows
    print(f"\npathgrade on {release.name} (Debian {release.number}), two machines\n\n{drawn(rows)}")
    return trial.findings.all_ok


def _keep_logs(trial: Trial, logs: Path | None) -> None:
    """Keep what the units said: the machines are gone in a moment."""
    if logs is None:
        return
    logs.mkdir(parents=True, exist_ok=True)
    for machine in (trial.server, trial.clinic):
        said = machine.run("journalctl", "-o", "short-precise", "--no-pager")
        (logs / f"{machine.name}.log").write_text(said)


def _next(version: str) -> str:
    """Count the last number up: what an upgrade would bring."""
    front, _, last = version.rpartition(".")
    return f"{front}.{int(last) + 1}"


def _build(folder: Path, release: Release, versions: tuple[str, str]) -> None:
    for version in versions:
        wheel = wheels.own(folder, version=version)
        for part in PACKAGES:
            print(f"making pathgrade-{part} {version} ...", flush=True)
            deb.build(part, release, folder, wheel=wheel, quick=True)


def _run(trial: Trial, release: Release, versions: tuple[str, str]) -> None:
    server, clinic = trial.server, trial.clinic
    for machine in (server, clinic):
        shutil.copytree(trial.debs, machine.root / "debs")
    before = {machine: _paths(machine) for machine in (server, clinic)}
    suffix = f"+deb{release.number}"
    trial.step("install server", "active", lambda: _installed(server, "server", versions[0], suffix))
    _sandbox(trial, server, "server", capabilities=0)
    token = ""

    def made_token() -> str:
        nonlocal token
        token = server.run("pathgrade", "server", "token", "--data", DATA, "--seats", "2").split()[0]
        return f"{token[:6]}..., seats: 2"

    trial.step("token", "one line", made_token)
    _agent(trial, server, token, versions[0], suffix)
    with limited("clinic", hardships.FIRST_START_BYTES) as group:
        group.take(clinic.leader)
        _agent(trial, clinic, token, versions[0], suffix)
        _first_path(trial)
        _first_start(trial, group)
    _sandbox(trial, clinic, "agent", capabilities=CAP_PERFMON_BPF)
    _again(trial, token)
    hardships.stop(trial)
    hardships.too_much_memory(trial)
    hardships.hang(trial)
    _upgrade(trial, versions[1], suffix)
    _taken_away(trial, before)


def _installed(machine: Machine, part: str, version: str, suffix: str) -> str:
    file = next((machine.root / "debs").glob(f"pathgrade-{part}_{version}{suffix}_*.deb"))
    machine.run("apt-get", "install", "-qq", "-y", "-o", "Dpkg::Use-Pty=0", f"/debs/{file.name}")
    if part == "server":
        return until(lambda: machine.run("systemctl", "is-active", PACKAGES[part].unit).strip(), 30.0)
    return machine.run("dpkg-query", "-W", "-f", "${db:Status-Status}", PACKAGES[part].name)


def _agent(trial: Trial, machine: Machine, token: str, version: str, suffix: str) -> None:
    where = f"on {machine.name}"
    trial.step(f"install agent {where}", "installed", lambda: _installed(machine, "agent", version, suffix))

    def enrolled() -> str:
        said = machine.run(
            "pathgrade", "agent", "enrol", "--server", _url(trial), "--token", token, "--site", machine.name
        )
        return next((line for line in said.splitlines() if line.startswith("enrolled")), said[-200:])

    trial.step(f"enrol {where}", "enrolled, exit 0", enrolled)


def _url(trial: Trial) -> str:
    return f"https://{trial.server.address}:{AGENTS_PORT}"


def _first_path(trial: Trial) -> None:
    def graded() -> str:
        paths = until(lambda: letters(trial.server), PATIENCE_S)
        if trial.elapsed_s() > FIRST_PATH_S:
            raise PackError(f"{paths}, after {trial.elapsed_s():.0f} s")
        return f"{paths}, {trial.elapsed_s():.0f} s after the first command"

    trial.step("first graded path", f"within {FIRST_PATH_S:.0f} s", graded)
    journal = trial.server.run(
        "journalctl", "--unit", PACKAGES["server"].unit, "-o", "short-unix", "--no-pager"
    )
    parts = parts_of(journal, trial.began_at_s)
    trial.note("the parts of it", "each was seen", parts, parts.count(",") == len(EVENTS) - 1)


def _first_start(trial: Trial, group: Group) -> None:
    """Where the agent first started, and compiled: that whole machine had as much as its unit may take."""

    def enough() -> str:
        if group.killed:
            raise PackError(f"{group.killed} processes were killed")
        return f"{group.peak_bytes / MB:.0f} MB at most, systemd and all"

    trial.step("agent's first start", f"in {hardships.FIRST_START_BYTES / MB:.0f} MB, none killed", enough)


def _sandbox(trial: Trial, machine: Machine, part: str, *, capabilities: int) -> None:
    """Ask the kernel what the running process may, and try from inside what it must not."""
    unit = PACKAGES[part].unit

    def privileges() -> str:
        status = capabilities_of(machine.run("cat", f"/proc/{machine.main_pid(unit)}/status"))
        held = {name: status[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")}
        expected = {"CapPrm": capabilities, "CapEff": capabilities, "CapInh": 0, "CapAmb": 0}
        good = held == expected and status["Uid"] and status["NoNewPrivs"] and status["Seccomp"] == 2
        if not good:
            raise PackError(f"{status}")
        return f"uid {status['Uid']}, CapEff {status['CapEff']:#x}, no_new_privs, seccomp"

    trial.step(f"{part}'s privileges", f"not root, CapEff {capabilities:#x}, seccomp", privileges)
    for said, command in {
        "a shell": ("/usr/bin/sh", "-c", "true"),
        "any other program": ("/usr/bin/touch", "/etc/pathgrade-was-here"),
    }.items():
        pid = str(machine.main_pid(unit))
        done, why = machine.tried("nsenter", "--target", pid, "--mount", "--", *command)
        trial.note(f"{said} where the {part} runs", "refused", "started" if done else why[-60:], not done)


def _again(trial: Trial, token: str) -> None:
    """The same line once more changes nothing."""
    clinic = trial.clinic

    def repeated() -> str:
        pid = clinic.main_pid(PACKAGES["agent"].unit)
        said = clinic.run("pathgrade", "agent", "enrol", "--server", _url(trial), "--token", token)
        if "wrote" in said or clinic.main_pid(PACKAGES["agent"].unit) != pid:
            raise PackError(f"it changed something: {said}")
        return "nothing written, not restarted"

    trial.step("enrol again on clinic", "nothing changes", repeated)


def _upgrade(trial: Trial, version: str, suffix: str) -> None:
    def upgraded(machine: Machine, part: str) -> str:
        pid = machine.main_pid(PACKAGES[part].unit)
        _installed(machine, part, version, suffix)
        if until(lambda: str(machine.main_pid(PACKAGES[part].unit)), 30.0) == str(pid):
            raise PackError("the same process still runs")
        return machine.run("dpkg-query", "-W", "-f", "${Version}", PACKAGES[part].name)

    kept, paths = _kept(trial), letters(trial.server)
    for machine, part in ((trial.server, "server"), (trial.server, "agent"), (trial.clinic, "agent")):
        expected = f"{version}{suffix}, restarted"
        trial.step(f"upgrade {part} on {machine.name}", expected, lambda m=machine, p=part: upgraded(m, p))  # type: ignore[misc]  # mypy: defaults of a lambda

        if part == "server":  # before anything is measured again
            trial.step("its data", "the same letters at once", lambda: _same(paths, letters(trial.server)))

    def as_before() -> str:
        until(lambda: "2" if online(trial.server) == 2 else "", 60.0)
        _same(kept, _kept(trial))
        return letters(trial.server) + "; both agents online, keys and settings unchanged"

    trial.step("after the upgrade", "same paths, keys, settings; agents back without a token", as_before)


def _kept(trial: Trial) -> str:
    said = [trial.server.run("sha256sum", *KEPT), trial.clinic.run("sha256sum", *KEPT[2:4])]
    return "".join(said)


def _same(before: str, now: str) -> str:
    if before != now:
        raise PackError(f"before: {before}; now: {now}")
    return now


def _taken_away(trial: Trial, before: dict[Machine, set[str]]) -> None:
    server, clinic = trial.server, trial.clinic
    names = [package.name for package in PACKAGES.values()]
    server.run("apt-get", "remove", "-qq", "-y", *names)
    clinic.run("apt-get", "remove", "-qq", "-y", "pathgrade-agent")

    def kept() -> str:
        wanted = ("/var/lib/private/pathgrade", "/var/lib/pathgrade-agent", "/etc/pathgrade/agent.toml")
        server.run("ls", "-d", *wanted, "/etc/pathgrade/server.env")
        running = [unit for unit in (p.unit for p in PACKAGES.values()) if _active(server, unit)]
        if running or (server.root / "usr/bin/pathgrade").exists():
            raise PackError(f"still there: {running or '/usr/bin/pathgrade'}")
        return "units and command gone; data, configuration, token kept"

    trial.step("remove", "data and configuration kept", kept)
    server.run("apt-get", "purge", "-qq", "-y", *names)
    clinic.run("apt-get", "purge", "-qq", "-y", "pathgrade-agent")
    for machine in (server, clinic):
        left = left_over(before[machine], _paths(machine))
        trial.note(f"purge on {machine.name}", "nothing left", ", ".join(left[:5]) or "nothing", not left)


def _active(machine: Machine, unit: str) -> bool:
    return machine.tried("systemctl", "is-active", unit)[0]


def _paths(machine: Machine) -> set[str]:
    return set(machine.run(*LISTED).splitlines())


if __name__ == "__main__":
    main()
