"""Another authority in the place of the server's, and the end of those before it (docs/design/010).

With the server stopped: what it presents is made at its start, and a token has the pin of what it presents.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa
from cryptography import x509

from analytics.channel import pin_of
from analytics.clock import now_us
from analytics.wire import MOST_FORMER
from server import authority as authorities
from server import former, private_file
from server.api.audits import COMMAND, AuditRow
from server.authority import Authority, create, linked
from server.authority_state import next_number, number_of, put_number
from server.database import DEFAULT_TENANT, LOCK_NAME, connect, take_lock, transaction
from server.errors import DemandError, StateError
from server.former import Former
from server.ledger import append
from server.state import FILE_NAME, Enrolled, enrolled_agents

ACTION: Final = "authority"
NONE_BEFORE: Final = "there is no authority of before"
DONE: Final = {"rotate": "rotated", "drop": "dropped"}


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What agents know the server by."""

    pin: str
    former: list[str] = []  # pins that are still taken, the latest first
    replaced_us: int | None = None  # when the latest of those was replaced
    waiting: list[str] = []  # agents, as TENANT/NAME, that did not say that they take the present one


def told(data: Path) -> Told:
    """Say what there is. Raises ``StateError``."""
    _check_there(data)
    own = Authority.open(data)
    waiting = waiting_of(enrolled_agents(data), own.pin) if own.former else []
    return Told(
        pin=own.pin,
        former=[*map(_pin, own.former)],
        replaced_us=own.former[0].replaced_us if own.former else None,
        waiting=waiting,
    )


def waiting_of(agents: Iterable[Enrolled], pin: str) -> list[str]:
    """Name the agents that did not say, by their key, that they take the authority of this pin. Pure.

    That an agent was told of it proves nothing: one of an earlier release does not understand it, and one
    whose disk is full cannot keep it.
    """
    return [
        f"{agent.tenant}/{agent.name}" for agent in agents if agent.revoked_us is None and agent.takes != pin
    ]


def rotate(data: Path, *, by: str = COMMAND, clock: Callable[[], int] = now_us) -> Told:
    """Put another authority in the place of the server's; its key is gone then.

    Raises ``StateError``, also while a server runs, and ``DemandError`` where there are too many of before.
    """
    with _stopped(data) as engine:
        old, new = Authority.open(data), create()
        if len(old.former) >= MOST_FORMER:
            raise DemandError(
                f"{len(old.former)} authorities of before are still taken",
                remedy="drop them first, once every agent has moved: pathgrade server authority drop",
            )
        before = Former(certificate=old.der, link=linked(new, old), replaced_us=clock())
        _number(engine, old, new)
        with _noted(engine, by, "rotate", f"pin={new.pin} was={old.pin}", clock):
            # In this order: what leads to an authority that is not there yet is passed over (``row_of``).
            former.write(data, [before, *old.former])
            private_file.replace(data / authorities.FILE_NAME, new.pem, remedy=authorities.REMEDY)
    return Told(pin=new.pin, former=[old.pin, *map(_pin, old.former)], replaced_us=before.replaced_us)


def drop(data: Path, *, anyway: bool = False, by: str = COMMAND, clock: Callable[[], int] = now_us) -> Told:
    """Take authorities of before no more. Raises ``StateError``, and ``DemandError`` where it cannot be.

    ``anyway``: also where agents are locked out by it, as far as the server knows.
    """
    with _stopped(data) as engine:
        found = told(data)
        if not found.former:
            raise DemandError(NONE_BEFORE)
        if found.waiting and not anyway:
            raise DemandError(
                f"{len(found.waiting)} agents may know a former authority only: {some(found.waiting)}",
                remedy="upgrade those of earlier releases, start the server, and wait: each says within a\n"
                "day of being there that it has moved; or revoke them; or drop --anyway, and give them new\n"
                "tokens (pathgrade agent enrol --token ...)",
            )
        _number(engine, Authority.open(data))
        detail = f"pins={','.join(found.former)}" + (f" waiting={len(found.waiting)}" * anyway)
        with _noted(engine, by, "drop", detail, clock):
            private_file.remove(data / former.FILE_NAME, remedy=former.REMEDY)
    return Told(pin=found.pin, waiting=found.waiting)


def some(names: list[str], most: int = 10) -> str:
    """Name some, and say how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@contextmanager
def _stopped(data: Path) -> Iterator[sa.Engine]:
    """Keep servers out meanwhile."""
    _check_there(data)
    lock = take_lock(data / LOCK_NAME)
    try:
        engine = connect(data / FILE_NAME, upgrades=True)
        try:
            yield engine
        finally:
            engine.dispose()
    finally:
        os.close(lock)


def _number(engine: sa.Engine, present: Authority, coming: Authority | None = None) -> None:
    """Write the number of the present authority, and of the one to come, which does no harm if none comes."""
    with transaction(engine) as connection:
        number = number_of(connection, present.pin, before=len(present.former))
        put_number(connection, present.pin, number)
        if coming is not None:
            put_number(connection, coming.pin, next_number(connection, number))


@contextmanager
def _noted(engine: sa.Engine, by: str, what: str, detail: str, clock: Callable[[], int]) -> Iterator[None]:
    """Do something between two audit rows: that it is to be done, and that it is.

    Files and rows are not one transaction; with the first row nothing is done that nobody can read of.
    """
    _note(engine, by, f"intends to {what} {detail}", clock())
    yield
    try:
        _note(engine, by, f"{DONE[what]} {detail}", clock())
    except StateError as error:
        raise StateError(
            f"{DONE[what]} {detail}; but the audit row that says so is missing: {error}",
            remedy=f"it is done: do not repeat it. {error.remedy}",
        ) from error


def _note(engine: sa.Engine, by: str, detail: str, at_us: int) -> None:
    row = AuditRow(at_us=at_us, actor=by, action=ACTION, subject="", detail=detail)
    with transaction(engine) as connection:
        append(connection, DEFAULT_TENANT, [row])


def _check_there(data: Path) -> None:
    if not (data / FILE_NAME).is_file():
        raise StateError(f"use {data}: there is no {FILE_NAME}", remedy="name a server's data folder")


def _pin(one: Former) -> str:
    return pin_of(x509.load_der_x509_certificate(one.certificate))
