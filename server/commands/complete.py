"""Completion of names in a shell: ``completion``, and what completes agents' names."""

from __future__ import annotations

import os
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from analytics.command_line import DEFAULT_URL, example

AWAY_AFTER_S: Final = 0.5
"""Nobody waits longer for a name."""

commands = typer.Typer()


class Shell(StrEnum):
    """Shells that names are completed in."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@commands.command(
    epilog=example(
        "pathgrade completion bash > /etc/bash_completion.d/pathgrade",
        'pathgrade completion zsh > "${fpath[1]}/_pathgrade"',
        "pathgrade completion fish > ~/.config/fish/completions/pathgrade.fish",
    )
)
def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print what completes commands, options and agents' names in a shell.

    Names come from the server at PATHGRADE_URL; without it, or where it does not answer at once, there are
    none.
    """
    from typer.completion import shell_complete

    root = context.find_root().command
    shell_complete(root, {}, "pathgrade", "_PATHGRADE_COMPLETE", f"source_{shell.value}")


def agent_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Name the agents that begin so; none where the server does not tell at once. Raises nothing."""
    from server.api.client import Client
    from server.api.token_file import kept_token, token_file
    from server.errors import AskError

    url = ctx.params.get("url") or os.environ.get("PATHGRADE_URL") or DEFAULT_URL
    with suppress(AskError):
        token = ctx.params.get("token") or os.environ.get("PATHGRADE_TOKEN") or kept_token(token_file())
        members = Client(url, token, timeout_s=AWAY_AFTER_S).agents()
        return [member.name for member in members if member.name.startswith(incomplete)]
    return []


def agent_argument(metavar: str, meaning: str) -> Any:
    """Declare an argument that is an agent's name."""
    return typer.Argument(metavar=metavar, help=meaning, autocompletion=agent_names)


def agent_option(meaning: str, *, name: str = "--agent") -> Any:
    """Declare an option that is an agent's name."""
    return typer.Option(name, metavar="NAME", help=meaning, autocompletion=agent_names)
