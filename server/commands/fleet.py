"""The fleet in short: ``status``."""

from __future__ import annotations

import typer

from analytics.command_line import DEFAULT_URL, Json, Profile, Token, Url, example, print_json, show
from server.commands.asking import client

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
    return show(terminal.status(now, server.report(profile).verdict))
