"""The switches on this host: ``agent mesh`` and ``agent passive``, each with ``off``, ``on``, ``status``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from agent.commands.folder import DEFAULT_DATA, DataFolder
from analytics.command_line import Json, example, print_json

if TYPE_CHECKING:
    from agent.local_switch import Switch
    from analytics.wire import LocalOff

NOTE_MOST: Final = 200
Note = Annotated[str, typer.Option(metavar="TEXT", help="Why; the server shows it.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The agent's TOML file: its data folder, not --data."),
]


class Group(NamedTuple):
    """The commands of one switch, in words; the switch itself is looked up when it is used."""

    name: str
    told: str
    off: str
    on: str
    status: str
    note: str  # of the example


MESH: Final = Group(
    name="mesh",
    told="Active tests on this host: a switch that no server can turn.",
    off="Switch active tests off on this host, until they are switched on here again.\n\n"
    "An agent that runs ends its tests within two seconds; after that no packet of a test leaves. It needs no"
    " server, no server can undo it, and it survives restarts. Passive capture goes on.",
    on="Switch active tests on again on this host. What the server switched off stays off.",
    status="Say whether active tests are switched off on this host, since when, by whom and why.",
    note="PACS maintenance",
)
PASSIVE: Final = Group(
    name="passive",
    told="Passive capture on this host: a switch that no server can turn.",
    off="Switch passive capture off on this host, until it is switched on here again.\n\n"
    "An agent that runs takes its eBPF programs and their tables out of the kernel within two seconds; what"
    " it saw until then is sent, and nothing is seen after that. It needs no server, no server can undo it,"
    " and it survives restarts. Active tests go on.",
    on="Switch passive capture on again on this host, where the agent's configuration has it.",
    status="Say whether passive capture is switched off on this host, since when, by whom and why.",
    note="asked by data protection",
)
GROUPS: Final = (MESH, PASSIVE)


def commands(group: Group) -> typer.Typer:
    """Make the commands of one switch."""
    made = typer.Typer(name=group.name, help=group.told, no_args_is_help=True)
    typed = f"pathgrade agent {group.name}"

    @made.command(
        "off", help=group.off, epilog=example(f"{typed} off --note '{group.note}'", f"{typed} off --json")
    )
    def off(
        *,
        note: Note = "",
        data: DataFolder = DEFAULT_DATA,
        config: ConfigFile = None,
        json: Json = False,
    ) -> None:
        from agent import local_switch
        from analytics.clock import now_us
        from analytics.wire import LocalOff

        if len(note) > NOTE_MOST:
            raise typer.BadParameter(f"at most {NOTE_MOST} characters", param_hint="--note")
        switch, folder = _found(group, data, config)
        now = LocalOff(since_us=now_us(), by=local_switch.who(), note=note)
        _tell(switch, switch.off(folder, now), json=json)

    @made.command("on", help=group.on, epilog=example(f"{typed} on"))
    def on(*, data: DataFolder = DEFAULT_DATA, config: ConfigFile = None, json: Json = False) -> None:
        switch, folder = _found(group, data, config)
        switch.on(folder)
        _tell(switch, None, json=json)

    @made.command(
        "status", help=group.status, epilog=example(f"{typed} status --config /etc/pathgrade/agent.toml")
    )
    def status(*, data: DataFolder = DEFAULT_DATA, config: ConfigFile = None, json: Json = False) -> None:
        switch, folder = _found(group, data, config)
        _tell(switch, switch.read(folder), json=json)

    return made


def _found(group: Group, data: Path, config: Path | None) -> tuple[Switch, Path]:
    from agent.config import load
    from agent.local_switch import SWITCHES

    switch = next(switch for switch in SWITCHES if switch.name == group.name)
    folder = data if config is None else load(config).data
    switch.require_folder(folder)
    return switch, folder


def _tell(switch: Switch, off: LocalOff | None, *, json: bool) -> None:
    if json:
        return print_json({switch.name: off is None, "off": off})
    if off is None:
        return print(f"{switch.of}: on, as far as this host is asked")
    from analytics.words import moment

    why = f": {off.note}" if off.note else ""
    return print(f"{switch.of}: off on this host since {moment(off.since_us)}, by {off.by}{why}")
