"""The peers that this host's agent has met: ``agent peers``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.commands.folder import DEFAULT_DATA, DataFolder
from analytics.command_line import Json, example, print_json, show

commands = typer.Typer(name="peers", invoke_without_command=True)


@commands.callback(epilog=example("pathgrade agent peers", "pathgrade agent peers forget clinic"))
def peers(
    context: typer.Context,
    *,
    data: DataFolder = DEFAULT_DATA,
    json: Json = False,
) -> None:
    """List the peers that this host's agent has met, with the identity key pinned for each.

    A peer that shows another key is refused. Needs root, or the agent's user.
    """
    if context.invoked_subcommand:
        return None
    from agent import terminal
    from agent.mesh.peers import KnownPeers

    met = KnownPeers(data).listed()
    if json:
        return print_json({"peers": met})
    return show(terminal.peers(met))


@commands.command("forget", epilog=example("pathgrade agent peers forget clinic"))
def forget(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Agent that was reinstalled.")],
    *,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data folder of this host's agent, as before forget.")
    ] = None,
    json: Json = False,
) -> None:
    """Unpin a peer's identity key: the next key it shows is taken. The agent need not be stopped.

    Only after you know that the peer was reinstalled: any other change of its key is somebody posing as it.
    """
    from agent.mesh.peers import KnownPeers

    assert context.parent is not None  # the group
    KnownPeers(data or context.parent.params["data"]).forget(name)
    if json:
        return print_json({"forgotten": name})
    return print(f"forgotten: {name}; the next identity key it shows is pinned")
