"""The fleet: ``status``, ``agents``, ``audit``."""

from __future__ import annotations

from typing import Annotated

import typer

from analytics.command_line import (
    DEFAULT_URL,
    At,
    Json,
    Profile,
    Token,
    Url,
    as_text,
    example,
    moment,
    print_json,
    show,
    width,
)
from server.commands.asking import client
from server.commands.complete import agent_argument

commands = typer.Typer()


@commands.command(epilog=example("pathgrade status"))
def status(
    *, url: Url = DEFAULT_URL, token: Token = None, profile: Profile = None, json: Json = False
) -> None:
    """Say whether the fleet is complete, and the verdict."""
    from server.pages import terminal

    server = client(url, token)
    now = server.status()
    if json:
        return print_json(now)
    return show(terminal.status(now, server.verdict(profile)))


@commands.command(
    epilog=example("pathgrade agents", "pathgrade agents --away", "pathgrade agents radiologist")
)
def agents(
    agent: Annotated[str | None, agent_argument("AGENT", "Tell all of this one.")] = None,
    *,
    site: Annotated[str | None, typer.Option(metavar="NAME", help="Of this site.")] = None,
    away: Annotated[bool, typer.Option("--away", help="Only those that are not online.")] = False,
    at: At = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """List the agents: site, whether they are online, services, and the NAT in front of them.

    With AGENT, all that is known of one.
    """
    from server.pages import agent_words

    server = client(url, token)
    if agent is not None:
        one = server.agent(agent)
        return print_json(one) if json else show(agent_words.one(one))
    found = server.agents(at=as_text(moment(at, "--at")))
    fitting = [m for m in found if site in (None, m.site) and not (away and m.online)]
    return print_json(fitting) if json else show(agent_words.listed(fitting, found, width()))
