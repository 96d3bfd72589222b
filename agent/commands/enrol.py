"""Make this host's agent one of a server's: ``agent enrol``."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from analytics.command_line import show, width

if TYPE_CHECKING:
    from agent.joining import Plan
    from analytics.checkup import Check

CONFIG: Final = Path("/etc/pathgrade/agent.toml")
STANDARD_INPUT: Final = "-"
NOT_STARTED: Final = frozenset({"running", "enrolment"})
"""Checks that mean nothing before the agent is started."""


def enrol(
    *,
    server: Annotated[str, typer.Option(metavar="URL", help="The server's listener for agents.")],
    token: Annotated[
        str,
        typer.Option(metavar="TOKEN", help="From: pathgrade server token. - reads it from standard input."),
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="This agent. [default: this host's name]")
    ] = None,
    site: Annotated[
        str | None, typer.Option(metavar="NAME", help="Site that this host stands in. [default: default]")
    ] = None,
    config: Annotated[Path, typer.Option(metavar="FILE", help="The agent's TOML file.")] = CONFIG,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Its data folder. [default: /var/lib/pathgrade-agent]")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
) -> None:
    """Make this host's agent one of a server's, in one line.

    Writes the configuration (other keys in it stay) and the token, for the agent's user only. Where systemd
    has the agent's unit: enables and starts it, and waits until the agent is enrolled. Then checks this host,
    as doctor does. May be repeated: what is right already stays.

    Exits with 1 if the agent does not enrol, or anything is wrong.
    """
    from agent import joining

    plan = joining.planned(
        config.read_text() if config.exists() else None,
        joining.Wish(server, name, site, data),
        config=config,
        token=_token(token),
        host=socket.gethostname(),
    )
    if dry_run:
        return _say_plan(plan, unit=joining.has_unit())
    raise typer.Exit(_done(plan))


def _token(given: str) -> str:
    """Read it from standard input where it is ``-``: a command line is seen in ps."""
    token = sys.stdin.readline().strip() if given == STANDARD_INPUT else given
    if not token:
        raise typer.BadParameter("it is empty", param_hint="--token")
    return token


def _say_plan(plan: Plan, *, unit: bool) -> None:
    from agent.joining import UNIT

    print(f"{'would write' if plan.changes else 'has already'} {plan.config}:\n")
    print("".join(f"    {line}\n" for line in plan.text.splitlines()))
    print(f"would write the token to {plan.token_file}")
    print(f"would enable and start {UNIT}" if unit else _by_hand(plan))


def _done(plan: Plan) -> int:
    """Do it; returns the exit code."""
    from agent import joining
    from agent.config import load
    from analytics.checkup import State

    changed = joining.written(plan, "pathgrade")
    configured = load(plan.config)
    changed += joining.forget_another(configured, plan.token)
    for done in changed:
        print(done)
    started = joining.has_unit()
    if started:
        print(*joining.start(again=bool(changed)), sep="\n")
        if joining.wait_enrolled(configured):
            print(f"enrolled: {configured.name} at {configured.site}, by {configured.server}")
    else:
        print(_by_hand(plan))
    checks = _checks(plan.config, started=started)
    _say_checks(checks)
    return int(any(check.state is State.WRONG for check in checks))


def _by_hand(plan: Plan) -> str:
    return f"no systemd unit here: start it with: pathgrade agent run --config {plan.config}"


def _checks(config: Path, *, started: bool) -> list[Check]:
    import logging

    from agent.doctor import checks

    logging.getLogger().addHandler(logging.NullHandler())  # what parts would log is in the checks
    return [check for check in checks(config) if started or check.name not in NOT_STARTED]


def _say_checks(checks: list[Check]) -> None:
    from analytics.checkup import Checkup, State, drawn

    if all(check.state is State.OK for check in checks):
        print(f"this host: {len(checks)} checks, all well")
    else:
        show(drawn(Checkup(checks=checks), width()))
