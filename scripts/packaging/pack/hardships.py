"""What units are put through on a running machine: they hang, they are stopped, they take too much memory."""

from __future__ import annotations

import signal
import time
from typing import Final

from pack.errors import CommandError, PackError
from pack.machines import Machine
from pack.memory import MB, limited
from pack.package import PACKAGES
from pack.trial import Trial, online, until

WATCHDOG_S: Final = 60.0
"""``WatchdogSec`` of both units."""
LATE_S: Final = 10.0
"""From there to a unit that runs again: ``RestartSec``, and its start."""
STOP_S: Final = 20.0
BACK_S: Final = 60.0
FIRST_START_BYTES: Final = 400 * 1024 * 1024
"""``MemoryMax`` of the agent's unit."""
NO_ROOM_BYTES: Final = 1 * MB


def hang(trial: Trial) -> None:
    """Stop both processes as a hang would: systemd's watchdog is to end them and begin them again."""
    hung = {"server": trial.server, "agent": trial.clinic}
    before = {part: machine.main_pid(PACKAGES[part].unit) for part, machine in hung.items()}
    for part, machine in hung.items():
        machine.run("kill", f"-{signal.SIGSTOP.value}", str(before[part]))
    began_s = time.monotonic()
    for part, machine in hung.items():
        within = f"begun again within {WATCHDOG_S + LATE_S:.0f} s"
        trial.step(f"{part} hangs", within, lambda m=machine, p=part: _begun_again(m, p, before[p], began_s))  # type: ignore[misc]  # mypy: defaults of a lambda
    trial.step("after that", "both agents on line", lambda: _both_online(trial))


def _begun_again(machine: Machine, part: str, before: int, began_s: float) -> str:
    unit = PACKAGES[part].unit
    left_s = WATCHDOG_S + LATE_S - (time.monotonic() - began_s)

    def active() -> str:
        now = machine.main_pid(unit)
        running = now != before and machine.run("systemctl", "is-active", unit).strip() == "active"
        return "active" if running else ""

    until(active, max(0.0, left_s))
    return f"killed by the watchdog, active after {time.monotonic() - began_s:.0f} s"


def _both_online(trial: Trial) -> str:
    until(lambda: "2" if online(trial.server) == 2 else "", BACK_S)
    return "both on line"


def stop(trial: Trial) -> None:
    """Stop and start both units: the end is their own, in time, and without an error."""
    for part, machine in {"server": trial.server, "agent": trial.clinic}.items():
        expected = f"its own end within {STOP_S:.0f} s"
        trial.step(f"stop {part}", expected, lambda m=machine, p=part: _stopped(m, PACKAGES[p].unit))  # type: ignore[misc]  # mypy: defaults of a lambda
    trial.step("start both", "both agents on line", lambda: _both_online(trial))


def _stopped(machine: Machine, unit: str) -> str:
    pid, began_s = machine.main_pid(unit), time.monotonic()
    machine.run("systemctl", "stop", unit)
    took_s = time.monotonic() - began_s
    shown = machine.run("systemctl", "show", "--property=Result,ExecMainStatus,ExecMainPID", unit).split()
    machine.run("systemctl", "start", unit)
    if {"Result=success", "ExecMainStatus=0", f"ExecMainPID={pid}"} - {*shown} or took_s > STOP_S:
        raise PackError(f"{took_s:.1f} s, {', '.join(shown)}")
    return f"exit 0 after {took_s:.1f} s"


def too_much_memory(trial: Trial) -> None:
    """Take the agent's memory away: the kernel ends it, systemd begins it again."""
    clinic, unit = trial.clinic, PACKAGES["agent"].unit

    def killed() -> str:
        before = clinic.main_pid(unit)
        with limited("no-room", NO_ROOM_BYTES) as group:
            group.take(clinic.outer_pid(before))
            until(lambda: _provoked(clinic) if not group.killed else "killed", BACK_S)
        until(lambda: "active" if clinic.main_pid(unit) != before else "", BACK_S)
        return "killed by the kernel, begun again; " + _both_online(trial)

    trial.step("agent over its memory", "killed, begun again, on line", killed)


def _provoked(machine: Machine) -> str:
    """Ask the agent something: whoever answers needs memory."""
    try:
        machine.run("pathgrade", "flows", "--json", timeout_s=5.0)
    except CommandError:
        return ""
    return ""
