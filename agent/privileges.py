"""Giving up privileges once the host's part is set up, for good.

In order, because each step needs what the next takes away:

1. bounding set empty, securebits locked: no later exec gives anything back (needs CAP_SETPCAP)
2. groups, gid, uid of the account (needs CAP_SETGID, CAP_SETUID); the securebits keep the capabilities
3. ambient set empty, capset to what is kept, no_new_privs, not dumpable
4. read all of it back from the kernel

Capabilities belong to threads: all of it happens while the process has one. capabilities(7), prctl(2).
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import signal
import struct
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, NamedTuple

from agent.errors import PrivilegesError
from agent.standing import CAPABILITIES, Standing, mask, standing


class Keep(NamedTuple):
    """What a mode of passive capture holds on to."""

    needed: frozenset[str] = frozenset()  # refuses to run without
    useful: frozenset[str] = frozenset()  # kept if it is there


KEEP: Final = {
    "ebpf": Keep(needed=frozenset({"CAP_BPF", "CAP_PERFMON"})),
    "inet_diag": Keep(useful=frozenset({"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"})),
    "off": Keep(),
}
"""By ``SessionSource.source``. Maps, the iterator and programs switched on again ask for the two; the
owner of another user's socket is in its /proc/PID/fd."""

TO_BECOME: Final = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
"""What root needs to become somebody else."""

DYNAMIC_UIDS: Final = range(61184, 65520)
"""Given to services without an account, never to people (systemd, docs/UIDS-GIDS.md)."""

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_SET_DUMPABLE = 1, 2, 4  # include/uapi/linux/prctl.h
PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 28, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
SECUREBITS: Final = 0b11_10_11_11
"""From the right, each with its lock: NOROOT, NO_SETUID_FIXUP, KEEP_CAPS off, NO_CAP_AMBIENT_RAISE
(include/uapi/linux/securebits.h)."""

_CAPABILITY_VERSION_3: Final = 0x20080522
_LAST_CAPABILITY: Final = Path("/proc/sys/kernel/cap_last_cap")
_TASKS: Final = Path("/proc/self/task")


class Account(NamedTuple):
    """Who the agent becomes."""

    uid: int
    gid: int
    exists: bool  # False: a number that no account has


