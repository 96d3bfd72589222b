"""Paths and their letters: ``paths``, ``explain``."""

from __future__ import annotations

from enum import StrEnum
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
from server.commands.complete import agent_argument, agent_option

commands = typer.Typer()


class Letter(StrEnum):
    """Grades: ``analytics.measurement.Letter``."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"
    F = "F"
    UNREACHABLE = "X"
    UNKNOWN = "?"


@commands.command(
    epilog=example(
        "pathgrade paths",
        "pathgrade paths --letter D --letter F --letter X",
        "pathgrade paths --site hotel --limit 20 --start 20",
        "pathgrade paths --profile pacs --json | jq '.paths[] | select(.grade.letter == \"D\")'",
    )
)
def paths(
    *,
    agent: Annotated[str | None, agent_option("With this agent at an end.")] = None,
    site: Annotated[str | None, typer.Option(metavar="NAME", help="With this site at an end.")] = None,
    letter: Annotated[list[Letter] | None, typer.Option(help="With this letter; repeatable.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=5_000, help="At most so many.")] = 200,
    start: Annotated[int, typer.Option(min=0, max=10**6, help="Leave out so many of the worst.")] = 0,
    profile: Profile = None,
    at: At = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """List directed paths, worst first.

    Each with its grade, what was measured, how it was reached, and the leg that holds most of its time. Of a
    large fleet the worst few thousand are listed; pathgrade export paths has all.
    """
    from server.pages import terminal

    found = client(url, token).paths(
        agent=agent,
        site=site,
        letter=[one.value for one in letter or ()],
        limit=limit,
        start=start,
        profile=profile,
        at=as_text(moment(at, "--at")),
    )
    if json:
        return print_json(found)
    return show(terminal.path_list(found, width()))


class Clusters(StrEnum):
    """What a row of a matrix is."""

    AUTO = "auto"
    AGENT = "agent"
    SITE = "site"


@commands.command(
    epilog=example(
        "pathgrade matrix",
        "pathgrade matrix --by site --profile pacs",
        "pathgrade matrix --json | jq -r '.rows[]'",
    )
)
def matrix(
    *,
    by: Annotated[
        Clusters, typer.Option(help="A row is an agent, or a site: the worst of its paths.")
    ] = Clusters.AUTO,
    profile: Profile = None,
    at: At = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Show the letter of every path, agents of a site together.

    Rows are sources, columns destinations with the numbers of the rows. More agents than fit the terminal are
    shown site by site.
    """
    from server.pages import matrix_words

    head, cells = client(url, token).letters(profile=profile, at=as_text(moment(at, "--at")))
    if json:
        told = {"profile": head.profile, "at_us": head.at_us, "agents": head.agents, "sites": head.sites}
        return print_json({**told, "rows": matrix_words.as_rows(head, cells)})
    by_site = None if by is Clusters.AUTO else by is Clusters.SITE
    return show(matrix_words.drawn(head, cells, width(), by_site=by_site))


@commands.command(
    epilog=example(
        "pathgrade explain pacs radiologist",
        "pathgrade explain pacs radiologist --profile ehr --at 09:45",
        "pathgrade explain pacs radiologist --json | jq '.inputs[]'",
    )
)
def explain(
    src: Annotated[str, agent_argument("SRC", "Agent that sends.")],
    dst: Annotated[str, agent_argument("DST", "Agent that receives.")],
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
