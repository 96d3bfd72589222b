"""Who may test whom: ``policy show``, ``policy set``, ``policy check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analytics.command_line import (
    DEFAULT_URL,
    Json,
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

commands = typer.Typer()
policy = typer.Typer(name="policy", help="Who may test whom, when, and how much.", no_args_is_help=True)
commands.add_typer(policy)


@policy.command("show", epilog=example("pathgrade policy show", "pathgrade policy show --toml > policy.toml"))
def show_policy(
    *,
    toml: Annotated[
        bool, typer.Option("--toml", help="As a file that policy set takes, to change it.")
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Show the policy in force, rule by rule. The first rule that fits decides."""
    from server.pages import policy_words

    told = client(url, token).policy()
    if json:
        return print_json(told)
    if toml:
        return print(policy_words.toml(told), end="")
    return show(policy_words.drawn(told, width()))


@policy.command("set", epilog=example("pathgrade policy set policy.toml"))
def set_policy(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The rules: docs/control.md.")],
    *,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Set the policy, all of it, in place of the one in force; needs scope admin.

    It holds at once: tests that it does not allow end, and no other is started. An empty file allows all.
    """
    from server.pages import policy_words
    from server.policy_file import load

    asked, server = load(file), client(url, token)
    told = server.set_policy(asked, server.policy())
    return print_json(told) if json else show(policy_words.drawn(told, width()))


@policy.command(
    "check",
    epilog=example(
        "pathgrade policy check radiologist pacs",
        "pathgrade policy check radiologist pacs --at 2026-11-29T03:00:00Z",
    ),
)
def check(
    src: Annotated[str, typer.Argument(metavar="FROM", help="Agent at one end.")],
    dst: Annotated[str, typer.Argument(metavar="TO", help="Agent at the other end.")],
    *,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="WHEN", help="As in 2026-11-29T03:00, or 09:41, UTC. [default: now]"),
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Say whether two agents may test each other, by which rule, and how much.

    Exits with 1 where they may not. An agent's own [policy] may refuse what this allows.
    """
    told = client(url, token).policy_check(src, dst, as_text(moment(at, "--at")))
    if json:
        print_json(told)
    else:
        print(told.says)
    raise typer.Exit(0 if told.ruling.allowed else 1)
