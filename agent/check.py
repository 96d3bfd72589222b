"""What ``pathgrade agent check`` finds: would eBPF work here, and the agent around it.

``survey`` asks, ``drawn`` shows. Nothing of it stays: what is loaded for a look is taken out again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent import folder, privileges
from agent.config import Config
from agent.errors import AgentError, PrivilegesError
from agent.passive.sockdiag import open_sockdiag
from agent.passive.source import POLL_S, netns_of
from agent.standing import standing
from ebpf.check import Finding

EXIT_NOT: Final = 77
"""Passive capture by eBPF would not work."""

UNTOLD: Final = Config(
    server="https://127.0.0.1:8440", name="this-host", site="here", data=Path("/var/lib/pathgrade-agent")
)
"""Stands in where no configuration is given: the defaults, and the folder that the documents name."""

Ask = Callable[[Path], list[Finding]]


class Survey(msgspec.Struct, frozen=True):
    """All findings; ``works`` is about eBPF alone: the agent's own can be put right by its configuration."""

    works: bool
    ebpf: list[Finding]
    agent: list[Finding]

    @property
    def exit_code(self) -> int:
        """0, or EXIT_NOT."""
        return 0 if self.works else EXIT_NOT


def survey(config: Config | None, ask: Ask) -> Survey:
    """Ask the kernel (``ask`` is ``ebpf.check.check``), then look at what the agent itself needs."""
    with _cache(config) as cache:
        found = ask(cache)
    return Survey(works=all(one.ok for one in found), ebpf=found, agent=_around(config or UNTOLD))


def drawn(made: Survey) -> RenderableType:
    """Lay the findings out as a table, and say in a sentence what they come to."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for head in ("check", "works", "seen", "what to do"):
        table.add_column(head, overflow="fold", no_wrap=head == "check")
    for one in (*made.ebpf, *made.agent):
        works = Text("yes", "green") if one.ok else Text("no", "bold red")
        table.add_row(Text(one.name), works, Text(one.seen), Text("" if one.ok else one.remedy))
    return Group(table, "", Text(_summary(made), "bold"))


def _summary(made: Survey) -> str:
    if made.works:
        return 'Passive capture by eBPF works here: passive = "ebpf" or "auto".'
    return 'Passive capture by eBPF does not work here: passive = "auto" polls instead, "ebpf" refuses.'


@contextmanager
def _cache(config: Config | None) -> Iterator[Path]:
    """The agent's own where there is one already; a look must not leave a data folder behind."""
    # One of an agent that systemd starts as its own user is not root's to use: others may write there.
    if config is not None and _usable(config.cache_folder):
        yield config.cache_folder
        return
    with tempfile.TemporaryDirectory(prefix="pathgrade-check-") as made:
        yield Path(made)


def _usable(cache: Path) -> bool:
    return cache.is_dir() and cache.stat().st_uid in (0, os.geteuid())


def _around(config: Config) -> list[Finding]:
    try:
        becomes = _becomes(config)
    except PrivilegesError as error:
        return [Finding("agent's user", False, str(error), error.remedy), _fallback(config)]
    return [_user(config, becomes), _data(config.data, becomes), _fallback(config)]


def _becomes(config: Config) -> privileges.Account:
    """Who an agent that is started as this process was would run as."""
    if os.geteuid() == 0:
        return privileges.account(config.user)
    return privileges.Account(os.geteuid(), os.getegid(), exists=True)


def _user(config: Config, to: privileges.Account) -> Finding:
    lacking = privileges.lacking("off", standing(), becomes=os.geteuid() == 0)
    who = f"uid {to.uid}, gid {to.gid}"
    if os.geteuid() != 0:
        return Finding("agent's user", True, f"stays {who}", "")
    known = config.user if to.exists else f"there is no account {config.user}: a number that none has"
    remedy = f"grant {', '.join(lacking)}, or start it as a user of its own"
    return Finding("agent's user", not lacking, f"root becomes {who} ({known})", remedy)


def _data(data: Path, to: privileges.Account) -> Finding:
    """Tell from modes and owners what will be: asking for real would need to be that user."""
    closed = folder.closed_parent(data, uid=to.uid, gid=to.gid)
    if closed is not None:
        return Finding("data folder", False, f"uid {to.uid} cannot pass {closed}", f"chmod o+x {closed}")
    if not data.exists():
        return Finding("data folder", True, f"{data} will be made", "")
    try:
        return _existing_data(data, to)
    except OSError as error:
        remedy = f"chown {to.uid}:{to.gid} {data}"
        return Finding("data folder", False, f"{data}: {error.strerror}", remedy)


def _existing_data(data: Path, to: privileges.Account) -> Finding:
    owner = data.stat().st_uid
    if owner == to.uid:
        return Finding("data folder", True, f"{data} is the agent's", "")
    if os.geteuid() != 0:
        seen = f"{data} is uid {owner}'s"
        return Finding("data folder", False, seen, f"chown -R {to.uid}:{to.gid} {data}")
    others = folder.strangers(data)
    seen = (
        f"{data} holds what is not the agent's: {', '.join(others[:3])}"
        if others
        else f"{data} is handed over"
    )
    return Finding("data folder", not others, seen, "set data to a folder of its own")


def _fallback(config: Config) -> Finding:
    """Poll once, as the fallback would."""
    try:
        with open_sockdiag(netns=netns_of(config), every_s=POLL_S) as source:
            now = len(source.snapshot())
        seen = f"inet_diag, sockets now: {now}; misses sessions shorter than {POLL_S:g} s"
    except AgentError as error:
        return Finding("fallback", False, str(error), error.remedy)
    return Finding("fallback", True, seen, "")
