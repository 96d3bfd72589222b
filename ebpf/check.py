"""Would eBPF work here, and what is in the way: asked of the kernel, one thing after the other.

Three steps: what the host has (no privileges needed); each program really loaded and attached, alone; all of
them together, told of one session that this process makes to itself. A step is taken where the one before
found nothing wrong. What is loaded for it is taken out again.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from ebpf.btf import KERNEL_BTF, Btf, read_btf
from ebpf.capabilities import CAPABILITIES, REMEDY, require_capabilities
from ebpf.compile import find_bcc
from ebpf.compiled import Programs, ProgramSpec
from ebpf.errors import (
    DeliveryError,
    EbpfError,
    HookAbsentError,
    LayoutError,
    MachineError,
    PrivilegeError,
)
from ebpf.events import SessionEvent, decode_run
from ebpf.hooks import OPTIONAL, STAND_IN, hook_of, kind_of, shown
from ebpf.layout import BITS, STRUCTS
from ebpf.load import RING_BYTES, Monitor, attach_one, fitting_programs, make_maps, open_monitor

PURPOSES: Final = {
    "tp_btf__inet_sock_set_state": "sessions open and close",
    "tp_btf__tcp_destroy_sock": "closes that were left out",
    "tp_btf__tcp_receive_reset": "the peer resets",
    "tp_btf__sock_recv_length": "who reads",
    "tp_btf__sock_send_length": "who writes",
    "tp_btf__tcp_rcv_space_adjust": "who reads, before Linux 6.3",
    "bpf_iter__task_file": "sessions that are open now, and who holds them",
}
"""Program -> what it is for."""

MACHINE: Final = "x86_64"
"""Where the ring may be read without barriers (ebpf/ring.py)."""

DELIVERY_LIMIT_S: Final = 2.0
"""A close over loopback is told within a millisecond; a busy host may be slower to run both ends."""

_LOCKDOWN: Final = Path("/sys/kernel/security/lockdown")
_OWN_NETWORK: Final = Path("/proc/self/ns/net")
_ENDS: Final = 2


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. ``remedy`` says what to do where it is not ``ok``."""

    name: str
    ok: bool
    seen: str
    remedy: str


def check(cache: Path) -> list[Finding]:
    """Look at everything that passive capture by eBPF needs; ``cache`` is the folder of compiled programs.

    Raises nothing of ``ebpf/errors.py``: what it would have said is in the findings.
    """
    found = [finding(name, ask) for name, ask in _HOST.items()]
    if not _all_work(found):
        return found + untried(_kernel_types())
    found += _each_alone(cache)
    if _all_work(found):
        found.append(finding("delivery", lambda: _deliver(cache)))
    return found


def finding(name: str, ask: Callable[[], str]) -> Finding:
    """Ask; what was seen, or the error with its remedy."""
    try:
        return Finding(name, True, ask(), "")
    except EbpfError as error:
        return Finding(name, False, str(error), error.remedy)


def untried(types: Btf | None) -> list[Finding]:
    """List the hooks without loading anything: which of them this kernel has, where that can be read."""
    return [_untried(program, types) for program in PURPOSES]


def machine(name: str) -> str:
    """Say which kernel this is. Raises MachineError on an architecture where nobody has tried it."""
    if name != MACHINE:
        raise MachineError(
            f"this is {name}: the ring is read in an order that only {MACHINE} keeps",
            remedy='set passive = "inet_diag"',
        )
    return f"Linux {platform.release()}, {name}"


def lockdown(path: Path = _LOCKDOWN) -> str:
    """Say how far the kernel is locked down. Raises PrivilegeError where it lets no program read it."""
    try:
        modes = path.read_text()
    except OSError:
        return "none"  # not built in, or securityfs is not mounted: then loading tells
    mode = modes.partition("[")[2].partition("]")[0]
    if mode == "confidentiality":
        raise PrivilegeError(
            "the kernel is locked down to confidentiality: no program may read its memory",
            remedy="boot with lockdown=integrity, as secure boot by itself has it",
        )
    return mode or "none"


def fields(types: Btf) -> str:
    """Count the members that the programs read. Raises LayoutError naming all that this kernel lacks."""
    wanted = [(name, path) for table in (STRUCTS, BITS) for name, paths in table.items() for path in paths]
    missing = [f"{name}.{path}" for name, path in wanted if not _has(types, name, path)]
    if missing:
        raise LayoutError(
            f"this kernel lacks {', '.join(missing)}",
            remedy='run a kernel that pathgrade supports, or set passive = "inet_diag"',
        )
    return f"{len(wanted)} members of {len({name for name, _ in wanted})} structs"


def _has(types: Btf, name: str, path: str) -> bool:
    try:
        types.field(name, path)
    except LayoutError:
        return False
    return True


