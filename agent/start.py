"""What an agent does before its event loop: its log, what needs root, and giving root up."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from agent import folder, privileges
from agent.config import Config
from agent.footprint import be_prompt
from agent.mesh.icmp import QuotedHeaders
from agent.passive.source import Passive, opened
from analytics.memory import be_small
from ebpf.events import SessionSource

log: Final = logging.getLogger("pathgrade.agent")

LOG_FORMAT: Final = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s"


class Ready(NamedTuple):
    """What was opened while this process might."""

    config: Config
    passive: Passive
    headers: QuotedHeaders | None


@contextmanager
def started(config: Config) -> Iterator[Ready]:
    """Open what needs root, then give root up; before this process has threads.

    Raises ``FolderError``, ``PrivilegesError`` and ``EbpfError``.
    """
    log_to_stderr()
    be_small()
    with folder.exclusive(config.data), opened(config) as passive:
        if config.realtime:
            be_prompt()  # not before: the compiler of the eBPF programs would inherit it
        config = config.with_token()
        headers = _quoted_headers(config)
        _give_up_privileges(config, passive.source)
        yield Ready(config, passive, headers)


def log_to_stderr() -> None:
    """Set logging up."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    for chatty in ("httpx", "httpcore", "websockets", "aioice", "aiortc"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _quoted_headers(config: Config) -> QuotedHeaders | None:
    """Open the raw ICMP sockets while this process may."""
    if not (config.mesh and config.quoted_headers):
        return None
    headers = QuotedHeaders.open()
    if headers is None:
        log.warning("quoted_headers is set, but no raw ICMP socket can be opened: start it with CAP_NET_RAW")
    return headers


def _give_up_privileges(config: Config, source: SessionSource | None) -> None:
    """Stop being root. Raises ``PrivilegesError`` or ``FolderError``, also where nothing works after it."""
    to = privileges.account(config.user) if os.geteuid() == 0 else None
    if to is not None:
        folder.hand_over(config.data, uid=to.uid, gid=to.gid)
    now = privileges.drop(source.source if source else "off", to)
    log.info("privileges %s", now)
    uid, gid = now.uids[1], now.gids[1]
    folder.require_usable(config.data, uid=uid, gid=gid)
    privileges.require_program(uid)
