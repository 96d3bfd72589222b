"""Alerts, silences and undelivered notices of one tenant, in the server's SQLite.

What a look changes and what receivers are to be told of it is one transaction: a server that is killed
neither forgets an alert nor tells it twice. A notice is deleted once its receiver has taken it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from analytics.clock import DAY_US
from server.alerts.model import Alert, Notice, Silence
from server.database import ALERTS, DELIVERIES, SILENCES
from server.state import State

KEPT_US: Final = 400 * DAY_US
"""How long alerts that are over are kept: a year and some, as the hours of the rollup."""
MOST_WAITING: Final = 1_000
"""Notices that wait for one receiver; then the oldest is dropped and counted."""
MOST_SILENCES: Final = 500


class Delivery(NamedTuple):
    """One notice for one receiver."""

    number: int
    receiver: str
    made_us: int
    tries: int
    notice: Notice


class Waiting(NamedTuple):
    """What waits for one receiver."""

    notices: int
    oldest_us: int


class Book:
    """One tenant's. For several threads; ``changing`` is held by who reads alerts to write them."""

    def __init__(self, state: State, tenant: str) -> None:
        self._state = state
        self.tenant = tenant
        self.changing = threading.RLock()

    # --- alerts ---------------------------------------------------------------------------------------------

    def live(self) -> list[Alert]:
        """Those that are pending or open."""
        return self._alerts(ALERTS.c.closed_us.is_(None))

    def past(self, since_us: int, limit: int, *, until_us: int) -> list[Alert]:
        """Those that were over since then and until then, the latest first."""
        over = ALERTS.c.closed_us.between(since_us, until_us)
        return self._alerts(over, order=ALERTS.c.closed_us.desc(), limit=limit)

    def open_at(self, at_us: int) -> list[Alert]:
        """Those that were open at a past moment, as they are now, or were in the end."""
        c = ALERTS.c
        lasted = sa.and_(c.first_us <= at_us, sa.or_(c.closed_us.is_(None), c.closed_us > at_us))
        return [one for one in self._alerts(lasted) if one.opened_us is not None and one.opened_us <= at_us]

    def _alerts(self, which: Any, *, order: Any = ALERTS.c.first_us, limit: int | None = None) -> list[Alert]:
        wanted = sa.select(ALERTS.c.body).where(ALERTS.c.tenant == self.tenant, which)
        with self._state.transaction(write=False) as connection:
            found = connection.execute(wanted.order_by(order).limit(limit))
            return [_alert(row.body) for row in found]

    def save(
        self,
        alerts: Sequence[Alert],
        *,
        dropped: Sequence[Alert] = (),
        notices: Iterable[tuple[str, Notice]] = (),
        at_us: int,
    ) -> int:
        """Keep alerts as they are now, forget ``dropped``, queue notices for receivers: all or nothing.

        Returns how many notices were dropped because too many waited.
        """
        told = list(notices)
        if not (alerts or dropped or told):
            return 0
        with self._state.transaction() as connection:
            for alert in (*alerts, *dropped):
                connection.execute(ALERTS.delete().where(*self._is(alert)))
            if alerts:
                connection.execute(ALERTS.insert(), [self._row(alert) for alert in alerts])
            if told:
                connection.execute(DELIVERIES.insert(), [self._queued(*one, at_us) for one in told])
            connection.execute(
                ALERTS.delete().where(ALERTS.c.tenant == self.tenant, ALERTS.c.closed_us < at_us - KEPT_US)
            )
            return sum(self._bound(connection, receiver) for receiver in {name for name, _ in told})

    def _is(self, alert: Alert) -> tuple[Any, ...]:
        c = ALERTS.c
        return c.tenant == self.tenant, c.id == alert.id, c.first_us == alert.first_us

    def _row(self, alert: Alert) -> dict[str, Any]:
        return {
            "tenant": self.tenant,
            "id": alert.id,
            "first_us": alert.first_us,
            "closed_us": alert.closed_us,
            "body": msgspec.json.encode(alert),
        }

    # --- silences -------------------------------------------------------------------------------------------

    def silences(self, at_us: int) -> list[Silence]:
        """Those that are on, the first to end first."""
        wanted = sa.select(SILENCES.c.body).where(
            SILENCES.c.tenant == self.tenant, SILENCES.c.until_us > at_us
        )
        with self._state.transaction(write=False) as connection:
            rows = connection.execute(wanted.order_by(SILENCES.c.until_us, SILENCES.c.id))
            return [msgspec.json.decode(row.body, type=Silence) for row in rows]

    def silence(self, silence: Silence, at_us: int) -> None:
        """Keep a silence; forget those that are over."""
        row = {"tenant": self.tenant, "id": silence.id, "until_us": silence.until_us}
        with self._state.transaction() as connection:
            connection.execute(
                SILENCES.delete().where(SILENCES.c.tenant == self.tenant, SILENCES.c.until_us <= at_us)
            )
            connection.execute(SILENCES.insert().values(**row, body=msgspec.json.encode(silence)))

    def unsilence(self, id_: str) -> bool:
        """End a silence; False where there is none of that id."""
        which = (SILENCES.c.tenant == self.tenant, SILENCES.c.id == id_)
        with self._state.transaction() as connection:
            return connection.execute(SILENCES.delete().where(*which)).rowcount > 0

    # --- deliveries -----------------------------------------------------------------------------------------

    def next(self, receiver: str) -> tuple[int, Delivery] | None:
        """When the first notice for a receiver is due, and the notice; the next waits until it is done."""
        wanted = sa.select(DELIVERIES).where(*self._for(receiver)).order_by(DELIVERIES.c.number).limit(1)
        with self._state.transaction(write=False) as connection:
            row = connection.execute(wanted).one_or_none()
        if row is None:
            return None
        notice = msgspec.json.decode(row.body, type=Notice)
        return row.due_us, Delivery(row.number, row.receiver, row.made_us, row.tries, notice)

    def done(self, number: int) -> None:
        """Forget a notice: its receiver has it, or never will."""
        with self._state.transaction() as connection:
            connection.execute(DELIVERIES.delete().where(DELIVERIES.c.number == number))

    def later(self, number: int, tries: int, due_us: int) -> None:
        """Try a notice again, not before ``due_us``."""
        with self._state.transaction() as connection:
            connection.execute(
                DELIVERIES.update().where(DELIVERIES.c.number == number).values(tries=tries, due_us=due_us)
            )

    def waiting(self) -> dict[str, Waiting]:
        """What waits, by receiver."""
        c = DELIVERIES.c
        wanted = sa.select(c.receiver, sa.func.count(), sa.func.min(c.made_us)).where(c.tenant == self.tenant)
        with self._state.transaction(write=False) as connection:
            return {
                row[0]: Waiting(row[1], row[2]) for row in connection.execute(wanted.group_by(c.receiver))
            }

    def _for(self, receiver: str) -> tuple[Any, ...]:
        return DELIVERIES.c.tenant == self.tenant, DELIVERIES.c.receiver == receiver

    def _queued(self, receiver: str, notice: Notice, at_us: int) -> dict[str, Any]:
        return {
            "tenant": self.tenant,
            "receiver": receiver,
            "made_us": at_us,
            "due_us": at_us,
            "tries": 0,
            "body": msgspec.json.encode(notice),
        }

    def _bound(self, connection: sa.Connection, receiver: str) -> int:
        """Drop the oldest of too many."""
        numbers = sa.select(DELIVERIES.c.number).where(*self._for(receiver))
        kept = numbers.order_by(DELIVERIES.c.number.desc()).limit(MOST_WAITING)
        return connection.execute(
            DELIVERIES.delete().where(*self._for(receiver), DELIVERIES.c.number.not_in(kept))
        ).rowcount


def _alert(body: bytes) -> Alert:
    return msgspec.json.decode(body, type=Alert)
