"""Questions that the store answers, over sealed files and the rows not sealed yet together."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Final, TypeVar

import duckdb
import msgspec

from analytics.clock import DAY_US
from analytics.errors import StoreError
from analytics.grade import TEST_MOST_US
from analytics.measurement import Flow, Hop, Reading
from analytics.screen import Screened
from analytics.store import query, seal
from analytics.store.facts import Days, Facts
from analytics.store.query import Engine, Shared, UnreadableFactsError
from analytics.store.rolled import LATE_US
from analytics.store.shelf import Held, Shelf
from analytics.store.state import LOOK_BACK_DAYS, State
from analytics.usage import By, Usage
from analytics.usual import Past, UsualHop

_EVER: Final = ("0000-00-00", "9999-99-99")

Row = TypeVar("Row", bound=msgspec.Struct)


class _Way(msgspec.Struct, frozen=True):
    src: str
    dst: str


class Answers:
    """The reading side of the store. Methods may be called from any thread."""

    def __init__(
        self, shelf: Shelf, facts: Facts, engine: Engine, state: State, clock_us: Callable[[], int]
    ) -> None:
        self._shelf = shelf
        self._facts = facts
        self._state = state
        self._engine = engine
        self._clock_us = clock_us

    def readings_latest(self, tenant: str, at_us: int | None = None) -> list[Reading]:
        """Latest reading of every directed path that had arrived by ``at_us`` (now if None), by src, dst."""
        if at_us is None:
            at_us = self._clock_us()
            ready = None if self._facts.is_shared else self._state.latest(tenant, at_us)
            if ready is not None:
                return msgspec.convert(ready, list[Reading])
        given = {"tenant": tenant, "at_us": at_us}
        return self._ask(Reading, query.READINGS_LATEST, given, _look_back(at_us), table="readings")

    def measured(self, tenant: str) -> set[tuple[str, str]]:
        """Name the paths (src, dst) that ``readings_latest`` has a reading of, at a fraction of its cost."""
        at_us = self._clock_us()
        given = {"tenant": tenant, "at_us": at_us}
        ready = None if self._facts.is_shared else self._state.latest(tenant, at_us, query.MEASURED)
        if ready is not None:
            return {(row["src"], row["dst"]) for row in ready}
        asked = self._ask(_Way, query.MEASURED, given, _look_back(at_us), table="readings")
        return {(way.src, way.dst) for way in asked}

    def past(
        self,
        tenant: str,
        *,
        since_us: int,
        at_us: int | None = None,
        paths: Collection[tuple[str, str]] | None = None,
    ) -> list[Past]:
        """Readings with a round trip, of cycles since then, by path and time; of all paths, or of some."""
        at_us = self._clock_us() if at_us is None else at_us
        given: dict[str, Any] = {"tenant": tenant, "since_us": since_us, "at_us": at_us}
        days = (seal.day_of(since_us), seal.day_of(at_us))
        if paths is None:
            return self._ask(Past, query.PAST, given, days, table="readings")
        given |= {"srcs": [src for src, _ in paths], "dsts": [dst for _, dst in paths]}
        return self._ask(Past, query.PAST_OF, given, days, table="readings") if paths else []

    def usual_hour(self) -> int:
        """As of which hour ``usual`` tells; 0 = not yet."""
        return 0 if self._facts.is_shared else self._state.usual_hour

    def usual(self, tenant: str) -> list[Screened]:
        """What is usual on each path, as of the last full hour."""
        rows = [] if self._facts.is_shared else self._state.usual(tenant)
        return msgspec.convert(rows, list[Screened])

    def usual_hops(
        self, tenant: str, paths: Collection[tuple[str, str]], *, since_us: int, until_us: int
    ) -> list[UsualHop]:
        """Median least round trip of each hop that the paths' sources traced in cycles of that time."""
        if not paths:
            return []
        named = [f"{src} {dst}" for src, dst in paths]  # no name has a space
        given = {"tenant": tenant, "since_us": since_us, "until_us": until_us, "paths": named}
        days = (seal.day_of(since_us), seal.day_of(until_us))
        return self._ask(UsualHop, query.USUAL_HOPS, given, days, table="hops")

    def readings_before(
        self, tenant: str, paths: Collection[tuple[str, str]], *, since_us: int, until_us: int, most: int
    ) -> list[Reading]:
        """The last ``most`` readings of each path in cycles of that time, by path and time."""
        if not paths:
            return []
        named = [f"{src} {dst}" for src, dst in paths]  # no name has a space
        given = {"tenant": tenant, "since_us": since_us, "until_us": until_us, "paths": named, "most": most}
        days = (seal.day_of(since_us), seal.day_of(until_us))
        return self._ask(Reading, query.READINGS_BEFORE, given, days, table="readings")

    def readings_of_path(
        self, tenant: str, src: str, dst: str, *, since_us: int, until_us: int
    ) -> list[Reading]:
        """A directed path's readings of tests that may have ended in that time, with ``query.TOLD`` only."""
        first_us, last_us = max(0, since_us - TEST_MOST_US), until_us
        given: dict[str, Any] = {"tenant": tenant, "src": src, "dst": dst}
        given |= {"first_cycle": first_us // 1_000_000, "last_cycle": last_us // 1_000_000}
        days = (seal.day_of(max(0, first_us - DAY_US)), seal.day_of(last_us + LATE_US))
        return self._ask(Reading, query.READINGS_OF_PATH, given, days, table="readings")

    def held(self, table: str, tenant: str) -> Held:
        """A tenant's sealed files and the rows not sealed yet, each row once; ``shared`` are others."""
        return self._shelf.held(table, tenant)

    def shared(self, table: str, tenant: str, days: Days, held: Held) -> Shared | None:
        """What else of a tenant is sealed, for a question to ``database``. Raises ``StoreError``."""
        return self._facts.shared(table, tenant, days, held)

    def database(self) -> duckdb.DuckDBPyConnection | None:
        """A connection to the database that has the lake, for the caller to close; None: there is none."""
        return self._engine.database.cursor() if self._facts.is_shared else None

    def hops_of(self, tenant: str, tests: list[str], at_us: int | None = None) -> list[Hop]:
        """Hops that both ends of the named tests saw, by test, src, ttl.

        ``at_us`` (now if None) is the moment of the readings that named the tests: nothing is looked for
        in days that those were not taken from.
        """
        at_us = self._clock_us() if at_us is None else at_us
        given = {"tenant": tenant, "tests": tests}
        return self._ask(Hop, query.HOPS_OF, given, _look_back(at_us), table="hops") if tests else []

    def flows(
        self,
        tenant: str,
        *,
        since_us: int = 0,
        until_us: int | None = None,
        agent: str | None = None,
        process: str | None = None,
        remote: str | None = None,
        but: str | None = None,
        limit: int = 200,
    ) -> list[Flow]:
        """Passive flows whose window began at ``since_us`` or later, newest first; filters match exactly.

        ``until_us``: and had begun by then.
        ``but`` names a process that is left out.
        """
        given = {"tenant": tenant, "since_us": since_us, "until_us": until_us, "agent": agent}
        days = (seal.day_of(max(0, since_us - DAY_US)), _EVER[1])  # a day for clocks that are ahead
        given |= {"process": process, "remote": remote, "but": but, "limit": limit}
        return self._ask(Flow, query.FLOWS, given, days, table="flows")

    def flows_of_services(
        self,
        tenant: str,
        ports: Collection[int],
        *,
        since_us: int,
        until_us: int,
        agent: str | None = None,
        limit: int = 20_000,
    ) -> list[Flow]:
        """Passive flows with a service on one of these ports, of windows in that time, newest first.

        ``agent`` keeps what one agent saw, at either end.
        """
        if not ports:
            return []
        given = {"tenant": tenant, "ports": sorted(ports), "since_us": since_us, "until_us": until_us}
        given |= {"agent": agent, "limit": limit}
        days = (seal.day_of(max(0, since_us - DAY_US)), _EVER[1])  # a day for clocks that are ahead
        return self._ask(Flow, query.FLOWS_OF_SERVICES, given, days, table="flows")

    def usage(
        self,
        tenant: str,
        by: By,
        *,
        since_us: int,
        until_us: int,
        agent: str | None = None,
        but: str | None = None,
        limit: int = 1_000,
    ) -> list[Usage]:
        """Sums of the flows whose window began in that time, by hour; of the ``limit`` groups used most."""
        given = {"tenant": tenant, "since_us": since_us, "until_us": until_us}
        days = (seal.day_of(max(0, since_us - DAY_US)), _EVER[1])  # a day for clocks that are ahead
        given |= {"agent": agent, "but": but, "limit": limit}
        return self._ask(Usage, query.usage_question(by), given, days, table="flows")

    def counts(self, tenant: str | None = None) -> dict[str, int]:
        """Rows kept, by table; of all tenants where none is named: for the server's operator only."""
        shared = self._facts.counts(tenant)
        return {table: rows + shared.get(table, 0) for table, rows in self._shelf.counts(tenant).items()}

    def _ask(
        self, row: type[Row], question: str, given: dict[str, Any], days: tuple[str, str], *, table: str
    ) -> list[Row]:
        """Ask a tenant's files and rows; no question is without a tenant.

        Again where a file was merged away meanwhile; where one is damaged, it is set aside first.
        """
        rows: list[dict[str, Any]] | None = None
        with suppress(UnreadableFactsError):
            rows = self._answer(table, question, given, days)
        if rows is None:
            try:
                rows = self._answer(table, question, given, days)
            except UnreadableFactsError as error:
                self._facts.unreadable(table, given["tenant"], error)
                rows = self._answer_at_last(table, question, given, days)
        return msgspec.convert(rows, list[row])  # type: ignore[valid-type]  # a type made at run time

    def _answer(
        self, table: str, question: str, given: dict[str, Any], days: tuple[str, str]
    ) -> list[dict[str, Any]]:
        tenant = given["tenant"]
        held = self._shelf.held(table, tenant)
        chosen = [file.path for file in held.files if days[0] <= file.day <= days[1]]
        shared = self._facts.shared(table, tenant, days, held)
        return self._engine.ask(table, question, files=chosen, shared=shared, fresh=held.fresh, given=given)

    def _answer_at_last(
        self, table: str, question: str, given: dict[str, Any], days: tuple[str, str]
    ) -> list[dict[str, Any]]:
        try:
            return self._answer(table, question, given, days)
        except UnreadableFactsError as error:
            raise StoreError(
                f"asking for {table}: {error}", remedy="see the server's log for the file"
            ) from error


def _look_back(at_us: int) -> tuple[str, str]:
    """Name the first and the last day in which something about ``at_us`` is looked for."""
    return seal.day_of(max(0, at_us - LOOK_BACK_DAYS * DAY_US)), seal.day_of(at_us)
