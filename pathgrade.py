"""The pathgrade command: its parts wired, and every error printed the same way.

Each command stands in a module of ``agent/commands`` or ``server/commands``. Imports stand inside functions
and commands: ``pathgrade --help`` is quick, and an agent never loads the server's libraries. Every part's
errors carry ``remedy`` and ``exit_code``; ``main`` prints them all the same way.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, runtime_checkable

if TYPE_CHECKING:
    import typer

EXIT_INTERRUPTED: Final = 130
EXIT_UNAVAILABLE: Final = 69
EXIT_NO_OUTPUT: Final = 73
OWN: Final = frozenset({"agent", "analytics", "ebpf", "server"})
NO_OUTPUT: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
"""What writing to standard output fails with; a pipe that nobody reads any more ends a command silently."""


@runtime_checkable
class Remedied(Protocol):
    """What every error of every part has."""

    remedy: str
    exit_code: int


def main() -> NoReturn:
    """Run the command; print a known error as people can use it, and exit with its code."""
    try:
        _run()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        if error.filename is not None or error.errno not in NO_OUTPUT:
            raise
        _give_up_output(error)
    except ModuleNotFoundError as error:
        _say_absent(error)
        sys.exit(EXIT_UNAVAILABLE)
    except Exception as error:
        if not isinstance(error, Remedied):
            raise
        say_error(error)
        sys.exit(error.exit_code)
    sys.exit(0)


def _run() -> None:
    try:
        if lean := _lean_agent(sys.argv[1:]):
            agent_run(lean)
        else:
            command_line()(prog_name="pathgrade")
    finally:
        if sys.stdout is not None:  # closed by who started this
            sys.stdout.flush()  # here, where what fails can be said


def _give_up_output(error: OSError) -> NoReturn:
    """Say that standard output takes no more, and keep Python from trying once more at its exit."""
    print(f"error: write the output: {error.strerror}", file=sys.stderr)
    print("  try: free some space there, or send it elsewhere", file=sys.stderr)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(EXIT_NO_OUTPUT)


def _say_absent(error: ModuleNotFoundError) -> None:
    """Say that a library is not here: the agent's package alone has not those of the server."""
    if error.name is None or error.name.partition(".")[0] in OWN:
        raise error
    print(f"error: {error.name} is not installed: this host has the agent's part alone", file=sys.stderr)
    print("  try: run it on the server, or: apt install pathgrade-server", file=sys.stderr)


def _lean_agent(words: list[str]) -> Path | None:
    """Read the command line of an agent as its unit writes it; None for any other, which is Typer's to read.

    Typer checks values with pydantic: with Typer itself 17 MB that would stay in a process which runs for
    months.
    """
    match words:
        case ["agent", "run", "--config", file] if file and not file.startswith("-"):
            return Path(file)
    return None


def agent_run(config: Path) -> None:
    """Run the agent as its file says."""
    from agent.config import load
    from agent.run import run

    run(load(config))


def command_line() -> typer.Typer:
    """Put the commands together, in the order of the help.

    A command that both sides have a part in is given the other side's: neither imports the other.
    """
    import typer

    from agent.commands import agent, deep, flows
    from agent.commands import doctor as agent_doctor
    from server.commands import (
        alerts,
        audit,
        complete,
        control,
        doctor,
        export,
        fleet,
        history,
        hops,
        mesh,
        paths,
        policy,
        receipt,
        server,
        services,
        sessions,
        version,
    )

    app = typer.Typer(
        help="Grades every network path between your hosts, and names the leg that slows it.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for commands in (
        fleet.commands,
        audit.commands,
        paths.commands,
        history.commands,
        hops.commands(deep.traced),
        flows.commands(sessions.flows),
        sessions.commands,
        services.commands,
        mesh.commands,
        control.commands,
        policy.commands,
        alerts.commands,
        export.commands,
        receipt.commands,
        server.commands,
        agent.commands,
        doctor.commands(agent_doctor.checks),
        complete.commands,
        version.commands,
    ):
        app.add_typer(commands)
    return app


def say_error(error: Remedied) -> None:
    """Print what went wrong and what to try, one way out to a line."""
    print(f"error: {error}", file=sys.stderr)
    for place, way in enumerate(error.remedy.splitlines()):
        print(f"  try: {way}" if place == 0 else f"  or:  {way}", file=sys.stderr)


if __name__ == "__main__":
    main()