def _capabilities() -> str:
    require_capabilities()
    return " and ".join(CAPABILITIES)


def _type_information() -> str:
    return f"{KERNEL_BTF}, {len(read_btf()) / 1e6:.1f} MB"


def _bcc() -> str:
    bcc = find_bcc()
    return f"bcc {bcc.version} in {bcc.folder}"


_HOST: Final[dict[str, Callable[[], str]]] = {
    "kernel": lambda: machine(platform.machine()),
    "capabilities": _capabilities,
    "lockdown": lockdown,
    "type information": _type_information,
    "struct members": lambda: fields(Btf(read_btf())),
    "compiler": _bcc,
}
"""What is looked at -> how."""


def _all_work(found: list[Finding]) -> bool:
    return all(one.ok for one in found)


def _kernel_types() -> Btf | None:
    try:
        return Btf(read_btf())
    except EbpfError:
        return None


def _untried(program: str, types: Btf | None) -> Finding:
    if types is None:
        return Finding(shown(program), False, "not tried: nothing tells which hooks this kernel has", REMEDY)
    if types.hook(kind_of(program).type_prefix + hook_of(program)):
        return Finding(shown(program), False, "the kernel has it; not tried", "put right what is above")
    return _absent(program, f"this kernel has no {shown(program)}", "start a kernel that has it")


def _absent(program: str, why: str, remedy: str) -> Finding:
    """Nothing is wrong where a hook is missing that can be done without: what that costs is said."""
    if program in OPTIONAL:
        return Finding(shown(program), True, f"{why}: {OPTIONAL[program]}", "")
    if program in STAND_IN:
        return Finding(shown(program), True, why, "")
    return Finding(shown(program), False, why, remedy)


def _each_alone(cache: Path) -> list[Finding]:
    """Compile if need be, make the maps, then try every program by itself."""
    with ExitStack() as opened:
        try:
            programs = fitting_programs(cache)
            maps = make_maps(programs, opened, ring_bytes=RING_BYTES)
        except EbpfError as error:
            return [Finding("programs", False, str(error), error.remedy)]
        done = Finding("programs", True, f"{len(programs.programs)} compiled, {len(maps)} maps made", "")
        return [done, *_tried(programs, list(maps.values()))]


def _tried(programs: Programs, maps: list[int]) -> Iterator[Finding]:
    there = {program.name for program in programs.programs if program.hook_type}
    for program in programs.programs:
        beside = STAND_IN.get(program.name)
        if beside in there:
            yield Finding(shown(program.name), True, f"not needed beside {hook_of(beside)}", "")
        else:
            yield _tried_one(program, maps)


def _tried_one(program: ProgramSpec, maps: list[int]) -> Finding:
    try:
        with ExitStack() as opened:
            attach_one(program, opened, maps)
    except HookAbsentError as error:
        return _absent(program.name, str(error), error.remedy)
    except EbpfError as error:
        return Finding(shown(program.name), False, str(error), error.remedy)
    return Finding(shown(program.name), True, f"attached: {PURPOSES[program.name]}", "")


def _deliver(cache: Path) -> str:
    """Say how a session of this process with itself came out. Raises DeliveryError where it did not."""
    netns = _OWN_NETWORK.stat().st_ino
    with open_monitor(netns=netns, cache=cache) as monitor:
        try:
            port = _talk_to_self()
        except OSError as error:
            return f"not tried: no session over loopback here ({error.strerror})"
        ends = list(_ends_of(monitor, port))
    return judge_ends(ends)


def judge_ends(ends: list[SessionEvent]) -> str:
    """Say that both ends were told, with their owner. Raises DeliveryError."""
    owners = [event.pid for event in ends]
    if owners != [os.getpid()] * _ENDS:
        raise DeliveryError(
            f"of one session over loopback, {len(ends)} of {_ENDS} ends were told, owners {owners or 'none'}",
            remedy="try again; if it stays so, report it with the kernel's version",
        )
    return "one session over loopback: both ends told, with their owner"


def _talk_to_self() -> int:
    """Open a session over loopback, say one byte, close it; give its port. Raises OSError."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DELIVERY_LIMIT_S)
        address = listener.getsockname()
        with socket.create_connection(address, DELIVERY_LIMIT_S) as client, listener.accept()[0] as accepted:
            client.sendall(b"x")
            accepted.recv(1)
        return int(address[1])


def _ends_of(monitor: Monitor, port: int) -> Iterator[SessionEvent]:
    """Wait for the closes: they are told a moment after the sockets are let go, and wake nobody."""
    told, end = 0, time.monotonic() + DELIVERY_LIMIT_S
    while told < _ENDS and time.monotonic() < end:
        for event in decode_run(monitor.drain()):
            if port in {event.local_port, event.remote_port}:
                told += 1
                yield event
        time.sleep(0.01)
