"""What the machine must have, said before anything is started."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from lab.errors import NeedsError

BTF: Final = Path("/sys/kernel/btf/vmlinux")
TUN: Final = Path("/dev/net/tun")
PROGRAMS: Final = (
    *("ip", "nft", "nsenter", "setpriv", "sysctl", "cc", "ss", "bpftool"),
    *("turnserver", "storescu", "getscu", "curl"),
)


def check_machine() -> None:
    """Raise ``NeedsError`` with everything that is missing and what to do about it."""
    if missing := find_missing():
        raise NeedsError("; ".join(what for what, _ in missing), remedy="\n".join(how for _, how in missing))


def find_missing() -> list[tuple[str, str]]:
    """List (what is missing, what to do)."""
    checks = [
        (os.geteuid() == 0, "this needs root (namespaces, eBPF)", "sudo scripts/demo"),
        (BTF.exists(), f"the kernel has no BTF ({BTF})", "boot a kernel with CONFIG_DEBUG_INFO_BTF=y"),
        (TUN.exists(), f"there is no {TUN}", "modprobe tun, or pass the device into the container"),
    ]
    missing = [(what, how) for fine, what, how in checks if not fine]
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=search)]
    if absent:
        missing.append((f"programs are missing: {', '.join(absent)}", "scripts/setup installs them"))
    return missing
