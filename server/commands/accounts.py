"""Who may do what, on the server itself: ``server account``, ``server access-token``, ``server tenant``.

They change the server's state beside a running server: who may write there needs no password. From elsewhere,
the page ``/settings/access`` and the API do the same for admins.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from analytics.command_line import Json, example, print_json, seconds, show, width
from server.commands.asking import Data, Env, data_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

account = typer.Typer(name="account", help="The accounts of people.", no_args_is_help=True)
tenant = typer.Typer(
    name="tenant", help="Tenants: each has agents, reports and accounts of its own.", no_args_is_help=True
)

COMMAND: Final = "the command line"
"""Who did it, in the audit log."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name to log in with.")]
TokenName = Annotated[str | None, typer.Argument(metavar="NAME", help="What the token is for.")]
Tenant = Annotated[str, typer.Option(metavar="NAME", help="Of this tenant.")]
Everywhere = Annotated[bool, typer.Option("--all-tenants", help="Of all tenants, as for an MSP's staff.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Its first line is the password. [default: ask on the terminal]"),
]


class Role(StrEnum):
    """Roles: ``server.accounts.roles.Role``, which a command's help need not load."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Scope(StrEnum):
    """Scopes of tokens: ``server.accounts.roles.TokenScope``."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


@account.command(
    "add",
    epilog=example(
        "pathgrade server account add ada --role admin --data /var/lib/pathgrade",
        "pathgrade server account add msp-ben --role operator --all-tenants --data /var/lib/pathgrade",
    ),
)
def add(
    name: Name,
    *,
    data: Data = None,
    env: Env = None,
    role: Annotated[Role, typer.Option(help="Viewers read, operators also test and switch.")] = Role.VIEWER,
    tenant: Tenant = "default",
    all_tenants: Everywhere = False,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Make an account. From the first one on, everybody logs in.

    Works while the server runs, and before.
    """
    from server.accounts.beside import books
    from server.accounts.people import NewAccount

    home, password = _home(tenant, everywhere=all_tenants), _password(password_file)
    new = _read({"name": name, "role": role, "tenant": home, "password": password}, NewAccount)
    with books(data_of(data, env)) as opened:
        made = opened.people.add(new, by=COMMAND)
    return print_json(made) if json else print(f"{made.name}: {made.role} of {_of(made.tenant)}")


@account.command("list", epilog=example("pathgrade server account list --data /var/lib/pathgrade"))
def accounts(*, data: Data = None, env: Env = None, json: Json = False) -> None:
    """List the accounts."""
    from server.accounts.beside import books

    with books(data_of(data, env)) as opened:
        found = opened.people.all()
    rows = [(one.name, _of(one.tenant), one.role, "disabled" if one.disabled else "") for one in found]
    return print_json(found) if json else _table(("name", "tenant", "role", ""), rows)


@account.command(
    "set",
    epilog=example(
        "pathgrade server account set ada --role viewer --data /var/lib/pathgrade",
        "pathgrade server account set ada --password --data /var/lib/pathgrade",
        "pathgrade server account set ada --disable --data /var/lib/pathgrade",
    ),
)
def change(
    name: Name,
    *,
    data: Data = None,
    env: Env = None,
    role: Annotated[Role | None, typer.Option(help="Another role.")] = None,
    password: Annotated[bool, typer.Option("--password", help="Another password.")] = False,
    password_file: PasswordFile = None,
    disable: Annotated[bool | None, typer.Option("--disable/--enable", help="May it log in?")] = None,
    json: Json = False,
) -> None:
    """Change an account: its role, its password, or whether it may log in.

    A new password, or none allowed, ends its sessions. A forgotten password is set anew here.
    """
    from server.accounts.beside import books
    from server.accounts.people import AccountChange

    chosen = _password(password_file) if password or password_file else None
    wanted = _read({"role": role, "password": chosen, "disabled": disable}, AccountChange)
    with books(data_of(data, env)) as opened:
        made = opened.people.change(name, wanted, by=COMMAND)
    state = ", disabled" if made.disabled else ""
    return print_json(made) if json else print(f"{made.name}: {made.role} of {_of(made.tenant)}{state}")


@account.command("remove", epilog=example("pathgrade server account remove ada --data /var/lib/pathgrade"))
def remove(name: Name, *, data: Data = None, env: Env = None, json: Json = False) -> None:
    """Remove an account, and end its sessions."""
    from server.accounts.beside import books

    with books(data_of(data, env)) as opened:
        opened.people.remove(name, by=COMMAND)
    return print_json({"removed": name}) if json else print(f"removed: {name}")


@tenant.command("add", epilog=example("pathgrade server tenant add north-clinic --data /var/lib/pathgrade"))
def add_tenant(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and -.")],
    *,
    data: Data = None,
    env: Env = None,
    json: Json = False,
) -> None:
    """Add a tenant. Its agents enrol with a token of its own: pathgrade server token --tenant NAME."""
    from server.accounts.beside import books

    with books(data_of(data, env)) as opened:
        opened.tenants.add(name, by=COMMAND)
    return print_json({"tenant": name}) if json else print(f"tenant: {name}")


@tenant.command("list", epilog=example("pathgrade server tenant list --data /var/lib/pathgrade"))
def tenants(*, data: Data = None, env: Env = None, json: Json = False) -> None:
    """List the tenants."""
    from server.accounts.beside import books

    with books(data_of(data, env)) as opened:
        found = opened.tenants.names()
    return print_json(found) if json else print("\n".join(found))


def access_token(
    name: TokenName = None,
    *,
    data: Data = None,
    env: Env = None,
    scope: Annotated[
        Scope, typer.Option(help="What it may do: operate includes read, admin all.")
    ] = Scope.READ,
    tenant: Tenant = "default",
    all_tenants: Everywhere = False,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="For how long: 24h, 90d. [default: until revoked]")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the tokens instead.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="End the token NAME instead.")] = False,
    json: Json = False,
) -> None:
    """Make a token for a program, or for the command line elsewhere: it is printed once.

    A command takes it from PATHGRADE_TOKEN or ~/.config/pathgrade/token; a program sends it as
    Authorization: Bearer. Works while the server runs, and before.
    """
    from server.accounts.beside import books
    from server.accounts.tokens import create_access_token

    home = _home(tenant, everywhere=all_tenants)
    if listed:
        with books(data_of(data, env)) as opened:
            return _show_tokens(opened.tokens.all(), json=json)
    if name is None:
        raise typer.BadParameter("say what the token is for, or --list", param_hint="NAME")
    if revoke:
        with books(data_of(data, env)) as opened:
            opened.tokens.revoke(home, name, by=COMMAND)
        return print_json({"revoked": name}) if json else print(f"revoked: {name}")
    expires_s = seconds(expires) if expires is not None else None
    made = create_access_token(data_of(data, env), name, scope=scope, tenant=home, expires_s=expires_s)
    return print_json({"token": made, "scope": scope, "tenant": home}) if json else print(made)


def _show_tokens(found: Sequence[Any], *, json: bool) -> None:
    if json:
        return print_json(found)
    rows = [
        (
            one.name,
            _of(one.tenant),
            one.scope,
            one.made_by,
            _when(one.seen_us, "never"),
            _when(one.expires_us),
        )
        for one in found
    ]
    return _table(("name", "tenant", "scope", "made by", "last used", "ends"), rows)


def _when(at_us: int | None, none: str = "when revoked") -> str:
    from server.pages.text import iso

    return none if at_us is None else iso(at_us)


def _home(tenant: str, *, everywhere: bool) -> str:
    from server.api.access import ALL_TENANTS

    return ALL_TENANTS if everywhere else tenant


def _of(home: str) -> str:
    return "all tenants" if home == "*" else home


def _password(file: Path | None) -> str:
    """Read a new password: from a file, or twice from the terminal."""
    from server.accounts.beside import password_in

    if file is not None:
        return password_in(file)
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to ask on", param_hint="--password-file")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt="The same again"))


def _read(values: dict[str, Any], kind: type[msgspec.Struct]) -> Any:
    import msgspec

    from server.errors import DemandError

    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise DemandError(str(error), remedy="names are letters, digits and . _ @ -") from error


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.table import Table

    drawn = Table(*head, box=None, pad_edge=False, header_style="dim", width=None if rows else width())
    for row in rows:
        drawn.add_row(*map(str, row))
    return show(drawn)
