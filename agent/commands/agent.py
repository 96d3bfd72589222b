"""The agent itself: ``agent``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.commands import enrol, peers, switches
from agent.commands.folder import DEFAULT_DATA, DataFolder
from analytics.command_line import Json, example, print_json, show

commands = typer.Typer(name="agent", help="The agent: measures, on each host.", no_args_is_help=True)
commands.add_typer(peers.commands)
for group in switches.GROUPS:
    commands.add_typer(switches.commands(group))


@commands.command("run", epilog=example("pathgrade agent run --config /etc/pathgrade/agent.toml"))
def run(
    config: Annotated[Path, typer.Option(metavar="FILE", help="TOML file; see docs/config.md.")],
) -> None:
    """Run the agent until SIGTERM or Ctrl-C.

    It enrols, watches TCP sessions, and tests the paths that the server orders.
    """
    from agent import run as running
    from agent.config import load

    running.run(load(config))


commands.command(
    "enrol",
    epilog=example(
        "pathgrade agent enrol --server https://pathgrade.example:8440 --token pgt1.SECRET.PIN",
        "pathgrade agent enrol --server https://pathgrade.example:8440 --token - --site hospital --dry-run",
    ),
)(enrol.enrol)


@commands.command(
    "check",
    epilog=example(
        "pathgrade agent check",
        "pathgrade agent check --config /etc/pathgrade/agent.toml --json | jq '.ebpf[] | select(.ok | not)'",
    ),
)
def check(
    *,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The agent's TOML file. [default: the defaults]")
    ] = None,
    json: Json = False,
) -> None:
    """Say whether passive capture by eBPF would work here.

    Loads and attaches every program for a moment, and names what to do where one is refused. Also: who the
    agent would run as, its data folder, and the fallback. Exits with 77 if eBPF would not work.
    """
    from agent.check import drawn, survey
    from agent.config import load
    from ebpf import check as ebpf

    made = survey(load(config) if config else None, ebpf.check)
    if json:
        print_json(made)
    else:
        show(drawn(made))
    raise typer.Exit(made.exit_code)


@commands.command("nat", epilog=example("pathgrade agent nat stun:192.0.2.10:3478"))
def nat(
    stun: Annotated[str, typer.Argument(metavar="URL", help="A STUN server, as stun:HOST:PORT.")],
    *,
    lifetime: Annotated[
        bool, typer.Option("--lifetime", help="Also how long an idle mapping lasts: up to 12 minutes.")
    ] = False,
    json: Json = False,
) -> None:
    """Say what the NAT in front of this host does (RFC 5780).

    How it maps and what it lets in decide whether two hosts can reach each other without a relay. With a STUN
    server on one address and two ports less can be told than with two addresses.
    """
    from agent.mesh.survey import look, told

    found = look(stun, lifetime=lifetime)
    if json:
        return print_json(found)
    return print("\n".join(told(found)))


@commands.command("identity", epilog=example("pathgrade agent identity >> anchors.toml"))
def identity(
    *,
    data: DataFolder = DEFAULT_DATA,
    json: Json = False,
) -> None:
    """Print the identity key of this host's agent.

    The line is one of an identity_anchors file: brought to other hosts by a way that is trusted, nobody can
    pose as this agent there, not even at the first meeting. It holds no secret.
    """
    from agent.identity import read
    from analytics.trust import key_text

    own = read(data)
    if json:
        return print_json({"name": own.name, "key": key_text(own.public_key)})
    return print(own.anchor)
