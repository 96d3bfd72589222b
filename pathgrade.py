"""The pathgrade command: each command reads its arguments, calls one function and prints.

Imports stand inside the commands: ``pathgrade --help`` is quick, and an agent never loads the server's
libraries. Every part's errors carry ``remedy`` and ``exit_code``; ``main`` prints them all the same way. The
module is long because it is a list.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, Protocol, runtime_checkable

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from analytics.measurement import Session
    from server.api.client import Client

PIPE_WIDTH: Final = 160
"""Columns of a table that no terminal limits: all of them."""

EXIT_INTERRUPTED: Final = 130

OWN_PROCESS: Final = "pathgrade"
"""Command name of agents: their own sessions are left out unless asked for."""


class Sort(StrEnum):
    """Orders of this host's sessions: those of ``agent.terminal.SORTS``."""

    BYTES = "bytes"
    RTT = "rtt"
    LOSS = "loss"
    AGE = "age"
    PROCESS = "process"


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
mesh_app = typer.Typer(help="Tests now, and which paths matter. On the server's host.", no_args_is_help=True)
services_app = typer.Typer(invoke_without_command=True)
flows_app = typer.Typer(invoke_without_command=True)
peers_app = typer.Typer(invoke_without_command=True)
app.add_typer(flows_app, name="flows")
app.add_typer(services_app, name="services")
agent_app.add_typer(peers_app, name="peers")
app.add_typer(server_app, name="server")
app.add_typer(agent_app, name="agent")
app.add_typer(export_app, name="export")
app.add_typer(mesh_app, name="mesh")


@runtime_checkable
class Remedied(Protocol):
    """What every error of every part has."""

    remedy: str
    exit_code: int


def main() -> NoReturn:
    """Run the command; print a known error as people can use it, and exit with its code."""
    try:
        if lean := _lean_agent(sys.argv[1:]):
            agent_run(lean)
        else:
            app(prog_name="pathgrade")
    except Exception as error:
        if not isinstance(error, Remedied):
            raise
        say_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0)


def _lean_agent(words: list[str]) -> Path | None:
    """Read the command line of an agent as its unit writes it; None for any other, which is Typer's to read.

    Typer checks values with pydantic: 12 MB that would stay in a process which runs for months.
    """
    match words:
        case ["agent", "run", "--config", file] if file and not file.startswith("-"):
            return Path(file)
    return None


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
At = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="As it was then: 09:45, 2026-11-25T09:45Z, 2h ago as 2h."),
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


@app.command(
    epilog=example(
        "pathgrade hops radiologist pacs",
        "pathgrade hops --deep pacs.example.org:11112",
        "pathgrade hops --deep 192.0.2.10:443 --tcp --udp --json",
        "pathgrade hops --deep 192.0.2.10 --flows 16",
    )
)
def hops(
    src: Annotated[str | None, typer.Argument(metavar="SRC", help="Agent that sends.")] = None,
    dst: Annotated[str | None, typer.Argument(metavar="DST", help="Agent that receives.")] = None,
    *,
    url: Url = DEFAULT_URL,
    profile: Profile = None,
    deep: Annotated[
        str | None, typer.Option(metavar="HOST[:PORT]", help="Trace from this host to a service instead.")
    ] = None,
    tcp: Annotated[bool, typer.Option("--tcp", help="Deep: by TCP. [default: by all three]")] = False,
    icmp: Annotated[bool, typer.Option("--icmp", help="Deep: by ICMP echo.")] = False,
    udp: Annotated[bool, typer.Option("--udp", help="Deep: by UDP.")] = False,
    flows: Annotated[
        int, typer.Option(min=0, max=64, help="Deep: find load balancing with so many flows, say 16.")
    ] = 0,
    json: Json = False,
) -> None:
    """Show one path hop by hop, or trace to a service from here.

    SRC DST: from the server, where a path's time is, why it has its letter, and why higher rungs of the
    ladder failed.

    --deep: from this host to a real service port (443 if none is named), by TCP SYN, ICMP echo and UDP, and
    where the network treats them differently. Takes some ten seconds, one probe a second to a router; each
    flow of --flows a second more. Needs root or CAP_NET_RAW.
    """
    if deep is not None:
        if src is not None:
            raise typer.BadParameter("one asks the server, one traces from here", param_hint="--deep, SRC")
        return _hops_deep(deep, {"tcp": tcp, "icmp": icmp, "udp": udp}, flows, json=json)
    if src is None or dst is None:
        raise typer.BadParameter("name both agents, or a service with --deep", param_hint="SRC, DST")
    from server.pages import terminal

    detail = _client(url).detail(src, dst, profile)
    if json:
        return _print_json(detail)
    return _show(terminal.hops(detail, detail.forward.grade.profile))


