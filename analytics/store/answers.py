"""Questions that the store answers, over sealed files and the rows not sealed yet together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from analytics.clock import DAY_US
from analytics.errors import StoreError
from analytics.grade import TEST_MOST_US
from analytics.measurement import Flow, Hop, Reading, Receipt
from analytics.screen import Screened
from analytics.store import query, seal
from analytics.store.facts import Days, Facts
from analytics.store.query import Engine, Shared, UnreadableFactsError
from analytics.store.rolled import LATE_US
from analytics.store.shelf import Held, Shelf
from analytics.store.state import LOOK_BACK_DAYS, State
from analytics.usage import By, Usage
from analytics.usual import Past, UsualHop

LATELY_US: Final = 2 * 3600 * 1_000_000
_EVER: Final = ("0000-00-00", "9999-99-99")
_PAIR: Final = ("one", "other")
NOTHING: Final = pa.table({})
_READING: Final = list(Reading.__struct_fields__)

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
        return self._latest_then(tenant, at_us)

    def _latest_then(self, tenant: str, at_us: int) -> list[Reading]:
        """Of a past moment. Most paths had been tested lately: a week is looked through for the rest."""
        given = {"tenant": tenant, "at_us": at_us}
        since_us = max(0, at_us - LATELY_US)
        lately: dict[str, Any] = {**given, "first_cycle": since_us // 1_000_000}
        days = (seal.day_of(since_us), seal.day_of(at_us))
        found = self._ask(Reading, query.READINGS_LATEST_SINCE, lately, days, table="readings")
        ways = self._ask(_Way, query.MEASURED, given, _look_back(at_us), table="readings")
        rest = {(way.src, way.dst) for way in ways} - {(one.src, one.dst) for one in found}
        if rest:
            named = query.wanted_paths(rest)
            found += self._ask(
                Reading, query.READINGS_LATEST_OF, given, _look_back(at_us), table="readings", **named
            )
        return sorted(found, key=lambda one: (one.src, one.dst))

    def readings_latest_of_agent(
        self, tenant: str, agent: str, at_us: int, *, since_us: int
    ) -> list[Reading]:
        """As ``readings_latest``, of paths with an agent at an end, and of cycles since then."""
        given = {"tenant": tenant, "agent": agent, "at_us": at_us, "first_cycle": since_us // 1_000_000}
        days = (seal.day_of(since_us), seal.day_of(at_us))
        return self._ask(Reading, query.READINGS_LATEST_OF_AGENT, given, days, table="readings")

    def measured(self, tenant: str) -> set[tuple[str, str]]:
        """Name the paths (src, dst) that ``readings_latest`` has a reading of, at a fraction of its cost."""
        at_us = self._clock_us()
        given = {"tenant": tenant, "at_us": at_us}
        ready = None if self._facts.is_shared else self._state.latest(tenant, at_us, query.MEASURED)
        if ready is not None:
            return {(row["src"], row["dst"]) for row in ready}
        asked = self._ask(_Way, query.MEASURED, given, _look_back(at_us), table="readings")
        return {(way.src, way.dst) for way in asked}

    def latest_table(self, tenant: str, columns: Sequence[str], at_us: int | None = None) -> pa.Table:
        """As ``readings_latest``, some columns, in no order, as Arrow: a million structs take a minute."""
        now = self._clock_us() if at_us is None else at_us
        question, given = query.readings_latest_in(columns), {"tenant": tenant, "at_us": now}
        if at_us is None and not self._facts.is_shared:
            ready = self._state.latest_table(tenant, now, question)
            if ready is not None:
                return ready
        return self._table(question, given, _look_back(now), table="readings")

    def arrived_since(self, tenant: str, columns: Sequence[str], since_us: int, at_us: int) -> pa.Table:
        """All readings that were received in that time, as Arrow."""
        given = {"tenant": tenant, "since_us": since_us, "at_us": at_us}
        days = (seal.day_of(since_us), seal.day_of(at_us))
        return self._table(query.arrived_since(columns), given, days, table="readings")

    def readings_of(
        self, tenant: str, paths: Collection[tuple[str, str]], at_us: int | None = None
    ) -> list[Reading]:
        """As ``readings_latest``, of some paths."""
        if not paths:
            return []
        wanted, now = frozenset(paths), self._clock_us() if at_us is None else at_us
        ends = sorted({agent for path in paths for agent in path})
        ready = None
        if at_us is None and not self._facts.is_shared:
            ready = self._of_pair(tenant, ends, now) if len(ends) == len(_PAIR) else None
            if ready is None:
                sources, named = {src for src, _ in paths}, query.wanted_paths(paths)
                ready = self._state.latest_table(
                    tenant, now, query.READINGS_LATEST_OF, agents=sources, **named
                )
        if ready is None:
            given, named = {"tenant": tenant, "at_us": now}, query.wanted_paths(paths)
            ready = self._table(query.READINGS_LATEST_OF, given, _look_back(now), table="readings", **named)
        found = msgspec.convert(ready.select(_READING).to_pylist(), list[Reading])
        return [reading for reading in found if (reading.src, reading.dst) in wanted]

    def _of_pair(self, tenant: str, ends: Sequence[str], at_us: int) -> pa.Table | None:
        """Latest readings of both directions, put together here: planning one question takes longer."""
        fresh = self._shelf.held(
            "readings", tenant, ends
        ).fresh  # first: what is sealed meanwhile comes twice
        told = self._state.of_pair(tenant, ends[0], ends[1], at_us)
        if told is None:
            return None
        known, files, warm = told
        parts = [known, *(_among(rows, ends) for rows in (fresh, *warm))]
        if files:
            given = {"tenant": tenant, "at_us": at_us, **dict(zip(_PAIR, ends, strict=True))}
            try:
                sealed = self._engine.table(
                    "readings", query.STORED_OF_PAIR, files=files, fresh=fresh.slice(0, 0), given=given
                )
            except UnreadableFactsError:
                return None  # merged away meanwhile, or damaged
            parts.append(sealed)
        every = pa.concat_tables(parts, promote_options="permissive")
        return _latest_of(every)

    def hops_of_readings(self, tenant: str, readings: Sequence[Reading]) -> list[Hop]:
        """As ``hops_of``, of these readings' tests: the files that cannot have them are not read."""
        if not readings:
            return []
        ends = {end for reading in readings for end in (reading.src, reading.dst)}
        cycles = {reading.cycle for reading in readings}
        given: dict[str, Any] = {"tenant": tenant, "first_cycle": min(cycles), "last_cycle": max(cycles)}
        question = query.HOPS_OF_PATHS
        if len(ends) == len(_PAIR):
            question, given = query.HOPS_OF_PAIR, given | dict(zip(_PAIR, sorted(ends), strict=True))
        else:
            given |= {"first": min(ends), "last": max(ends)}
        hour = min(cycles) // 3600
        named = query.wanted_tests(reading.test for reading in readings)
        return self._ask(
            Hop,
            question,
            given,
            _EVER,
            table="hops",
            since_hour=hour,
            agents=ends,
            **named,
        )

    def receipts_of_pair(
        self, tenant: str, pair: tuple[str, str], readings: Sequence[Reading]
    ) -> list[Receipt]:
        """What was signed of these readings between two agents; of what came twice, the first comes last."""
        if not readings:
            return []
        cycles = {reading.cycle for reading in readings}
        given = {"tenant": tenant, "first_cycle": min(cycles), "last_cycle": max(cycles)}
        return self._ask(
            Receipt,
            query.RECEIPTS_OF_PAIR,
            given | dict(zip(_PAIR, sorted(pair), strict=True)),
            _EVER,
            table="receipts",
            since_hour=min(cycles) // 3600,
            agents=pair,
            **query.wanted_tests(reading.test for reading in readings),
        )

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
        if not paths:
            return []
        if len(paths) == 1:
            ((src, dst),) = paths
            one = {**given, "src": src, "dst": dst}
            return self._ask(Past, query.PAST_OF_ONE, one, days, table="readings", agents={src})
        named = query.wanted_paths(paths)
        sources = {src for src, _ in paths}
        return self._ask(Past, query.PAST_OF, given, days, table="readings", agents=sources, **named)

    def usual_hour(self) -> int:
        """As of which hour ``usual`` tells; 0 = not yet."""
        return 0 if self._facts.is_shared else self._state.usual_hour

    def usual(self, tenant: str, paths: Collection[tuple[str, str]] | None = None) -> list[Screened]:
        """What is usual on each path, or on some, as of the last full hour."""
        rows = [] if self._facts.is_shared else self._state.usual(tenant, paths)
        return msgspec.convert(rows, list[Screened])

    def suspects(self, tenant: str, most: int) -> list[tuple[str, str]]:
        """As ``screen.suspects``, of paths of which something is known: at most so many."""
        rows = [] if self._facts.is_shared else self._state.suspects(tenant, most)
        return [(row["src"], row["dst"]) for row in rows]

    def usual_hops(
        self, tenant: str, paths: Collection[tuple[str, str]], *, since_us: int, until_us: int
    ) -> list[UsualHop]:
        """Median least round trip of each hop that the paths' sources traced in cycles of that time."""
        if not paths:
            return []
        named = [f"{src} {dst}" for src, dst in paths]  # no name has a space
        given = {"tenant": tenant, "since_us": since_us, "until_us": until_us, "paths": named}
        days = (seal.day_of(since_us), seal.day_of(until_us))
        sources = {src for src, _ in paths}
        return self._ask(UsualHop, query.USUAL_HOPS, given, days, table="hops", agents=sources)

    def readings_before(
        self, tenant: str, paths: Collection[tuple[str, str]], *, since_us: int, until_us: int, most: int
    ) -> list[Reading]:
        """The last ``most`` readings of each path in cycles of that time, by path and time."""
        if not paths:
            return []
        named = [f"{src} {dst}" for src, dst in paths]  # no name has a space
        given = {"tenant": tenant, "since_us": since_us, "until_us": until_us, "paths": named, "most": most}
        days = (seal.day_of(since_us), seal.day_of(until_us))
        sources = {src for src, _ in paths}
        return self._ask(Reading, query.READINGS_BEFORE, given, days, table="readings", agents=sources)

    def readings_of_agent(
        self, tenant: str, agent: str, *, since_us: int, until_us: int, columns: Sequence[str]
    ) -> pa.Table:
        """Columns of the readings with an agent at an end, of tests that may have ended in that time."""
        given, days = _ended(since_us, until_us)
        given |= {"tenant": tenant, "agent": agent}
        return self._table(query.of_agent(columns), given, days, table="readings")

    def signed_by_both(self, tenant: str, agent: str, *, since_us: int, until_us: int) -> pa.Table:
        """Cycle, test and ends of an agent's readings that both ends signed; of when, as above."""
        given, days = _ended(since_us, until_us)
        given |= {"tenant": tenant, "agent": agent}
        return self._table(query.SIGNED_BY_BOTH, given, days, table="receipts", agents={agent})

    def readings_of_path(
        self, tenant: str, src: str, dst: str, *, since_us: int, until_us: int
    ) -> list[Reading]:
        """A directed path's readings of tests that may have ended in that time, with ``query.TOLD`` only."""
        given, days = _ended(since_us, until_us)
        given |= {"tenant": tenant, "src": src, "dst": dst}
        return self._ask(Reading, query.READINGS_OF_PATH, given, days, table="readings", agents={src})

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
        if not tests:
            return []
        named = query.wanted_tests(tests)
        return self._ask(Hop, query.HOPS_OF, {"tenant": tenant}, _look_back(at_us), table="hops", **named)

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
        return self._ask(Flow, query.FLOWS, given, days, table="flows", agents=_only(agent))

    def flows_of_pair(
        self,
        tenant: str,
        pair: tuple[str, str],
        addresses: Collection[str],
        *,
        since_us: int,
        until_us: int | None = None,
        but: str | None = None,
        limit: int = 1_000,
    ) -> list[Flow]:
        """As ``flows``, what either of two agents saw with one of these remote addresses."""
        if not addresses:
            return []
        given = {"tenant": tenant, "since_us": since_us, "until_us": until_us, "but": but, "limit": limit}
        given |= {"addresses": sorted(addresses), **dict(zip(_PAIR, pair, strict=True))}
        days = (seal.day_of(max(0, since_us - DAY_US)), _EVER[1])  # a day for clocks that are ahead
        return self._ask(Flow, query.FLOWS_OF_PAIR, given, days, table="flows", agents=pair)

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
        return self._ask(Flow, query.FLOWS_OF_SERVICES, given, days, table="flows", agents=_only(agent))

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
        return self._ask(Usage, query.usage_question(by), given, days, table="flows", agents=_only(agent))

    def batches_taken(self) -> int:
        """How many batches came since the store was opened: another number, and there is more to tell."""
        return self._shelf.batches_taken

    def counts(self, tenant: str | None = None) -> dict[str, int]:
        """Rows kept, by table; of all tenants where none is named: for the server's operator only."""
        shared = self._facts.counts(tenant)
        return {table: rows + shared.get(table, 0) for table, rows in self._shelf.counts(tenant).items()}

    def _ask(
        self,
        row: type[Row],
        question: str,
        given: dict[str, Any],
        days: Days,
        *,
        table: str,
        since_hour: int = 0,
        agents: Collection[str] | None = None,
        **registered: pa.Table,
    ) -> list[Row]:
        found = self._table(
            question,
            given,
            days,
            table=table,
            since_hour=since_hour,
            agents=agents,
            rows_only=True,
            **registered,
        )
        return msgspec.convert(found.to_pylist(), list[row])  # type: ignore[valid-type]  # a type made at run time

    def _table(
        self,
        question: str,
        given: dict[str, Any],
        days: Days,
        *,
        table: str,
        since_hour: int = 0,
        agents: Collection[str] | None = None,
        rows_only: bool = False,
        **registered: pa.Table,
    ) -> pa.Table:
        """Ask again where a file was merged away meanwhile; where one is damaged, set it aside first.

        Files of hours before ``since_hour`` are left out, and of the rows that are not sealed those that
        others than ``agents`` sent. ``rows_only``: where there are none, the columns do not matter.
        """

        def answer() -> pa.Table:
            held = self._shelf.held(table, given["tenant"], agents)
            chosen = [
                file.path
                for file in held.files
                if days[0] <= file.day <= days[1] and file.hours[1] >= since_hour
            ]
            shared = self._facts.shared(table, given["tenant"], days, held)
            if rows_only and not (chosen or shared or held.fresh.num_rows):
                return NOTHING  # to plan a question takes longer than most answers
            return self._engine.table(
                table, question, files=chosen, shared=shared, fresh=held.fresh, given=given, **registered
            )

        with suppress(UnreadableFactsError):
            return answer()
        try:
            return answer()
        except UnreadableFactsError as error:
            self._facts.unreadable(table, given["tenant"], error)
        try:
            return answer()
        except UnreadableFactsError as error:
            raise StoreError(
                f"asking for {table}: {error}", remedy="see the server's log for the file"
            ) from error


