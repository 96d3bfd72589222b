"""The audit log: ``audit``, and its chains as a file: ``audit export``, ``audit verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from analytics.audit_chain import ChainResult

commands = typer.Typer(name="audit", invoke_without_command=True)


@commands.callback(
    epilog=example(
        "pathgrade audit",
        "pathgrade audit --action enrol --since 7d",
        "pathgrade audit --subject radiologist --json | jq '.[].actor'",
        "pathgrade audit export audit.jsonl",
        "pathgrade audit verify audit.jsonl --key pathgrade.key",
    )
)
def audit(
    context: typer.Context,
    *,
    actor: Annotated[str | None, typer.Option(metavar="NAME", help="What they did.")] = None,
    action: Annotated[str | None, typer.Option(metavar="WORD", help="As enrol, run, login, export.")] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="TEXT", help="With this in whom it was about.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From then on: 2h, 09:45, 7d.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then.")] = None,
    tests: Annotated[bool, typer.Option("--tests", help="Each ordered test, too: nearly all rows.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=5_000, help="At most so many.")] = 200,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and print what comes.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """List who did what to whom, newest first; or export and verify all of it.

    --follow prints the newest last and stays; with --json, one object a line.
    """
    from analytics.audit_chain import TEST_ACTIONS
    from server.commands.audit_rows import follow_rows, printed
    from server.pages import audit_words

    if context.invoked_subcommand is not None:
        return None
    server = client(url, token)
    asked = {
        "actor": actor,
        "action": action,
        "subject": subject,
        "since": as_text(moment(since, "--since")),
        "until": as_text(moment(until, "--until")),
        "tests": str(tests or action in TEST_ACTIONS).lower(),
        "limit": limit,
    }
    if follow:
        return follow_rows(lambda: server.audit(**asked), printed(json=json))
    found = server.audit(**asked)
    return print_json(found) if json else show(audit_words.listed(found, width()))


@commands.command("export", epilog=example("pathgrade audit export audit.jsonl"))
def export(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where it is written; one JSON object a line.")
    ],
    *,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Write all audit rows of the tenant, with the hashes and signatures that bind them.

    That somebody did is an audit row itself, which comes after those in the file.
    """
    from analytics import words

    size = client(url, token).audit_file(file)
    print(f"{file}: {words.size(size)}; pathgrade audit verify {file} --key KEY checks it")


@commands.command(
    "verify",
    epilog=example(
        "pathgrade sla key > pathgrade.key",
        "pathgrade audit verify audit.jsonl --key pathgrade.key",
        "pathgrade audit verify audit.jsonl --key ed25519:A6EH... --head acts:4711:9f86d081...",
    ),
)
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As pathgrade audit export wrote it.")],
    *,
    key: Annotated[
        str, typer.Option(metavar="KEY", help="The server's key: ed25519:..., or a file with it.")
    ],
    head: Annotated[
        list[str] | None,
        typer.Option(metavar="CHAIN:SEQ:HASH", help="What an earlier check told to note; repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Check that no row was changed, taken out, put in or moved, without asking a server.

    Exits with 1 if anything is wrong, and says which row is the first.
    """
    from analytics.trust import key_bytes
    from server.audit_file import verified
    from server.signed import key_of

    header, found = verified(file, key_bytes(key_of(key)), noted(head or []))
    tell({header.tenant: found}, json=json)


def noted(heads: list[str]) -> dict[str, dict[int, bytes]]:
    """Read what was noted; raises ``typer.BadParameter``."""
    from server.audit_seal import CHAINS

    found: dict[str, dict[int, bytes]] = {}
    for head in heads:
        chain, _, rest = head.partition(":")
        seq, _, hash_ = rest.partition(":")
        try:
            told = int(seq), bytes.fromhex(hash_)
        except ValueError as error:
            raise typer.BadParameter(f"{head!r} is not CHAIN:SEQ:HASH", param_hint="--head") from error
        if chain not in CHAINS or len(told[1]) != 32:
            raise typer.BadParameter(f"{head!r} is not {' or '.join(CHAINS)}:SEQ:HASH", param_hint="--head")
        found.setdefault(chain, {})[told[0]] = told[1]
    return found


def tell(found: dict[str, list[ChainResult]], *, json: bool) -> None:
    """Print what was found, by tenant; exits with 1 if anything is wrong."""
    from server.pages import chain_words

    if json:
        print_json(found)
    else:
        for tenant, results in found.items():
            for line in chain_words.lines(tenant, results):
                print(line)
    if any(result.broken for results in found.values() for result in results):
        raise typer.Exit(1)
