"""Paths and their letters: ``paths``, ``explain``."""

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
        "pathgrade paths",
        "pathgrade paths --profile pacs --json | jq '.paths[] | select(.grade.letter == \"D\")'",
    )
)
def paths(
    *, url: Url = DEFAULT_URL, token: Token = None, profile: Profile = None, json: Json = False
) -> None:
    """List every directed path, worst first.

    Each with its grade, what was measured, how it was reached, and the leg that holds most of its time.
    """
    from server.pages import terminal

    report = client(url, token).report(profile)
    if json:
        return print_json(report)
    return show(terminal.report(report, width()))


@commands.command(
    epilog=example(
        "pathgrade explain pacs radiologist",
        "pathgrade explain pacs radiologist --profile ehr --at 09:45",
        "pathgrade explain pacs radiologist --json | jq '.inputs[]'",
    )
)
def explain(
    src: Annotated[str, typer.Argument(metavar="SRC", help="Agent that sends.")],
    dst: Annotated[str, typer.Argument(metavar="DST", help="Agent that receives.")],
    *,
    url: Url = DEFAULT_URL,
    token: Token = None,
    profile: Profile = None,
    at: At = None,
    json: Json = False,
) -> None:
    """Tell why a path has its letter: every step, with the rule behind it.

    The test that counts, what it measured and from how many samples, the thresholds, what the samples
    support at best and at worst, what is usual, which leg added time or why none is named, and the causes
    that the path shares with others.
    """
    from server.pages import terminal

    told = client(url, token).explain(src, dst, profile=profile, at_us=moment(at, "--at"))
    if json:
        return print_json(told)
    return show(terminal.explanation(told))
