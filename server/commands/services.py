"""What people open: ``services``."""

from __future__ import annotations

from typing import Annotated

import typer

from analytics.command_line import DEFAULT_URL, Json, Token, Url, example, print_json, show, width
from server.commands.asking import client
from server.commands.complete import agent_argument

commands = typer.Typer(name="services", invoke_without_command=True)


@commands.callback(
    epilog=example("pathgrade services", "pathgrade services tag pacs 8042 DICOMweb --for pacs")
)
def services(
    context: typer.Context, *, url: Url = DEFAULT_URL, token: Token = None, json: Json = False
) -> None:
    """List services: what listens where, and the profile that its users' paths are graded by.

    Agents offer them when they enrol. The sessions of a service count when its paths are graded.
    """
    from server.pages import terminal

    if context.invoked_subcommand:
        return None
    found = client(url, token).services()
    return print_json(found) if json else show(terminal.services(found, width()))


@commands.command(
    "tag",
    epilog=example(
        "pathgrade services tag pacs 8042 DICOMweb --for pacs", "pathgrade services tag pacs 8042 --remove"
    ),
)
def tag(
    agent: Annotated[str, agent_argument("AGENT", "On whose host it listens.")],
    port: Annotated[int, typer.Argument(metavar="PORT", min=1, max=65535, help="TCP port.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.")] = "",
    *,
    profile: Annotated[
        str, typer.Option("--for", metavar="PROFILE", help="Application profile of its users.")
    ] = "generic",
    remove: Annotated[bool, typer.Option("--remove", help="Take the tag off.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Say what listens on a port of an agent's host. On the server's host."""
    from server.api.doors import ServiceTag
    from server.pages import terminal

    if remove == bool(name):
        raise typer.BadParameter("give the service a NAME, or --remove", param_hint="NAME")
    found = client(url, token).tag(ServiceTag(agent=agent, port=port, name=name, profile=profile))
    return print_json(found) if json else show(terminal.services(found, width()))
