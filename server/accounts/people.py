"""The accounts of people: rows in the server's state, each change with its audit row in one transaction.

``by`` is who changes it, for the audit log; ``within`` is the home of who does, and what lies outside of it
is as if it were not there. Commands work beside a running server, which sees the change within a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from analytics.clock import now_us
from server.accounts.passwords import Passwords, check_password
from server.accounts.roles import AccountName, Home, Role, is_within
from server.accounts.rows import audited, changing, check_home, reading
from server.api.access import ALL_TENANTS
from server.database import ACCOUNTS, DEFAULT_TENANT, SESSIONS
from server.errors import DemandError

REMEDY: Final = "pathgrade server account list --data DIR, and the page /settings/access, list them"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One account, as it is told: without its password."""

    name: AccountName
    tenant: Home
    role: Role
    disabled: bool = False
    made_us: int


class NewAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/accounts``."""

    name: AccountName
    password: str
    role: Role = Role.VIEWER
    tenant: Home = DEFAULT_TENANT


class AccountChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``PATCH /v1/accounts/{name}``; null: as it is."""

    role: Role | None = None
    disabled: bool | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """An account with what its password is checked against."""

    account: Account
    password: str = field(repr=False)


class People:
    """The accounts in one state file. Methods block for a disk write, or for a password's hash."""

    def __init__(self, engine: sa.Engine, passwords: Passwords) -> None:
        self._engine = engine
        self._passwords = passwords

    def any(self) -> bool:
        """Tell whether there is an account."""
        with reading(self._engine) as connection:
            return connection.execute(sa.select(ACCOUNTS.c.name).limit(1)).one_or_none() is not None

    def kept(self, name: str) -> Kept | None:
        """Find an account, however its name is capitalised."""
        with reading(self._engine) as connection:
            return _find(connection, name)

    def all(self, within: str = ALL_TENANTS) -> list[Account]:
        """List the accounts, by name."""
        wanted = sa.select(ACCOUNTS).order_by(ACCOUNTS.c.name)
        with reading(self._engine) as connection:
            found = [_account(row) for row in connection.execute(wanted)]
        return [account for account in found if is_within(within, account.tenant)]

    def add(
        self, new: NewAccount, *, by: str, within: str = ALL_TENANTS, only_first: bool = False
    ) -> Account:
        """Add an account; raises ``DemandError``. With ``only_first``, only where there is none yet."""
        check_password(new.password, new.name)
        if not is_within(within, new.tenant):
            raise DemandError(
                f"accounts of {new.tenant!r} are not yours to make", remedy=f"tenant {within!r}"
            )
        kept = self._passwords.hash(new.password)
        account = Account(name=new.name, tenant=new.tenant, role=new.role, made_us=now_us())
        with changing(self._engine) as connection:
            check_home(connection, new.tenant)
            _check_first(connection, only_first=only_first)
            if _find(connection, new.name) is not None:
                raise DemandError(f"an account is called {new.name!r} already", remedy="choose another name")
            connection.execute(
                ACCOUNTS.insert().values(**msgspec.structs.asdict(account), password=kept),
            )
            audited(
                connection,
                home=new.tenant,
                by=by,
                action="account",
                subject=new.name,
                detail=f"made role={new.role} tenant={new.tenant}",
            )
        return account

    def change(self, name: str, change: AccountChange, *, by: str, within: str = ALL_TENANTS) -> Account:
        """Change an account, and end its sessions where it can do less now; raises ``DemandError``."""
        values: dict[str, Any] = {
            key: value for key in ("role", "disabled") if (value := getattr(change, key)) is not None
        }
        if change.password is not None:
            check_password(change.password, name)
            values["password"] = self._passwords.hash(change.password)
        if not values:
            raise DemandError("nothing is to be changed", remedy="name a role, a password, or disable it")
        with changing(self._engine) as connection:
            before = _within(connection, name, within)
            connection.execute(ACCOUNTS.update().where(ACCOUNTS.c.name == before.name).values(values))
            _check_admin_left(connection, before)
            if change.disabled or change.password is not None:
                connection.execute(SESSIONS.delete().where(_of(before.name)))
            audited(
                connection,
                home=before.tenant,
                by=by,
                action="account",
                subject=before.name,
                detail=_said(change),
            )
            return _within(connection, name, within)

    def remove(self, name: str, *, by: str, within: str = ALL_TENANTS) -> None:
        """Remove an account and its sessions; raises ``DemandError``. Tokens stay: they are the tenant's."""
        with changing(self._engine) as connection:
            before = _within(connection, name, within)
            connection.execute(ACCOUNTS.delete().where(ACCOUNTS.c.name == before.name))
            _check_admin_left(connection, before)
            connection.execute(SESSIONS.delete().where(_of(before.name)))
            audited(
                connection, home=before.tenant, by=by, action="account", subject=before.name, detail="removed"
            )

    def renew_hash(self, name: str, password: str) -> None:
        """Hash a password that was right once more, with the parameters of today."""
        kept = self._passwords.hash(password)
        with changing(self._engine) as connection:
            connection.execute(ACCOUNTS.update().where(ACCOUNTS.c.name == name).values(password=kept))


def _find(connection: sa.Connection, name: str) -> Kept | None:
    same = sa.func.lower(ACCOUNTS.c.name) == name.lower()
    row = connection.execute(sa.select(ACCOUNTS).where(same)).one_or_none()
    return Kept(_account(row), row.password) if row is not None else None


def _within(connection: sa.Connection, name: str, within: str) -> Account:
    found = _find(connection, name)
    if found is None or not is_within(within, found.account.tenant):
        raise DemandError(f"no account is called {name!r}", remedy=REMEDY)
    return found.account


def _check_first(connection: sa.Connection, *, only_first: bool) -> None:
    if only_first and connection.execute(sa.select(ACCOUNTS.c.name).limit(1)).one_or_none() is not None:
        raise DemandError("there is an account already", remedy="log in with it: /login")


def _check_admin_left(connection: sa.Connection, before: Account) -> None:
    """Nobody must lock everybody out: an admin with the same reach stays."""
    if before.role is not Role.ADMIN or before.disabled:
        return
    left = sa.select(ACCOUNTS.c.name).where(
        ACCOUNTS.c.role == Role.ADMIN.value,
        ACCOUNTS.c.disabled.is_(False),
        ACCOUNTS.c.tenant.in_([before.tenant, ALL_TENANTS]),
    )
    if connection.execute(left.limit(1)).one_or_none() is None:
        raise DemandError(f"{before.name!r} is the last admin", remedy="make another admin before")


def _of(name: str) -> sa.ColumnElement[bool]:
    return sa.and_(SESSIONS.c.name == name, SESSIONS.c.origin == "password")


def _account(row: sa.Row[Any]) -> Account:
    return Account(
        name=row.name,
        tenant=row.tenant,
        role=Role(row.role),
        disabled=row.disabled,
        made_us=row.made_us,
    )


def _said(change: AccountChange) -> str:
    said = [f"role={change.role}"] if change.role is not None else []
    if change.disabled is not None:
        said.append("disabled" if change.disabled else "enabled")
    if change.password is not None:
        said.append("new password")
    return ", ".join(said)
