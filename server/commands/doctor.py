"""What works, what does not, what to do: ``doctor``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from analytics.command_line import DEFAULT_URL, Json, Token, Url, example, print_json, show, width
from server.commands.asking import Env, client

if TYPE_CHECKING:
    from analytics.checkup import Check

AGENT_CONFIG: Final = Path("/etc/pathgrade/agent.toml")
SERVER_DATA: Final = Path("/var/lib/pathgrade")

OfAgent = Callable[[Path], "list[Check]"]
"""Looks at the agent that a file configures: the agent's side, which no module here may import."""


def commands(of_agent: OfAgent) -> typer.Typer:
    """Make the command, with what looks at this host's agent."""
    made = typer.Typer()

    @made.command(
        epilog=example(
            "pathgrade doctor",
            "pathgrade doctor --config /etc/pathgrade/agent.toml --data /var/lib/pathgrade",
            "pathgrade doctor --json | jq '.checks[] | select(.state != \"ok\")'",
        )
    )
    def doctor(
        context: typer.Context,
        *,
        config: Annotated[
            Path, typer.Option(metavar="FILE", help="This host's agent, where there is one.")
        ] = AGENT_CONFIG,
        data: Annotated[
            Path,
            typer.Option(
                envvar="PATHGRADE_DATA", metavar="DIR", help="This host's server, where there is one."
            ),
        ] = SERVER_DATA,
        env: Env = None,
        url: Url = DEFAULT_URL,
        token: Token = None,
        json: Json = False,
    ) -> None:
        """Check everything and say what to do.

        Of this host's agent, if it has one: configuration, enrolment, files, clock, the way to its server,
        and whether eBPF would work. Of this host's server, if it has one: data folder, room, listeners, STUN,
        TURN. Of any server: whether it answers, its agents, its cycles, paths that are not fresh.

        Exits with 1 if anything is wrong. Nothing is changed; eBPF programs are loaded for a moment.
        """
        import logging

        from analytics.checkup import Checkup, drawn
        from server import fleet_doctor

        logging.getLogger().addHandler(logging.NullHandler())  # what parts would log is in the checks
        checks: list[Check] = []
        if _is_there(config) or _is_given(context, "config"):
            checks += of_agent(config)
        if _is_there(data) or _is_given(context, "data"):
            from server import doctor as of_server  # not where the agent's package is alone: no engine there

            checks += of_server.checks(data, env)
        checkup = Checkup(checks=[*checks, *fleet_doctor.checks(client(url, token))])
        if json:
            print_json(checkup)
        else:
            show(drawn(checkup, width()))
        raise typer.Exit(checkup.exit_code)

    return made


def _is_there(path: Path) -> bool:
    """Look for it; what is in a folder that this user may not enter is said by its check."""
    try:
        return path.exists()
    except PermissionError:
        return True


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")
