"""The switch of active tests on this host: ``agent mesh off``, ``on``, ``status``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agent.commands.folder import DEFAULT_DATA, DataFolder
from analytics.command_line import Json, example, print_json

if TYPE_CHECKING:
    from analytics.wire import LocalOff

commands = typer.Typer(
    name="mesh", help="Active tests on this host: a switch that no server can turn.", no_args_is_help=True
)

NOTE_MOST: Final = 200
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The agent's TOML file: its data folder, not --data."),
]


@commands.command(
    "off",
    epilog=example("pathgrade agent mesh off --note 'PACS maintenance'", "pathgrade agent mesh off --json"),
)
def off(
    *,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why; the server shows it.")] = "",
    data: DataFolder = DEFAULT_DATA,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Switch active tests off on this host, until they are switched on here again.

    An agent that runs ends its tests within two seconds; after that no packet of a test leaves. It needs no
    server, no server can undo it, and it survives restarts. Passive capture goes on.
    """
    from agent import local_switch
    from analytics.clock import now_us
    from analytics.wire import LocalOff

    if len(note) > NOTE_MOST:
        raise typer.BadParameter(f"at most {NOTE_MOST} characters", param_hint="--note")
    folder = _folder(data, config)
    now = LocalOff(since_us=now_us(), by=local_switch.who(), note=note)
    _tell(local_switch.switch_off(folder, now), json=json)


@commands.command("on", epilog=example("pathgrade agent mesh on"))
def on(*, data: DataFolder = DEFAULT_DATA, config: ConfigFile = None, json: Json = False) -> None:
    """Switch active tests on again on this host. What the server switched off stays off."""
    from agent import local_switch

    folder = _folder(data, config)
    local_switch.switch_on(folder)
    _tell(None, json=json)


@commands.command("status", epilog=example("pathgrade agent mesh status --config /etc/pathgrade/agent.toml"))
def status(*, data: DataFolder = DEFAULT_DATA, config: ConfigFile = None, json: Json = False) -> None:
    """Say whether active tests are switched off on this host, since when, by whom and why."""
    from agent import local_switch

    _tell(local_switch.read(_folder(data, config)), json=json)


def _folder(data: Path, config: Path | None) -> Path:
    from agent import local_switch
    from agent.config import load

    folder = data if config is None else load(config).data
    local_switch.require_folder(folder)
    return folder


def _tell(off: LocalOff | None, *, json: bool) -> None:
    if json:
        return print_json({"mesh": off is None, "off": off})
    if off is None:
        return print("active tests: on, as far as this host is asked")
    from analytics.words import moment

    why = f": {off.note}" if off.note else ""
    return print(f"active tests: off on this host since {moment(off.since_us)}, by {off.by}{why}")
