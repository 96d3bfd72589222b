"""Files for other tools: ``export``."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from analytics.command_line import DEFAULT_URL, Json, Profile, Token, Url, example, moment
from server.commands.asking import client
from server.commands.complete import agent_option

if TYPE_CHECKING:
    from server.api.client import Client

commands = typer.Typer(name="export", help="Files for other tools.", no_args_is_help=True)


class Format(StrEnum):
    """Formats of an export: ``analytics.written.FORMATS``."""

    PARQUET = "parquet"
    CSV = "csv"
    ARROW = "arrow"


EXPORTED: Final = {
    "paths": (
        "Write paths with grade and legs: the latest test of each, or with --since every test.",
        "pathgrade export paths --since 7d --out paths.parquet",
    ),
    "hops": (
        "Write the hops that both ends of each test traced.",
        "pathgrade export hops --since 24h --agent pacs --out hops.parquet",
    ),
    "flows": (
        "Write the applications' TCP sessions, summed by process, service and 10 s.",
        "pathgrade export flows --site hospital --out flows.arrow",
    ),
    "grades": (
        "Write the grade of every test for every profile, made anew from the facts.",
        "pathgrade export grades --since 2026-11-01 --until 2026-12-01 --profile pacs --out grades.parquet",
    ),
    "receipts": (
        "Write who signed which test. To check signatures, take pathgrade receipt export.",
        "pathgrade export receipts --since 7d --agent pacs --out receipts.parquet",
    ),
    "findings": (
        "Write the shared causes of bad paths, as they are or were at --until.",
        "pathgrade export findings --until 09:45 --out -",
    ),
}
"""What ``export`` writes: help and an example each."""


def _add_export(table: str, help_: str, shown: str) -> None:
    @commands.command(table, help=help_, epilog=example(shown))
    def export(
        *,
        out: Annotated[
            str,
            typer.Option(
                metavar="FILE", help="File to write: .parquet, .csv or .arrow; - for standard output."
            ),
        ],
        format: Annotated[  # the name of the option
            Format | None, typer.Option(help="Instead of what FILE ends in. [default for -: csv]")
        ] = None,
        since: Annotated[
            str | None,
            typer.Option(metavar="TIME", help="From then on: 7d, 09:45, 2026-11-25; not of findings."),
        ] = None,
        until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then. [default: now]")] = None,
        agent: Annotated[str | None, agent_option("With this agent at an end.")] = None,
        site: Annotated[str | None, typer.Option(metavar="NAME", help="With this site at an end.")] = None,
        profile: Profile = None,
        url: Url = DEFAULT_URL,
        token: Token = None,
        json: Json = False,
    ) -> None:
        kind = _format(out, format)
        if table == "findings" and since is not None:
            raise typer.BadParameter("findings are of one moment: --until names it", param_hint="--since")
        asked = {"format": kind, "profile": profile, "agent": agent, "site": site}
        spans = {"since_us": moment(since, "--since"), "until_us": moment(until, "--until")}
        _export(table, out, client(url, token), {**asked, **spans}, json=json)


for _table, (_help, _shown) in EXPORTED.items():
    _add_export(_table, _help, _shown)


def _format(out: str, given: Format | None) -> str:
    """Choose a format: the one given, else by how the file's name ends."""
    from analytics.written import ENDINGS

    if given is not None:
        return given.value
    if out == "-":
        return Format.CSV.value
    ending = Path(out).suffix.lower()
    if ending and ending not in ENDINGS:
        raise typer.BadParameter(f"no format is called {ending}: {', '.join(ENDINGS)}", param_hint="--out")
    return ENDINGS.get(ending, Format.PARQUET.value)


def _export(table: str, out: str, server: Client, asked: dict[str, Any], *, json: bool) -> None:
    """Write a file, or to standard output; say where it is and how large."""
    import msgspec

    if out == "-":
        if sys.stdout.isatty() and asked["format"] != Format.CSV:
            raise typer.BadParameter(f"a terminal is no place for {asked['format']}", param_hint="--out")
        server.export_to(sys.stdout.buffer, table, **asked)
        return None
    size = server.export(Path(out), table, **asked)
    if json:
        told = {"file": out, "format": asked["format"], "bytes": size}
        return print(msgspec.json.encode(told).decode())
    return print(f"{out}: {size:,} bytes of {asked['format']}; columns: docs/schema.md")
