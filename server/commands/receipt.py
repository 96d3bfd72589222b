"""What both ends signed: ``receipt export``, and ``receipt verify``, which asks no server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

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
from server.commands.complete import agent_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analytics.receipt_file import Anchors, Findings

EXIT_FALSE: Final = 1
EXIT_NOT_PROVEN: Final = 3

commands = typer.Typer(
    name="receipt", help="Results that both ends signed: proof without the server.", no_args_is_help=True
)


@commands.command(
    "export",
    epilog=example(
        "pathgrade receipt export --service PACS --since 2026-11-01 --until 2026-12-01 november.jsonl"
    ),
)
def export(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="File to write: JSON lines.")],
    *,
    service: Annotated[
        str | None, typer.Option(metavar="NAME", help="Readings with this service's agent at an end.")
    ] = None,
    src: Annotated[str | None, agent_option("Readings that this agent sent.", name="--src")] = None,
    dst: Annotated[str | None, agent_option("Readings that this agent received.", name="--dst")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From then on: 7d, 2026-11-01. [default: a day back]")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then. [default: now]")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Write readings with the signatures of both ends, for whoever is to check them."""
    spans = {
        "since": as_text(moment(since, "--since")),
        "until": as_text(moment(until, "--until")),
    }
    size = client(url, token).receipts(out, service=service, src=src, dst=dst, **spans)
    if json:
        return print_json({"file": str(out), "bytes": size})
    return print(f"{out}: {size:,} bytes; check it with: pathgrade receipt verify {out} --anchors FILE")


@commands.command(
    "verify",
    epilog=example("pathgrade receipt verify november.jsonl --anchors anchors.toml")
    + "\n\nExit: 0 = every reading is signed by both ends with anchored keys, 1 = something is false, "
    "3 = nothing is false, but not everything is proven.",
)
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What receipt export wrote.")],
    *,
    anchors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Agents' identity keys from a source other than the server: TOML, name = key.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check both ends' signatures of every reading in a file. Needs no server and no network.

    A key counts as an agent's only if it is in the anchors; `pathgrade agent identity`, on the agent's host,
    prints its line. Without them, whoever wrote the file may have made the keys up.
    """
    from analytics.receipt_file import check
    from server.pages import terminal_receipts

    found = check(_lines(file), _anchors(anchors))
    print_json(found) if json else show(terminal_receipts.findings(found, width()))
    if code := exit_code(found):
        raise typer.Exit(code)


def exit_code(found: Findings) -> int:
    """Say with what ``verify`` ends: 0 only where everything is proven."""
    if found.false:
        return EXIT_FALSE
    return 0 if found.proven else EXIT_NOT_PROVEN


def _lines(file: Path) -> Iterator[bytes]:
    """Read a file line by line; of one that is too long, as much as shows that it is."""
    from analytics.errors import SealError
    from analytics.receipt_file import MOST_LINE

    try:
        with file.open("rb") as opened:
            while line := opened.readline(MOST_LINE + 2):
                yield line.removesuffix(b"\n")
    except OSError as error:
        raise SealError(f"read {file}: {error.strerror}", remedy="name a file that can be read") from error


def _anchors(file: Path | None) -> Anchors:
    from analytics.errors import SealError
    from analytics.receipt_file import MOST_ANCHORS, read_anchors

    if file is None:
        return {}
    try:
        with file.open("rb") as opened:
            return read_anchors(opened.read(MOST_ANCHORS))
    except OSError as error:
        raise SealError(f"read {file}: {error.strerror}", remedy="name a file that can be read") from error
