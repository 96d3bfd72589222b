"""What tells of this host's TCP sessions: chosen by the configuration, opened before root is given up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from agent import local_switch
from agent.config import Config
from ebpf.errors import EbpfError
from ebpf.events import PausableSource

log: Final = logging.getLogger("pathgrade.agent.passive")

POLL_S: Final = 1.0
"""As the fallback polls: a session shorter than that may come and go between two polls."""


class Passive(NamedTuple):
    """An open source, and how it is told to people."""

    source: PausableSource | None
    told: str


@contextmanager
def opened(config: Config) -> Iterator[Passive]:
    """Open what ``config.passive`` asks for. Raises ``EbpfError`` or ``AgentError`` where it cannot be had.

    Paused, with nothing in the kernel, where it is switched off on this host (``agent.local_switch``). To be
    called before this process has threads: what is opened stays open when privileges are given up.
    """
    with ExitStack() as stack:
        yield _OPENERS[config.passive](config, stack)


def _ebpf(config: Config, stack: ExitStack) -> Passive:
    from ebpf.load import open_monitor  # noqa: PLC0415  # not loaded where eBPF is not used

    monitor = stack.enter_context(
        open_monitor(netns=netns_of(config), cache=config.cache_folder, paused=_is_off(config))
    )
    return Passive(monitor, f"ebpf ({len(monitor.hooks)} hooks)")


def _inet_diag(config: Config, stack: ExitStack) -> Passive:
    from agent.passive.sockdiag import open_sockdiag  # noqa: PLC0415  # not loaded where eBPF works

    source = stack.enter_context(
        open_sockdiag(netns=netns_of(config), every_s=POLL_S, paused=_is_off(config))
    )
    return Passive(source, f"inet_diag (polls every {POLL_S:g} s: misses short sessions)")


def _auto(config: Config, stack: ExitStack) -> Passive:
    try:
        return _ebpf(config, stack)
    except EbpfError as error:
        log.warning(
            "no eBPF: sessions are polled every %g s, which misses those that are shorter why=%r remedy=%r",
            POLL_S,
            str(error),
            error.remedy,
        )
    return _inet_diag(config, stack)


def _off(_config: Config, _stack: ExitStack) -> Passive:
    return Passive(None, "off")


_OPENERS: Final[dict[str, Callable[[Config, ExitStack], Passive]]] = {
    "auto": _auto,
    "ebpf": _ebpf,
    "inet_diag": _inet_diag,
    "off": _off,
}


def _is_off(config: Config) -> bool:
    return local_switch.PASSIVE.read(config.data) is not None


def netns_of(config: Config) -> int | None:
    """Name this process's network namespace as the kernel does, by its inode; None: all of them."""
    return Path("/proc/self/ns/net").stat().st_ino if config.namespaces == "own" else None
