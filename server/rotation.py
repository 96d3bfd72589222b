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
from server.database import DEFAULT_TENANT, LOCK_NAME, connect, take_lock, transaction
from server.errors import DemandError, StateError
from server.former import Former
from server.ledger import append
from server.state import FILE_NAME, Enrolled, enrolled_agents

ACTION: Final = "authority"
NONE_BEFORE: Final = "there is no authority of before"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What agents know the server by."""

    pin: str
    former: list[str] = []  # pins that are still taken, the latest first
    replaced_us: int | None = None  # when the latest of those was replaced
    waiting: list[str] = []  # agents, as TENANT/NAME, that may know a former one only


def told(data: Path, life_s: int) -> Told:
    """Say what there is; ``life_s`` is that of agents' certificates. Raises ``StateError``."""
    _check_there(data)
    own = Authority.open(data)
    waiting = waiting_of(enrolled_agents(data), own.former, life_s)
    return Told(
        pin=own.pin,
        former=[*map(_pin, own.former)],
        replaced_us=own.former[0].replaced_us if own.former else None,
        waiting=waiting,
    )


def waiting_of(agents: Iterable[Enrolled], formers: tuple[Former, ...], life_s: int) -> list[str]:
    """Name the agents that may know a former authority only. Pure.

    Who has been connected a whole life of its certificate after the rotation has renewed it since, and was
    told then.
    """
    if not formers:
        return []
    sure_us = formers[0].replaced_us + life_s * 1_000_000
    return [
        f"{agent.tenant}/{agent.name}"
        for agent in agents
        if agent.revoked_us is None and max(agent.seen_us, agent.enrolled_us) < sure_us
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
        with _noted(engine, by, f"rotated pin={new.pin} was={old.pin}", clock()):
            # In this order: what leads to an authority that is not there yet is passed over (``row_of``).
            former.write(data, [before, *old.former])
            private_file.replace(data / authorities.FILE_NAME, new.pem, remedy=authorities.REMEDY)
    return Told(pin=new.pin, former=[old.pin, *map(_pin, old.former)], replaced_us=before.replaced_us)


def drop(
    data: Path, life_s: int, *, anyway: bool = False, by: str = COMMAND, clock: Callable[[], int] = now_us
) -> Told:
    """Take authorities of before no more. Raises ``StateError``, and ``DemandError`` where it cannot be."""
    with _stopped(data) as engine:
        found = told(data, life_s)
        if not found.former:
            raise DemandError(NONE_BEFORE)
        if found.waiting and not anyway:
            raise DemandError(
                f"{len(found.waiting)} agents may know a former authority only: {some(found.waiting)}",
                remedy="start the server, and wait until they have been there; or revoke them; or drop\n"
                "--anyway, and give them new tokens (pathgrade agent enrol --token ...)",
            )
        detail = f"dropped pins={','.join(found.former)}" + (f" waiting={len(found.waiting)}" * anyway)
        with _noted(engine, by, detail, clock()):
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
    engine = connect(data / FILE_NAME)
    try:
        yield engine
    finally:
        engine.dispose()
        os.close(lock)


@contextmanager
def _noted(engine: sa.Engine, by: str, detail: str, at_us: int) -> Iterator[None]:
    """Do something, and leave an audit row of it; where it fails there is none."""
    row = AuditRow(at_us=at_us, actor=by, action=ACTION, subject="", detail=detail)
    with transaction(engine) as connection:
        append(connection, DEFAULT_TENANT, [row])
        yield


def _check_there(data: Path) -> None:
    if not (data / FILE_NAME).is_file():
        raise StateError(f"use {data}: there is no {FILE_NAME}", remedy="name a server's data folder")


def _pin(one: Former) -> str:
    return pin_of(x509.load_der_x509_certificate(one.certificate))
