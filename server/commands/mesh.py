"""Tests now, and which paths matter: ``mesh``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from analytics.command_line import DEFAULT_URL, Json, Token, Url, example, print_json, show, width
from server.commands.asking import client
from server.commands.complete import agent_argument

commands = typer.Typer(
    name="mesh", help="Tests now, and which paths matter. On the server's host.", no_args_is_help=True
)


@commands.command(
    "run",
    epilog=example(
        "pathgrade mesh run radiologist pacs",
        "pathgrade mesh run --all --json | jq '.results[] | select(.rung == \"none\")'",
    ),
)
def run(
    src: Annotated[str | None, agent_argument("SRC", "Agent at one end.")] = None,
    dst: Annotated[str | None, agent_argument("DST", "Agent at the other end.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every pair of agents that are online.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Test one pair, or all, now, in both directions.

    Such a test goes before those of the cycle, and is quicker: no packet trains, few or no hops.
    """
    from server.api.doors import MeshAsk
    from server.api.watching import followed
    from server.pages import terminal

    if every == (src is not None or dst is not None) or (src is None) != (dst is None):
        raise typer.BadParameter("name two agents, or --all", param_hint="SRC DST")
    made = followed(client(url, token), MeshAsk(src=src, dst=dst, all=every), sys.stderr)
    if json:
        return print_json(made)
    return show(terminal.mesh_run(made, width()))


@commands.command(
    "mark",
    epilog=example("pathgrade mesh mark pacs", "pathgrade mesh mark pacs radiologist --remove"),
)
def mark(
    agent: Annotated[str | None, agent_argument("AGENT", "Whose paths matter.")] = None,
    peer: Annotated[str | None, agent_argument("PEER", "Only those to this agent.")] = None,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="They matter no more than others.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Mark paths that matter: where the budget has no room for all, they are tested first.

    Without AGENT, list what is marked.
    """
    from server.api.doors import Mark
    from server.pages import terminal

    server = client(url, token)
    if agent is None:
        marked = server.marks()
    else:
        marked = server.mark(Mark(agent=agent, peer=peer, important=not remove))
    return print_json(marked) if json else show(terminal.marks(marked))
