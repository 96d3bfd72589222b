"""READ FIRST: a lab, from its name to its end.

``open_lab`` claims the name and makes the network; ``product`` puts coturn, the server and the agents on it,
and ``pacs`` the PACS; ``Lab.down`` undoes everything.
"""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lab import cables, net, state
from lab.errors import LabError, NameTakenError
from lab.plan import Plan, make_plan
from lab.processes import Parts, start_time
from lab.scenario import Fault, Scenario, load
from lab.signals import undisturbed
from lab.state import LabState, Process
from lab.truth import Truth, make_truth

NAME: Final = re.compile(r"^[a-z0-9][a-z0-9-]{0,23}\Z")


@dataclass(slots=True)
class Lab:
    """A lab that is up, and held by this process."""

    scenario: Scenario
    plan: Plan
    state: LabState
    parts: Parts
    report_socket: socket.socket | None = None
    bpf_programs: set[int] = field(default_factory=set)
    _faults: list[Fault] = field(default_factory=list)
    _began_s: float = 0.0

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.state.name

    @property
    def folder(self) -> Path:
        """Where its logs, data and controls are, until it is down."""
        return Path(self.state.folder)

    @property
    def url(self) -> str:
        """Where the report is served."""
        return f"http://127.0.0.1:{self.state.port}"

    def begin(self) -> None:
        """Say that the lab is up: the scenario's time starts here."""
        self._began_s = time.monotonic()
        self._faults = sorted(self.scenario.faults, key=lambda fault: fault.at_s)
        self.parts.meanwhile = self.apply_due_faults
        self.state.phase, self.state.up_since_s = "up", time.time()
        self.state.save()

    def apply_due_faults(self) -> None:
        """Set what the scenario has for now."""
        while self._faults and self._faults[0].at_s <= time.monotonic() - self._began_s:
            fault = self._faults.pop(0)
            cables.change(self.folder, fault.link, fault.settings())

    def truth(self) -> Truth:
        """What a perfect measurement would say now: faults and changes by hand included."""
        return current_truth(self.plan, self.folder)

    def down(self) -> None:
        """End every process, remove every namespace and file. A second Ctrl-C does not stop it."""
        with undisturbed():
            if self.report_socket:
                self.report_socket.close()
            self.parts.stop()
            state.sweep(self.state)


def end_own(name: str) -> None:
    """Sweep whatever this process made under a name; nothing to do after ``Lab.down``.

    For the moments in which an interrupted caller has not got its ``Lab`` yet.
    """
    left = state.read(name)
    if left and left.keeper.pid == os.getpid():
        with undisturbed():
            state.sweep(left)


def current_truth(plan: Plan, folder: Path) -> Truth:
    """The truth of a running lab, from what its cables are set to."""
    now = {link: cables.state(folder, link) for link in plan.links}
    return make_truth(plan, {link: (one.up, one.down) for link, one in now.items()})


def open_lab(path: Path, name: str, *, port: int = 0, report: bool = False) -> Lab:
    """Claim a name and make the scenario's network. ``report``: also take this machine's port for the page.

    Whatever fails or interrupts it, nothing is left behind.
    """
    if not NAME.match(name):
        raise LabError(f"{name!r} is no name for a lab", remedy="letters, digits and -, at most 24")
    scenario = load(path)
    plan = make_plan(scenario, name)
    cables.build()  # first: a compiler error should leave nothing to undo
    listener = _listen(port) if report else None
    lab_state = _claim(plan, path, listener)
    lab = Lab(scenario, plan, lab_state, Parts(Path(lab_state.folder), lab_state.add_process), listener)
    try:
        _make(lab)
    except BaseException:
        lab.down()
        raise
    return lab


def _make(lab: Lab) -> None:
    net.make_nodes(lab.plan)
    cables.start(lab.parts, lab.plan, lab.folder)
    net.bring_up(lab.plan)


def _claim(plan: Plan, path: Path, listener: socket.socket | None) -> LabState:
    own = Process("keeper", os.getpid(), start_time(os.getpid()) or 0)
    made = LabState(
        name=plan.lab,
        scenario=str(path.resolve()),
        folder=str(state.DATA / plan.lab),
        keeper=own,
        namespaces=[node.namespace for node in plan.nodes.values()],
        port=listener.getsockname()[1] if listener else 0,
    )
    state.claim(made)
    Path(made.folder).mkdir(parents=True)
    return made


def _listen(port: int) -> socket.socket:
    """Take a port of this machine's loopback: the server, in its namespace, gets it as an open descriptor."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise NameTakenError(
            f"listen on 127.0.0.1:{port}: {error.strerror}",
            remedy=f"stop what uses it (ss -lntp 'sport = :{port}' shows it), or take another: --port N",
        ) from error
    return listener