def _look_back(at_us: int) -> tuple[str, str]:
    """Name the first and the last day in which something about ``at_us`` is looked for."""
    return seal.day_of(max(0, at_us - LOOK_BACK_DAYS * DAY_US)), seal.day_of(at_us)


def _ended(since_us: int, until_us: int) -> tuple[dict[str, Any], Days]:
    """Bound the cycles of tests that may have ended in a time, and the days of receipt of their rows."""
    first_us = max(0, since_us - TEST_MOST_US)
    days = (seal.day_of(max(0, first_us - DAY_US)), seal.day_of(until_us + LATE_US))
    return {"first_cycle": first_us // 1_000_000, "last_cycle": until_us // 1_000_000}, days


def _among(rows: pa.Table, ends: Sequence[str]) -> pa.Table:
    """Keep what is between these agents."""
    return rows.filter(pc.and_(*(pc.is_in(rows[end], pa.array(ends)) for end in ("src", "dst"))))


def _latest_of(rows: pa.Table) -> pa.Table:
    """Keep the latest row of each path."""
    ordered = rows.sort_by([(key, "descending") for key in query.LATEST_KEY])
    seen: dict[tuple[str, str], int] = {}
    for at, path in enumerate(zip(ordered["src"].to_pylist(), ordered["dst"].to_pylist(), strict=True)):
        seen.setdefault(path, at)
    return ordered.take(pa.array(seen.values(), pa.int64()))


def _only(agent: str | None) -> Collection[str] | None:
    return None if agent is None else {agent}
