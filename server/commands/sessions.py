"""What the applications' own sessions saw: ``apps``; and the fleet's ``flows``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from analytics.command_line import (
    DEFAULT_URL,
    OWN_PROCESS,
    Json,
    Token,
    Url,
    example,
    print_json,
    show,
    width,
)
from server.commands.asking import client
from server.commands.complete import agent_option

commands = typer.Typer()


class Grouping(StrEnum):
    """What sessions are graded by: ``analytics.usage.By``."""

    PROCESS = "process"
    DESTINATION = "destination"


@commands.command(
    epilog=example(
        "pathgrade apps",
        "pathgrade apps --by destination --agent pacs",
        "pathgrade apps --json | jq '.rows[] | select(.grade.letter == \"D\")'",
    )
)
def apps(
    *,
    url: Url = DEFAULT_URL,
    token: Token = None,
    by: Annotated[Grouping, typer.Option(help="Grade processes, or destinations.")] = Grouping.PROCESS,
    agent: Annotated[str | None, agent_option("Seen by this agent.")] = None,
    own: Annotated[bool, typer.Option("--own", help="The agents' own sessions too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    json: Json = False,
) -> None:
    """Grade applications by what their own TCP sessions saw in 24 hours.

    The worse of the median round trip and of the share of segments sent again; a letter for each hour, the
    running one last; and whether it was the network at all. No test traffic is sent for it.
    """
    from server.pages import terminal

    made = client(url, token).applications(
        by=by.value, agent=agent, but=None if own else OWN_PROCESS, limit=limit
    )
    if json:
        return print_json(made)
    return show(terminal.applications(made, width()))


def flows(url: str, token: str | None, asked: dict[str, str | None], limit: int, *, json: bool) -> None:
    """List the sessions of the agents' hosts, newest first."""
    from server.pages import terminal

    found = client(url, token).flows(**asked, limit=limit)
    if json:
        return print_json(found)
    return show(terminal.flows(found, width()))
