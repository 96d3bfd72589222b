"""The pathgrade command: each command reads its arguments, calls one function and prints.

Imports stand inside the commands: ``pathgrade --help`` is quick, and an agent never loads the server's
libraries. Every part's errors carry ``remedy`` and ``exit_code``; ``main`` prints them all the same way.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, Protocol, runtime_checkable

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from server.api.client import Client

PIPE_WIDTH: Final = 160
"""Columns of a table that no terminal limits: all of them."""

EXIT_INTERRUPTED: Final = 130


def example(*commands: str) -> str:
    r"""Write the end of a command's help; ``\b`` keeps its lines from being joined."""
    return "\n".join(["\b", "Example:" if len(commands) == 1 else "Examples:", *(f"  {c}" for c in commands)])


app = typer.Typer(
    help="Grades every network path between your hosts, and names the leg that slows it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
server_app = typer.Typer(help="The server: collects, grades and shows.", no_args_is_help=True)
agent_app = typer.Typer(help="The agent: measures, on each host.", no_args_is_help=True)
export_app = typer.Typer(help="Files for other tools.", no_args_is_help=True)
app.add_typer(server_app, name="server")
app.add_typer(agent_app, name="agent")
app.add_typer(export_app, name="export")


@runtime_checkable
class Remedied(Protocol):
    """What every error of every part has."""

    remedy: str
    exit_code: int


def main() -> NoReturn:
    """Run the command; print a known error as people can use it, and exit with its code."""
    try:
        app(prog_name="pathgrade")
    except Exception as error:
        if not isinstance(error, Remedied):
            raise
        say_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0)


def say_error(error: Remedied) -> None:
    """Print what went wrong and what to try, one way out to a line."""
    print(f"error: {error}", file=sys.stderr)
    for place, way in enumerate(error.remedy.splitlines()):
        print(f"  try: {way}" if place == 0 else f"  or:  {way}", file=sys.stderr)


