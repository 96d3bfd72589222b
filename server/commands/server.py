"""The server itself: ``server``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analytics.command_line import Json, example, print_json, progress, seconds
from server.commands import accounts, enrolled

commands = typer.Typer(name="server", help="The server: collects, grades and shows.", no_args_is_help=True)


@commands.command("run", epilog=example("pathgrade server run --data /var/lib/pathgrade"))
def run(
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
    alerts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Who is told of alerts; see docs/alerts.md.")
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
    from server import app
    from server.settings import Settings

    app.run(
        Settings.load(
            data=data,
            agents=agents,
            report=report,
            report_fd=report_fd,
            stun=stun or None,
            turn=turn or None,
            turn_secret_file=turn_secret_file,
            profiles=profiles,
            alerts=alerts,
            cycle_s=cycle,
            lake_catalog=lake_catalog,
            lake_data=lake_data,
        )
    )


@commands.command(
    "rebuild",
    epilog=example("pathgrade server rebuild --data /var/lib/pathgrade"),
)
def rebuild(
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
    from analytics.store import rebuild as rebuilding
    from server.settings import Settings

    settings = Settings.load(data=data)
    made = rebuilding.rebuild(data, limits=settings.limits(), keep=settings.keep(), say=progress)
    if json:
        return print_json(made)
    left = f"; rollups of {made.kept_hours} hours kept, whose readings are gone" if made.kept_hours else ""
    readings, hours = words.count(made.rows["readings"], "reading"), words.count(made.hours, "hour")
    return print(f"{readings}, {hours} rolled up, in {made.seconds} s{left}.")


@commands.command(
    "token", epilog=example("pathgrade server token --data /var/lib/pathgrade --seats 10 --expires 7d")
)
def token(
    *,
    data: Annotated[
        Path, typer.Option(metavar="DIR", envvar="PATHGRADE_DATA", help="The server's data folder.")
    ],
    seats: Annotated[int, typer.Option(min=1, max=100_000, help="How many agents it lets in.")] = 1,
    expires: Annotated[str, typer.Option(metavar="TIME", help="For how long: 30m, 24h, 7d.")] = "24h",
    replaces: Annotated[
        str, typer.Option(metavar="NAME", help="Only for this agent, reinstalled: its new keys are taken.")
    ] = "",
    tenant: Annotated[str, typer.Option(metavar="NAME", help="They belong to this tenant.")] = "default",
    json: Json = False,
) -> None:
    """Make a token that lets agents enrol.

    It names the server's authority: an agent gives it to no other server.

    Works while the server runs, and before. A reinstalled agent has new keys, and is refused under its name
    without a token that --replaces it; its peers refuse it too, until each forgets the old key
    (pathgrade agent peers forget NAME).
    """
    import msgspec

    from server.state import create_token

    expires_s = seconds(expires)
    if replaces and seats != 1:
        raise typer.BadParameter("one agent has one seat", param_hint="--seats, --replaces")
    made = create_token(data, seats, expires_s, replaces=replaces, tenant=tenant)
    if json:
        return print(msgspec.json.encode({"token": made, "seats": seats, "expires_s": expires_s}).decode())
    return print(made)


commands.add_typer(enrolled.commands)
commands.add_typer(accounts.account)
commands.add_typer(accounts.tenant)
commands.command(
    "access-token",
    epilog=example(
        "pathgrade server access-token prometheus --data /var/lib/pathgrade",
        "pathgrade server access-token noc --scope operate --expires 90d --data /var/lib/pathgrade",
        "pathgrade server access-token --list --data /var/lib/pathgrade",
        "pathgrade server access-token noc --revoke --data /var/lib/pathgrade",
    ),
)(accounts.access_token)