@app.command(
    epilog=example(
        "pathgrade explain pacs radiologist",
        "pathgrade explain pacs radiologist --profile ehr --at 09:45",
        "pathgrade explain pacs radiologist --json | jq '.inputs[]'",
    )
)
def explain(
    src: Annotated[str, typer.Argument(metavar="SRC", help="Agent that sends.")],
    dst: Annotated[str, typer.Argument(metavar="DST", help="Agent that receives.")],
    *,
    url: Url = DEFAULT_URL,
    profile: Profile = None,
    at: At = None,
    json: Json = False,
) -> None:
    """Tell why a path has its letter: every step, with the rule behind it.

    The test that counts, what it measured and from how many samples, the thresholds, what the samples
    support at best and at worst, what is usual, which leg added time or why none is named, and the causes
    that the path shares with others.
    """
    from server.pages import terminal

    told = _client(url).explain(src, dst, profile=profile, at_us=_moment(at, "--at"))
    if json:
        return _print_json(told)
    return _show(terminal.explanation(told))


def _hops_deep(target: str, chosen: dict[str, bool], flows: int, *, json: bool) -> None:
    from agent import deep
    from agent.mesh.treatment import PROTOCOLS

    made = deep.trace(target, [protocol for protocol in PROTOCOLS if chosen[protocol]], flows=flows)
    if json:
        return _print_json(made)
    return _show(deep.shown(made))


DataFolder = Annotated[
    Path,
    typer.Option(
        "--data", envvar="PATHGRADE_AGENT_DATA", metavar="DIR", help="Data folder of this host's agent."
    ),
]


@flows_app.callback(
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
    data: DataFolder = Path("/var/lib/pathgrade-agent"),
    url: Annotated[
        str | None,
        typer.Option(
            "--url", envvar="PATHGRADE_URL", metavar="URL", help=f"Ask the server. [default: {DEFAULT_URL}]"
        ),
    ] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Ask the server: what this agent saw.")
    ] = None,
    process: Annotated[str | None, typer.Option(metavar="COMM", help="Of this process.")] = None,
    remote: Annotated[str | None, typer.Option(metavar="ADDRESS", help="With this remote address.")] = None,
    own: Annotated[bool, typer.Option("--own", help="The agents' own sessions too.")] = False,
    sort: Annotated[
        Sort | None, typer.Option(help="This host's: most first. [default: newest first]")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=5000, help="At most so many.")] = 50,
    once: Annotated[bool, typer.Option("--once", help="Print one time, do not refresh.")] = False,
    json: Json = False,
) -> None:
    """List TCP sessions: this host's, live, or what the fleet's applications saw.

    Without --agent and --url, the agent of this host is asked for each session, open or closed some minutes
    ago; in a terminal the table is refreshed every second, until Ctrl-C. With one of them, the server is
    asked for the sessions of the agents' hosts, summed by process and remote service, newest first.
    """
    if context.invoked_subcommand:
        return _refuse_elsewhere(agent)
    asked = {"process": process, "remote": remote, "but": None if own or process else OWN_PROCESS}
    if not _is_server_asked(context, agent, url):
        return _flows_here(data, asked, sort, limit, once=once, json=json)
    if sort is not None:
        raise typer.BadParameter("the server's rows are newest first", param_hint="--sort")
    return _flows_of_fleet(url or DEFAULT_URL, {**asked, "agent": agent}, limit, json=json)