Url = Annotated[
    str, typer.Option("--url", envvar="PATHGRADE_URL", metavar="URL", help="Where the report is served.")
]
DEFAULT_URL: Final = "http://127.0.0.1:8080"
Profile = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Grade for this application profile. [default: the fleet's]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command(epilog=example("pathgrade status"))
def status(*, url: Url = DEFAULT_URL, profile: Profile = None, json: Json = False) -> None:
    """Say whether the fleet is complete, and the verdict."""
    from server.pages import terminal

    client = _client(url)
    now = client.status()
    if json:
        return _print_json(now)
    return _show(terminal.status(now, client.report(profile).verdict))


@app.command(
    epilog=example(
        "pathgrade paths",
        "pathgrade paths --profile pacs --json | jq '.paths[] | select(.grade.letter == \"D\")'",
    )
)
def paths(*, url: Url = DEFAULT_URL, profile: Profile = None, json: Json = False) -> None:
    """List every directed path, worst first.

    Each with its grade, what was measured, how it was reached, and the leg that holds most of its time.
    """
    from server.pages import terminal

    report = _client(url).report(profile)
    if json:
        return _print_json(report)
    return _show(terminal.report(report, _width()))


@app.command(epilog=example("pathgrade hops radiologist pacs"))
def hops(
    src: Annotated[str, typer.Argument(metavar="SRC", help="Agent that sends.")],
    dst: Annotated[str, typer.Argument(metavar="DST", help="Agent that receives.")],
    *,
    url: Url = DEFAULT_URL,
    profile: Profile = None,
    json: Json = False,
) -> None:
    """Show one path hop by hop.

    Where its time is, why it has its letter, and why higher rungs of the ladder failed.
    """
    from server.pages import terminal

    detail = _client(url).detail(src, dst, profile)
    if json:
        return _print_json(detail)
    return _show(terminal.hops(detail, detail.forward.grade.profile))


@app.command(
    epilog=example("pathgrade flows --agent radiologist", "pathgrade flows --process Orthanc --json")
)
def flows(
    *,
    url: Url = DEFAULT_URL,
    agent: Annotated[str | None, typer.Option(metavar="NAME", help="Seen by this agent.")] = None,
    process: Annotated[str | None, typer.Option(metavar="COMM", help="Of this process.")] = None,
    remote: Annotated[str | None, typer.Option(metavar="ADDRESS", help="With this remote address.")] = None,
    own: Annotated[bool, typer.Option("--own", help="The agents' own sessions too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=5000, help="At most so many.")] = 50,
    json: Json = False,
) -> None:
    """List what the applications saw.

    TCP sessions by process and remote service, as the kernels of the agents' hosts tell them; newest first.
    """
    from server.api.core import OWN_PROCESS
    from server.pages import terminal

    but = None if own or process else OWN_PROCESS
    found = _client(url).flows(agent=agent, process=process, remote=remote, but=but, limit=limit)
    if json:
        return _print_json(found)
    return _show(terminal.flows(found, _width()))


@export_app.command(
    "paths",
    epilog=example(
        "pathgrade export paths --out paths.parquet",
        "duckdb -c \"from 'paths.parquet'\"",
    ),
)
def export_paths(
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write: .parquet or .csv.")],
    url: Url = DEFAULT_URL,
    profile: Profile = None,
    json: Json = False,
) -> None:
    """Write every directed path to a file, with the same rows as the page."""
    import msgspec

    kind = "csv" if out.suffix.lower() == ".csv" else "parquet"
    size = _client(url).export(out, profile=profile, format=kind)
    if json:
        return print(msgspec.json.encode({"file": str(out), "format": kind, "bytes": size}).decode())
    return print(f"{out}: {size:,} bytes of {kind}; columns: docs/schema.md")


@server_app.command("run", epilog=example("pathgrade server run --data /var/lib/pathgrade"))
def server_run(
    *,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of everything the server keeps. Required.")
    ] = None,
    agents: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Listener for agents. [default: 0.0.0.0:8440]")
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Listener for page and API. [default: 127.0.0.1:8080]"),
    ] = None,
    report_fd: Annotated[
        int | None, typer.Option(metavar="N", help="An open listening socket instead of --report.")
    ] = None,
    stun: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="STUN responder, UDP; repeatable. [default: 0.0.0.0:3478]"),
    ] = None,
    turn: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="TURN server to relay through, as turn:HOST:PORT; repeatable."),
    ] = None,
    turn_secret_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with coturn's static-auth-secret.")
    ] = None,
    cycle: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="From one cycle to the next. [default: 300]")
    ] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Each option may stand in the environment instead, as in PATHGRADE_DATA.
    """
    from server.app import run
    from server.settings import Settings

    run(
        Settings.load(
            data=data,
            agents=agents,
            report=report,
            report_fd=report_fd,
            stun=stun or None,
            turn=turn or None,
            turn_secret_file=turn_secret_file,
            cycle_s=cycle,
        )
    )


@server_app.command(
    "token", epilog=example("pathgrade server token --data /var/lib/pathgrade --seats 10 --expires 7d")
)
def server_token(
    *,
    data: Annotated[
        Path, typer.Option(metavar="DIR", envvar="PATHGRADE_DATA", help="The server's data folder.")
    ],
    seats: Annotated[int, typer.Option(min=1, max=100_000, help="How many agents it lets in.")] = 1,
    expires: Annotated[str, typer.Option(metavar="TIME", help="For how long: 30m, 24h, 7d.")] = "24h",
    json: Json = False,
) -> None:
    """Make a token that lets agents enrol.

    Works while the server runs, and before.
    """
    import msgspec

    from server.state import create_token

    expires_s = _seconds(expires)
    token = create_token(data, seats, expires_s)
    if json:
        return print(msgspec.json.encode({"token": token, "seats": seats, "expires_s": expires_s}).decode())
    return print(token)


@agent_app.command("run", epilog=example("pathgrade agent run --config /etc/pathgrade/agent.toml"))
def agent_run(
    config: Annotated[Path, typer.Option(metavar="FILE", help="TOML file; see docs/config.md.")],
) -> None:
    """Run the agent until SIGTERM or Ctrl-C.

    It enrols, watches TCP sessions, and tests the paths that the server orders.
    """
    from agent.config import load
    from agent.run import run

    run(load(config))


@app.command(epilog=example("pathgrade version"))
def version(*, json: Json = False) -> None:
    """Print the version."""
    from importlib.metadata import version as version_of

    import msgspec

    number = version_of("pathgrade")
    return print(msgspec.json.encode({"version": number}).decode() if json else f"pathgrade {number}")


_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _seconds(text: str) -> int:
    """Read a time such as 30m or 7d."""
    found = re.fullmatch(r"([1-9]\d{0,5})([smhd])", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a time such as 30m, 24h or 7d", param_hint="--expires")
    return int(found[1]) * _UNIT_S[found[2]]


def _client(url: str) -> Client:
    from server.api.client import Client

    return Client(url)


def _print_json(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _show(drawn: RenderableType) -> None:
    from rich.console import Console

    Console(width=_width(), highlight=False).print(drawn)


def _width() -> int:
    """Columns to fill: the terminal's, or COLUMNS where set, or plenty in a pipe."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return PIPE_WIDTH


if __name__ == "__main__":
    main()