def account(user: str) -> Account:
    """Find ``user``; without one, the number in ``DYNAMIC_UIDS`` that its name gives and no account has.

    Raises ``PrivilegesError`` for root, and for an account of its group.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        uid = next(uid for uid in _dynamic_uids(user) if not _taken(uid))
        return Account(uid, uid, exists=False)
    if 0 in (entry.pw_uid, entry.pw_gid):
        raise PrivilegesError(
            f"become {user}: it is root, or of its group", remedy="set user to an account without privileges"
        )
    return Account(entry.pw_uid, entry.pw_gid, exists=True)


def drop(mode: Literal["ebpf", "inet_diag", "off"], to: Account | None) -> Standing:
    """Become ``to`` (None: stay who this is, which must not be root), and keep what ``KEEP[mode]`` says.

    What was given up is gone for every later thread and program of this process. Raises ``PrivilegesError``
    where any step is refused; the process is not to go on then. Returns what is left.
    """
    before = standing()
    require(mode, before, becomes=to is not None)
    kept = mask(KEEP[mode].needed | KEEP[mode].useful) & before.permitted
    parent, deathly = os.getppid(), _death_signal()
    if before.may("CAP_SETPCAP"):
        _shut_exec()
    if to is not None:
        _become(to)
    _keep_only(kept)
    _restore_death_signal(deathly, parent)
    after = standing()
    _verify(after, to, kept, before)
    return after


def require(mode: str, now: Standing, *, becomes: bool) -> None:
    """Raise ``PrivilegesError`` for what is known beforehand to fail."""
    if not becomes and 0 in now.uids:
        raise PrivilegesError("give up root: nobody to become", remedy="start the agent as root or as a user")
    if absent := lacking(mode, now, becomes=becomes):
        raise PrivilegesError(
            f"give up root, or keep what is needed: this process lacks {' and '.join(absent)}",
            remedy="start it as a user of its own, with just the capabilities that docs/privileges.md lists\n"
            f"grant {', '.join(absent)} as well",
        )
    if len(list(_TASKS.iterdir())) != 1:
        raise PrivilegesError(
            "give up privileges: there are threads already, which would keep theirs",
            remedy="report it: the agent is to do this before any thread starts",
        )


def lacking(mode: str, now: Standing, *, becomes: bool) -> list[str]:
    """Name the capabilities without which ``drop`` refuses, of those that are not there."""
    wanted = [*(TO_BECOME if becomes else ()), *sorted(KEEP[mode].needed)]
    return [name for name in wanted if not now.permitted >> CAPABILITIES[name] & 1]


def require_program(uid: int) -> None:
    """Raise ``PrivilegesError`` unless this process, by now that user, can go on loading its own modules."""
    for module in (__name__, "msgspec", "asyncio"):  # this package, the libraries, Python's own
        file = sys.modules[module].__file__ or ""
        if not os.access(file, os.R_OK):
            raise PrivilegesError(
                f"load the rest of the program as uid {uid}: {file} is out of its reach",
                remedy="install pathgrade where every user may read it, as in /opt; not below /root",
            )


def _dynamic_uids(user: str) -> Iterable[int]:
    """All of them, from the one that the name gives: the same account after every start."""
    first = zlib.crc32(user.encode()) % len(DYNAMIC_UIDS)
    return (*DYNAMIC_UIDS[first:], *DYNAMIC_UIDS[:first])


def _taken(uid: int) -> bool:
    for known in (pwd.getpwuid, grp.getgrgid):
        try:
            known(uid)
        except KeyError:
            continue
        return True
    return False


def _shut_exec() -> None:
    for capability in range(int(_LAST_CAPABILITY.read_text()) + 1):
        _prctl("empty the bounding set", PR_CAPBSET_DROP, capability)
    _prctl("lock the securebits", PR_SET_SECUREBITS, SECUREBITS)


def _become(to: Account) -> None:
    try:
        os.setgroups([])
        os.setresgid(to.gid, to.gid, to.gid)
        os.setresuid(to.uid, to.uid, to.uid)
    except OSError as error:
        raise PrivilegesError(
            f"become uid {to.uid}, gid {to.gid}: {error.strerror}",
            remedy="set user to an account that exists in this user namespace",
        ) from error


def _keep_only(kept: int) -> None:
    _prctl("empty the ambient set", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    _capset(kept)
    _prctl("set no_new_privs", PR_SET_NO_NEW_PRIVS, 1)
    # The token and the key are in memory: no core dump, and no other process of this user may look in.
    _prctl("set dumpable", PR_SET_DUMPABLE, 0)


def _death_signal() -> int:
    number = ctypes.c_int()
    _prctl("read the death signal", PR_GET_PDEATHSIG, ctypes.addressof(number))
    return number.value


def _restore_death_signal(number: int, parent: int) -> None:
    """Set it again: a supervisor's wish (setpriv --pdeathsig), which the kernel forgets with the uid."""
    if not number:
        return
    _prctl("restore the death signal", PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died in between
        signal.raise_signal(number)


def _verify(after: Standing, to: Account | None, kept: int, before: Standing) -> None:
    """Believe the kernel, not the return codes."""
    uid, gid, groups = (to.uid, to.gid, ()) if to else (before.uids[1], before.gids[1], before.groups)
    expected = Standing(
        uids=(uid,) * 4,
        gids=(gid,) * 4,
        groups=groups,
        permitted=kept,
        effective=kept,
        inheritable=0,
        bounding=0 if before.may("CAP_SETPCAP") else before.bounding,
        ambient=0,
        no_new_privs=True,
    )
    if after != expected:
        raise PrivilegesError(
            f"give up privileges: the kernel says {after!r}, not {expected!r}",
            remedy="report it with the kernel's version and how the agent was started",
        )


_libc: Final = ctypes.CDLL(None, use_errno=True)


def _prctl(doing: str, option: int, argument: int) -> None:
    """prctl(2), whose arguments are longs: ctypes would pass ints."""
    _refused(_libc.prctl(option, *map(ctypes.c_ulong, (argument, 0, 0, 0))), doing)


def _capset(kept: int) -> None:
    """capset(2), of this thread: permitted and effective, nothing inheritable."""
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    _refused(_libc.capset(header, data), "give up capabilities")


def _refused(result: int, doing: str) -> None:
    if result:
        raise PrivilegesError(
            f"{doing}: {os.strerror(ctypes.get_errno())}",
            remedy="look for what confines the agent: a container's seccomp profile, SELinux, AppArmor",
        )