@flows_app.command("show", epilog=example("pathgrade flows show 1f00c2"))
def flows_show(
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
        return _print_json({"session": found, "life": told})
    return _show(terminal.tell(found, told))


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


def _flows_of_fleet(url: str, asked: dict[str, str | None], limit: int, *, json: bool) -> None:
    from server.pages import terminal

    found = _client(url).flows(**asked, limit=limit)
    if json:
        return _print_json(found)
    return _show(terminal.flows(found, _width()))


def _flows_here(
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
        return _print_json(look(limit))
    if once or not sys.stdout.isatty():
        return _show(terminal.sessions(look(limit), _width()))
    with suppress(KeyboardInterrupt):  # the way out of a live view
        terminal.watch(Console(highlight=False), lambda rows: terminal.sessions(look(rows), _width()))
    return None


class Grouping(StrEnum):
    """What sessions are graded by: ``analytics.usage.By``."""

    PROCESS = "process"
    DESTINATION = "destination"


@app.command(
    epilog=example(
        "pathgrade apps",
        "pathgrade apps --by destination --agent pacs",
        "pathgrade apps --json | jq '.rows[] | select(.grade.letter == \"D\")'",
    )
)
def apps(
    *,
    url: Url = DEFAULT_URL,
    by: Annotated[Grouping, typer.Option(help="Grade processes, or destinations.")] = Grouping.PROCESS,
    agent: Annotated[str | None, typer.Option(metavar="NAME", help="Seen by this agent.")] = None,
    own: Annotated[bool, typer.Option("--own", help="The agents' own sessions too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    json: Json = False,
) -> None:
    """Grade applications by what their own TCP sessions saw in 24 hours.

    The worse of the median round trip and of the share of segments sent again; a letter for each hour, the
    running one last; and whether it was the network at all. No test traffic is sent for it.
    """
    from server.pages import terminal

    made = _client(url).applications(by=by.value, agent=agent, but=None if own else OWN_PROCESS, limit=limit)
    if json:
        return _print_json(made)
    return _show(terminal.applications(made, _width()))


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
    "findings": (
        "Write the shared causes of bad paths, as they are or were at --until.",
        "pathgrade export findings --until 09:45 --out -",
    ),
}
"""What ``export`` writes: help and an example each."""


def _add_export(table: str, help_: str, shown: str) -> None:
    @export_app.command(table, help=help_, epilog=example(shown))
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
        agent: Annotated[str | None, typer.Option(metavar="NAME", help="With this agent at an end.")] = None,
        site: Annotated[str | None, typer.Option(metavar="NAME", help="With this site at an end.")] = None,
        profile: Profile = None,
        url: Url = DEFAULT_URL,
        json: Json = False,
    ) -> None:
        kind = _format(out, format)
        if table == "findings" and since is not None:
            raise typer.BadParameter("findings are of one moment: --until names it", param_hint="--since")
        asked = {"format": kind, "profile": profile, "agent": agent, "site": site}
        spans = {"since_us": _moment(since, "--since"), "until_us": _moment(until, "--until")}
        _export(table, out, url, {**asked, **spans}, json=json)


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


def _export(table: str, out: str, url: str, asked: dict[str, Any], *, json: bool) -> None:
    """Write a file, or to standard output; say where it is and how large."""
    import msgspec

    client = _client(url)
    if out == "-":
        if sys.stdout.isatty() and asked["format"] != Format.CSV:
            raise typer.BadParameter(f"a terminal is no place for {asked['format']}", param_hint="--out")
        client.export_to(sys.stdout.buffer, table, **asked)
        return None
    size = client.export(Path(out), table, **asked)
    if json:
        told = {"file": out, "format": asked["format"], "bytes": size}
        return print(msgspec.json.encode(told).decode())
    return print(f"{out}: {size:,} bytes of {asked['format']}; columns: docs/schema.md")


@mesh_app.command(
    "run",
    epilog=example(
        "pathgrade mesh run radiologist pacs",
        "pathgrade mesh run --all --json | jq '.results[] | select(.rung == \"none\")'",
    ),
)
def mesh_run(
    src: Annotated[str | None, typer.Argument(metavar="SRC", help="Agent at one end.")] = None,
    dst: Annotated[str | None, typer.Argument(metavar="DST", help="Agent at the other end.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every pair of agents that are online.")] = False,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Test one pair, or all, now, in both directions.

    Such a test goes before those of the cycle, and is quicker: no packet trains, few or no hops.
    """
    from server.api.doors import MeshAsk
    from server.api.watching import followed
    from server.pages import terminal

    if every == (src is not None or dst is not None) or (src is None) != (dst is None):
        raise typer.BadParameter("name two agents, or --all", param_hint="SRC DST")
    run = followed(_client(url), MeshAsk(src=src, dst=dst, all=every), sys.stderr)
    if json:
        return _print_json(run)
    return _show(terminal.mesh_run(run, _width()))


@mesh_app.command(
    "mark",
    epilog=example("pathgrade mesh mark pacs", "pathgrade mesh mark pacs radiologist --remove"),
)
def mesh_mark(
    agent: Annotated[str | None, typer.Argument(metavar="AGENT", help="Whose paths matter.")] = None,
    peer: Annotated[str | None, typer.Argument(metavar="PEER", help="Only those to this agent.")] = None,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="They matter no more than others.")] = False,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Mark paths that matter: where the budget has no room for all, they are tested first.

    Without AGENT, list what is marked.
    """
    from server.api.doors import Mark
    from server.pages import terminal

    client = _client(url)
    if agent is None:
        marked = client.marks()
    else:
        marked = client.mark(Mark(agent=agent, peer=peer, important=not remove))
    return _print_json(marked) if json else _show(terminal.marks(marked))


@services_app.callback(
    epilog=example("pathgrade services", "pathgrade services tag pacs 8042 DICOMweb --for pacs")
)
def services(context: typer.Context, *, url: Url = DEFAULT_URL, json: Json = False) -> None:
    """List services: what listens where, and the profile that its users' paths are graded by.

    Agents offer them when they enrol. The sessions of a service count when its paths are graded.
    """
    from server.pages import terminal

    if context.invoked_subcommand:
        return None
    found = _client(url).services()
    return _print_json(found) if json else _show(terminal.services(found, _width()))


@services_app.command(
    "tag",
    epilog=example(
        "pathgrade services tag pacs 8042 DICOMweb --for pacs", "pathgrade services tag pacs 8042 --remove"
    ),
)
def services_tag(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="On whose host it listens.")],
    port: Annotated[int, typer.Argument(metavar="PORT", min=1, max=65535, help="TCP port.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.")] = "",
    *,
    profile: Annotated[
        str, typer.Option("--for", metavar="PROFILE", help="Application profile of its users.")
    ] = "generic",
    remove: Annotated[bool, typer.Option("--remove", help="Take the tag off.")] = False,
    url: Url = DEFAULT_URL,
    json: Json = False,
) -> None:
    """Say what listens on a port of an agent's host. On the server's host."""
    from server.api.doors import ServiceTag
    from server.pages import terminal

    if remove == bool(name):
        raise typer.BadParameter("give the service a NAME, or --remove", param_hint="NAME")
    found = _client(url).tag(ServiceTag(agent=agent, port=port, name=name, profile=profile))
    return _print_json(found) if json else _show(terminal.services(found, _width()))


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
        typer.Option(
            metavar="HOST:PORT", help="STUN responder, UDP; repeatable. [default: 0.0.0.0:3478 and :3479]"
        ),
    ] = None,
    turn: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="TURN server, as turn:HOST:PORT or turns:HOST:PORT; repeatable."),
    ] = None,
    turn_secret_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with coturn's static-auth-secret.")
    ] = None,
    profiles: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Profiles of your own, beside the built-in ones.")
    ] = None,
    cycle: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="From one cycle to the next. [default: 300]")
    ] = None,
    lake_catalog: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="PostgreSQL of a lake, as 'postgres:host=... dbname=...'."),
    ] = None,
    lake_data: Annotated[
        str | None, typer.Option(metavar="DIR", help="The lake's Parquet: a folder, or s3://BUCKET/PREFIX.")
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
            profiles=profiles,
            cycle_s=cycle,
            lake_catalog=lake_catalog,
            lake_data=lake_data,
        )
    )


