"""Whether this process may load eBPF programs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ebpf.errors import PrivilegeError

CAPABILITIES: Final = {"CAP_BPF": 39, "CAP_PERFMON": 38}
"""What loading and attaching need, with their bit numbers (include/uapi/linux/capability.h)."""

REMEDY: Final = (
    'run it as root, or grant just the two (AmbientCapabilities= in its systemd unit), or set passive = "off"'
)

_CAP_SYS_ADMIN: Final = 21  # includes both, as before Linux 5.8
_STATUS: Final = Path("/proc/self/status")


def require_capabilities(status: Path = _STATUS) -> None:
    """Raise PrivilegeError, naming the missing ones, unless this process has the capabilities."""
    missing = missing_capabilities(status.read_text())
    if missing:
        raise PrivilegeError(
            f"passive capture needs CAP_BPF and CAP_PERFMON; this process lacks {' and '.join(missing)}",
            remedy=REMEDY,
        )


def missing_capabilities(status: str) -> list[str]:
    """Read a text of /proc/PID/status; list what loading needs and the process has not."""
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    bits = int(effective[1], 16) if effective else 0
    if bits >> _CAP_SYS_ADMIN & 1:
        return []
    return [name for name, bit in CAPABILITIES.items() if not bits >> bit & 1]
