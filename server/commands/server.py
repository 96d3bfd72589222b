"""The server itself: ``server``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analytics.command_line import Json, example, print_json, progress, seconds
from analytics.memory import one_pool
from server.commands import accounts, authority, enrolled
from server.commands.asking import Data, Env, data_of, settings_of

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
    env: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="More settings, NAME=VALUE a line. systemd gives the package's."),
    ] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Each option may stand in the environment instead, as in PATHGRADE_DATA, or in the file of --env. What is
    given here counts most, then the environment, then the file.
    """
    one_pool()
    from server import app
    from server.env_file import take_env
    from server.settings import Settings

    if env is not None:
        take_env(env)
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
    data: Data = None,
    env: Env = None,
    json: Json = False,
) -> None:
    """Make rollups and state.duckdb anew from the measurements, with the server stopped.

    Nothing that was measured is touched. Rollups of days whose measurements are gone already stay as they
    are. A server makes what it lacks by itself; this is for when you do not trust what it has.
    """
    from analytics import words
    from analytics.store import rebuild as rebuilding
    from server.parts import storage_of

    settings = settings_of(data, env)
    limits, keep, storage = settings.limits(), settings.keep(), storage_of(settings)
    made = rebuilding.rebuild(settings.data, limits=limits, keep=keep, storage=storage, say=progress)
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
    data: Data = None,
    env: Env = None,
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
    made = create_token(data_of(data, env), seats, expires_s, replaces=replaces, tenant=tenant)
    if json:
        return print(msgspec.json.encode({"token": made, "seats": seats, "expires_s": expires_s}).decode())
    return print(made)


@commands.command(
    "backup",
    epilog=example(
        "pathgrade server backup backup.tar --data /var/lib/pathgrade",
        "pathgrade server backup today.tar --data /var/lib/pathgrade --json | jq .size",
    ),
)
def backup(
    target: Annotated[
        Path, typer.Argument(metavar="FILE|DIR", help="A new file, or a folder to put one into.")
    ],
    *,
    data: Data = None,
    env: Env = None,
    json: Json = False,
) -> None:
    """Write everything that the server keeps into one file, beside the running server.

    What agents were told is kept when it begins is in it. The file has the server's keys: keep it as you
    would keep those. What it does not have, as a lake, is told.
    """
    from analytics import words
    from server.backup import back_up

    made = back_up(settings_of(data, env), target, say=progress)
    for lacking in made.not_in_it:
        progress(f"NOT in it: {lacking}")
    if json:
        return print_json(made)
    return print(
        f"{made.file}: {words.count(made.files, 'file')}, {words.size(made.size)}, in {made.seconds} s"
    )


@commands.command(
    "restore", epilog=example("pathgrade server restore today.tar --data /var/lib/pathgrade-new")
)
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As pathgrade server backup wrote it.")],
    *,
    data: Annotated[
        Path,
        typer.Option(metavar="DIR", envvar="PATHGRADE_DATA", help="A folder that is not there, or is empty."),
    ],
    json: Json = False,
) -> None:
    """Make a data folder from a backup; every byte is checked before the folder has its name.

    Agents go on as they are: they know the server by its keys, which are in the backup.
    """
    from analytics import words
    from server import restore as restoring
    from server.pages import text

    made = restoring.restore(file, data, say=progress)
    for lacking in made.not_in_it:
        progress(f"NOT in it: {lacking}")
    if json:
        return print_json(made)
    told = f"{words.count(made.files, 'file')}, {words.size(made.size)}"
    return print(f"{made.data}: {told}, as it was at {text.iso(made.begun_us)}")


@commands.command("audit-check", epilog=example("pathgrade server audit-check --data /var/lib/pathgrade"))
def audit_check(
    *,
    data: Data = None,
    env: Env = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The server's key, kept elsewhere. [default: that of the folder]"),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(metavar="CHAIN:SEQ:HASH", help="What an earlier check told to note; repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Check the audit rows of all tenants where they lie, beside a running server too.

    Exits with 1 if anything is wrong. Whoever can write the folder could have put a key of their own there:
    --key takes the one that you kept.
    """
    from analytics.trust import key_bytes
    from server.audit_check import checked
    from server.commands.audit import noted, tell
    from server.signed import key_of

    tell(checked(data_of(data, env), key_bytes(key_of(key)) if key else None, noted(head or [])), json=json)


commands.add_typer(enrolled.commands)
commands.add_typer(authority.commands)
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
