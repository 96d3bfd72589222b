"""What happened over time: ``diff``."""

from __future__ import annotations

from typing import Annotated

import typer

from analytics.command_line import (
    DEFAULT_URL,
    Json,
    Profile,
    Token,
    Url,
    example,
    moment,
    print_json,
    show,
    width,
)
from server.commands.asking import client

commands = typer.Typer()


@commands.command(
    epilog=example(
        "pathgrade diff 1d",
        "pathgrade diff 2026-11-25T09:00Z 2026-11-25T09:45Z --profile pacs",
        "pathgrade diff 1h --json | jq '.causes[].sentence'",
    )
)
def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="A moment: 09:45, 2026-11-25T09:45Z, 2h.")],
    after: Annotated[
        str | None, typer.Argument(metavar="[AFTER]", help="A later one. [default: now]")
    ] = None,
    *,
    url: Url = DEFAULT_URL,
    token: Token = None,
    profile: Profile = None,
    json: Json = False,
) -> None:
    """Put two moments beside each other: which paths changed, by how much, and by which cause.

    The worst change comes first, under the cause that explains it; then what got better.
    """
    from server.pages import terminal_history

    before_us, after_us = moment(before, "BEFORE"), moment(after, "AFTER")
    assert before_us is not None  # the argument was given
    told = client(url, token).compare(before_us, after_us, profile)
    if json:
        return print_json(told)
    return show(terminal_history.comparison(told, width()))
