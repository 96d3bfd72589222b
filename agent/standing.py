"""What a process may, as the kernel tells it: proc_pid_status(5), capabilities(7)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

CAPABILITIES: Final = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_SYS_PTRACE": 19,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
"""Bit numbers (include/uapi/linux/capability.h) of those that have a name here."""


_STATUS: Final = Path("/proc/self/status")


class Standing(NamedTuple):
    """What a process may, as /proc/PID/status tells it. Sets of capabilities are bit masks."""

    uids: tuple[int, ...]  # real, effective, saved, file system
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    permitted: int
    effective: int
    inheritable: int
    bounding: int
    ambient: int
    no_new_privs: bool

    def may(self, capability: str) -> bool:
        """Whether it holds ``capability`` and can use it now."""
        return bool(self.effective >> CAPABILITIES[capability] & 1)

    def __str__(self) -> str:
        held = ",".join(names(self.effective)) or "none"
        return f"uid={self.uids[1]} gid={self.gids[1]} capabilities={held} no_new_privs={self.no_new_privs:d}"


def standing(status: Path = _STATUS) -> Standing:
    """Read what a process (a thread, if ``status`` is one's) may."""
    found = dict(re.findall(r"^(\w+):[ \t]*(.*)$", status.read_text(), re.MULTILINE))
    uids, gids, groups = (tuple(map(int, found[name].split())) for name in ("Uid", "Gid", "Groups"))
    permitted, effective, inheritable, bounding, ambient = (
        int(found[f"Cap{name}"], 16) for name in ("Prm", "Eff", "Inh", "Bnd", "Amb")
    )
    return Standing(
        uids=uids,
        gids=gids,
        groups=groups,
        permitted=permitted,
        effective=effective,
        inheritable=inheritable,
        bounding=bounding,
        ambient=ambient,
        no_new_privs=found["NoNewPrivs"] == "1",
    )


def mask(capabilities: Iterable[str]) -> int:
    """Set a bit for each name."""
    return sum(1 << CAPABILITIES[name] for name in capabilities)


def names(capabilities: int) -> list[str]:
    """Name each bit; one that has no name here by its number."""
    known = {bit: name for name, bit in CAPABILITIES.items()}
    bits = (bit for bit in range(capabilities.bit_length()) if capabilities >> bit & 1)
    return [known.get(bit, f"CAP_{bit}").lower() for bit in bits]
