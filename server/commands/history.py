"""What happened over time: ``diff``, ``sla``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

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


class ReportFirst(TyperGroup):
    """Takes what is no command of its own for the arguments of ``report``: ``pathgrade sla PACS``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click's, with the command put in."""
        told = args if args and args[0] in {*self.commands, "--help"} else ["report", *args]
        return super().parse_args(ctx, told)


sla_app = typer.Typer(
    cls=ReportFirst, help="A month of a service, signed: time per grade, incidents, causes, owners."
)
commands.add_typer(sla_app, name="sla")


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


@sla_app.command(
    "report",
    epilog=example(
        "pathgrade sla PACS --month 2026-11",
        "pathgrade sla PACS --month 2026-11 --out pacs-2026-11.json",
    ),
)
def sla_report(
    service: Annotated[
        str | None, typer.Argument(metavar="[SERVICE]", help="Name, or AGENT:PORT. [default: the first]")
    ] = None,
    *,
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="Which month. [default: the one that runs]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the JSON there, and its signature to FILE.sig.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    profile: Profile = None,
    json: Json = False,
) -> None:
    """Count a month: the share of time per grade, incidents with cause and owner.

    What is written with --out is signed by the server, byte by byte: whoever has its key can check it.
    """
    from server.pages import terminal_sla
    from server.signed import signature_path, write_signed

    signed = client(url, token).sla(service, month, profile)
    if out is not None:
        write_signed(out, signed)
        print(f"{out} and {signature_path(out)}: {signed.report.service}, {signed.report.month}")
        return None
    if json:
        return print_json(signed.report)
    return show(terminal_sla.report(signed.report, width()))


@sla_app.command("key", epilog=example("pathgrade sla key > pathgrade.key"))
def sla_key(*, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Print the public key that reports are signed with, to hand to customers once."""
    print(client(url, token).sla_key())


@sla_app.command(
    "verify",
    epilog=example(
        "pathgrade sla verify pacs-2026-11.json --key pathgrade.key",
        "pathgrade sla verify pacs-2026-11.json --key ed25519:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg",
    ),
)
def sla_verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A report as it was written.")],
    *,
    key: Annotated[
        str, typer.Option(metavar="KEY", help="The server's key: ed25519:..., or a file with it.")
    ],
    signature: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The signature. [default: FILE.sig]")
    ] = None,
    json: Json = False,
) -> None:
    """Check a report's signature, and show what is signed. No server is asked."""
    from server.pages import terminal_sla
    from server.signed import verified

    report = verified(file, key, signature)
    if json:
        return print_json(report)
    print(f"The signature holds: {file} is what the server with this key counted.")
    return show(terminal_sla.report(report, width()))