@server_app.command(
    "rebuild",
    epilog=example("pathgrade server rebuild --data /var/lib/pathgrade"),
)
def server_rebuild(
    *,
    data: Annotated[
        Path, typer.Option(metavar="DIR", envvar="PATHGRADE_DATA", help="The server's data folder.")
    ],
    json: Json = False,
) -> None:
    """Make rollups and state.duckdb anew from the measurements, with the server stopped.

    Nothing that was measured is touched. Rollups of days whose measurements are gone already stay as they
    are. A server makes what it lacks by itself; this is for when you do not trust what it has.
    """
    from analytics import words
    from analytics.store.rebuild import rebuild
    from server.settings import Settings

    settings = Settings.load(data=data)
    made = rebuild(data, limits=settings.limits(), keep=settings.keep(), say=_progress)
    if json:
        return _print_json(made)
    left = f"; rollups of {made.kept_hours} hours kept, whose readings are gone" if made.kept_hours else ""
    readings, hours = words.count(made.rows["readings"], "reading"), words.count(made.hours, "hour")
    return print(f"{readings}, {hours} rolled up, in {made.seconds} s{left}.")


def _progress(line: str) -> None:
    """Say how far something is, beside its output."""
    print(line, file=sys.stderr, flush=True)


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
    replaces: Annotated[
        str, typer.Option(metavar="NAME", help="Only for this agent, reinstalled: its new keys are taken.")
    ] = "",
    json: Json = False,
) -> None:
    """Make a token that lets agents enrol.

    Works while the server runs, and before. A reinstalled agent has new keys, and is refused under its name
    without a token that --replaces it; its peers refuse it too, until each forgets the old key
    (pathgrade agent peers forget NAME).
    """
    import msgspec

    from server.state import create_token

    expires_s = _seconds(expires)
    if replaces and seats != 1:
        raise typer.BadParameter("one agent has one seat", param_hint="--seats, --replaces")
    token = create_token(data, seats, expires_s, replaces=replaces)
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


