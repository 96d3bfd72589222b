"""TCP sessions, of this host or of the fleet: ``flows``, ``flows show``."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from agent.commands.folder import DEFAULT_DATA, DataFolder
from analytics.command_line import DEFAULT_URL, OWN_PROCESS, Json, Token, example, print_json, show, width

if TYPE_CHECKING:
    from analytics.measurement import Session


class Sort(StrEnum):
    """Orders of this host's sessions: those of ``agent.terminal.SORTS``."""

    BYTES = "bytes"
    RTT = "rtt"
    LOSS = "loss"
    AGE = "age"
    PROCESS = "process"


class Fleet(Protocol):
    """Asks the server for sessions and prints them: the server's side, which no module here may import."""

    def __call__(
        self, url: str, token: str | None, asked: dict[str, str | None], limit: int, *, json: bool
    ) -> None:
        """Print at most ``limit`` sessions that fit what is asked."""


def commands(fleet: Fleet) -> typer.Typer:
    """Make the commands, with what asks the server."""
    made = typer.Typer(name="flows", invoke_without_command=True)

    @made.callback(
        epilog=example(
            "pathgrade flows",
            "pathgrade flows --sort bytes --process Orthanc",
            "pathgrade flows show 1f00c2",
            "pathgrade flows --agent radiologist",
            "pathgrade flows --url http://192.0.2.10:8080 --process Orthanc --json",
        )
    )
    def flows(
        context: typer.Context,
        *,
        data: DataFolder = DEFAULT_DATA,
        url: Annotated[
            str | None,
            typer.Option(
                "--url",
                envvar="PATHGRADE_URL",
                metavar="URL",
                help=f"Ask the server. [default: {DEFAULT_URL}]",
            ),
        ] = None,
        token: Token = None,
        agent: Annotated[
            str | None, typer.Option(metavar="NAME", help="Ask the server: what this agent saw.")
        ] = None,
        process: Annotated[str | None, typer.Option(metavar="COMM", help="Of this process.")] = None,
        remote: Annotated[
            str | None, typer.Option(metavar="ADDRESS", help="With this remote address.")
        ] = None,
        own: Annotated[bool, typer.Option("--own", help="The agents' own sessions too.")] = False,
        sort: Annotated[
            Sort | None, typer.Option(help="This host's: most first. [default: newest first]")
        ] = None,
        limit: Annotated[int, typer.Option(min=1, max=5000, help="At most so many.")] = 50,
        once: Annotated[bool, typer.Option("--once", help="Print one time, do not refresh.")] = False,
        json: Json = False,
    ) -> None:
        """List TCP sessions: this host's, live, or what the fleet's applications saw.

        Without --agent and --url, the agent of this host is asked for each session, open or closed some
        minutes ago; in a terminal the table is refreshed every second, until Ctrl-C. With one of them, the
        server is asked for the sessions of the agents' hosts, summed by process and remote service, newest
        first.
        """
        if context.invoked_subcommand:
            return _refuse_elsewhere(agent)
        asked = {"process": process, "remote": remote, "but": None if own or process else OWN_PROCESS}
        if not _is_server_asked(context, agent, url):
            return _listed(data, asked, sort, limit, once=once, json=json)
        if sort is not None:
            raise typer.BadParameter("the server's rows are newest first", param_hint="--sort")
        return fleet(url or DEFAULT_URL, token, {**asked, "agent": agent}, limit, json=json)

    made.command("show", epilog=example("pathgrade flows show 1f00c2"))(show_one)
    return made


def show_one(
    context: typer.Context,
    session: Annotated[
        str, typer.Argument(metavar="ID", help="Id of a session of this host, or how it begins.")
    ],
    *,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data folder of this host's agent, as before show.")
    ] = None,
    json: Json = False,
) -> None:
    """Tell the TCP life of one session in words.

    What held it up: the network (round trip, window, loss), the sender, the receiver or the application; how
    it connected and ended; whose it was. Only what this host's kernel knows is said.
    """
    from agent import local, terminal
    from analytics.tcp_life import life

    assert context.parent is not None  # the group
    found = local.find((data or context.parent.params["data"]) / local.SOCKET_NAME, session)
    told = life(found)
    if json:
        return print_json({"session": found, "life": told})
    return show(terminal.tell(found, told))


def _refuse_elsewhere(agent: str | None) -> None:
    if agent is not None:
        raise typer.BadParameter("sessions stay on their host: run show there", param_hint="--agent")


def _is_server_asked(context: typer.Context, agent: str | None, url: str | None) -> bool:
    """Tell who is asked: what the command line names wins over what the environment names."""
    source = context.get_parameter_source("data")
    here = source is not None and source.name == "COMMANDLINE"
    if here and agent is not None:
        raise typer.BadParameter("one is of this host, the other of the server", param_hint="--data, --agent")
    return not here and (agent is not None or url is not None)


def _listed(
    data: Path, asked: dict[str, str | None], sort: Sort | None, limit: int, *, once: bool, json: bool
) -> None:
    from contextlib import suppress

    from rich.console import Console

    from agent import local, terminal

    def look(most: int) -> list[Session]:
        most = min(most, limit)
        found = local.ask(data / local.SOCKET_NAME, **asked, limit=local.MOST if sort else most)
        return sorted(found, key=terminal.SORTS[sort])[:most] if sort else found

    if json:
        return print_json(look(limit))
    if once or not sys.stdout.isatty():
        return show(terminal.sessions(look(limit), width()))
    with suppress(KeyboardInterrupt):  # the way out of a live view
        terminal.watch(Console(highlight=False), lambda rows: terminal.sessions(look(rows), width()))
    return None