@agent_app.command(
    "check",
    epilog=example(
        "pathgrade agent check",
        "pathgrade agent check --config /etc/pathgrade/agent.toml --json | jq '.ebpf[] | select(.ok | not)'",
    ),
)
def agent_check(
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
    from ebpf.check import check

    made = survey(load(config) if config else None, check)
    if json:
        _print_json(made)
    else:
        _show(drawn(made))
    raise typer.Exit(made.exit_code)


@agent_app.command("nat", epilog=example("pathgrade agent nat stun:192.0.2.10:3478"))
def agent_nat(
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
        return _print_json(found)
    return print("\n".join(told(found)))


@agent_app.command("identity", epilog=example("pathgrade agent identity >> anchors.toml"))
def agent_identity(
    *,
    data: DataFolder = Path("/var/lib/pathgrade-agent"),
    json: Json = False,
) -> None:
    """Print the identity key of this host's agent.

    The line is one of an identity_anchors file: brought to other hosts by a way that is trusted, nobody can
    pose as this agent there, not even at the first meeting. It holds no secret.
    """
    from agent.identity import read
    from analytics.trust import key_text

    identity = read(data)
    if json:
        return _print_json({"name": identity.name, "key": key_text(identity.public_key)})
    return print(identity.anchor)


@peers_app.callback(epilog=example("pathgrade agent peers", "pathgrade agent peers forget clinic"))
def agent_peers(
    context: typer.Context,
    *,
    data: DataFolder = Path("/var/lib/pathgrade-agent"),
    json: Json = False,
) -> None:
    """List the peers that this host's agent has met, with the identity key pinned for each.

    A peer that shows another key is refused. Needs root, or the agent's user.
    """
    if context.invoked_subcommand:
        return None
    from agent import terminal
    from agent.mesh.peers import KnownPeers

    met = KnownPeers(data).listed()
    if json:
        return _print_json({"peers": met})
    return _show(terminal.peers(met))


@peers_app.command("forget", epilog=example("pathgrade agent peers forget clinic"))
def agent_peers_forget(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Agent that was reinstalled.")],
    *,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data folder of this host's agent, as before forget.")
    ] = None,
    json: Json = False,
) -> None:
    """Unpin a peer's identity key: the next key it shows is taken. The agent need not be stopped.

    Only after you know that the peer was reinstalled: any other change of its key is somebody posing as it.
    """
    from agent.mesh.peers import KnownPeers

    assert context.parent is not None  # the group
    KnownPeers(data or context.parent.params["data"]).forget(name)
    if json:
        return _print_json({"forgotten": name})
    return print(f"forgotten: {name}; the next identity key it shows is pinned")


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


def _moment(text: str | None, option: str) -> int | None:
    """Read a moment; None where the option was not given."""
    import time

    from analytics.moments import EXAMPLES, moment_us

    if text is None:
        return None
    found = moment_us(text, time.time_ns() // 1_000)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a time such as {EXAMPLES}", param_hint=option)
    return found


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
