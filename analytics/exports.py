"""What can be exported over a range of time: facts as they are, and judgements made anew from them.

READ FIRST: ``EXPORTS``. Facts (hops, flows, receipts) are streamed by the store. Paths and grades are made
test by test: both directions and their hops stand next to each other in the streams, so only one test is in
memory.
The columns are in ``docs/schema.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Final

import msgspec
import pyarrow as pa

from analytics.export import PATH_SCHEMA, rows_table
from analytics.grade import ended_us, grade
from analytics.measurement import FACTS, Hop, Reading
from analytics.paths import path_rows
from analytics.report import Report
from analytics.rules.load import Rules
from analytics.shapes import Finding, Member, PathRow, Verdict
from analytics.store.columns import SCHEMAS
from analytics.store.store import Store
from analytics.store.stream import Range, stream

ROWS: Final = 5_000
"""Made at once."""
Key = tuple[int, str]
"""A test: its cycle and its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is exported."""

    of: Range
    profile: str  # of paths and findings
    profiles: Sequence[str]  # of grades
    members: Sequence[Member]
    rules: Rules


@dataclass(frozen=True, slots=True)
class Batches:
    """Rows on their way into a file."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class Export:
    """One kind of export."""

    schema: pa.Schema
    batches: Callable[[Store, Ask], Iterator[pa.RecordBatch]]


def _facts(table: str) -> Export:
    names = list(FACTS[table].__struct_fields__)
    return Export(
        pa.schema([SCHEMAS[table].field(name) for name in names]),
        lambda store, ask: stream(store, table, ask.of, names),
    )


# --- tests, one by one --------------------------------------------------------------------------------------


def rows_of(store: Store, table: str, of: Range, kind: type[msgspec.Struct]) -> Iterator[Any]:
    """Give the rows of a table as structs, in the order of ``stream``. Raises as that."""
    for batch in stream(store, table, of, list(kind.__struct_fields__)):
        yield from msgspec.convert(batch.to_pylist(), list[kind])  # type: ignore[valid-type]  # at run time


def _key(row: Reading | Hop) -> Key:
    return row.cycle, row.test


def _tests(store: Store, ask: Ask) -> Iterator[tuple[list[Reading], int]]:
    """Both directions of each test that enrolled agents took part in, and when it ended."""
    enrolled = {member.name for member in ask.members}
    for _, own in groupby(rows_of(store, "readings", ask.of, Reading), _key):
        latest = {(one.src, one.dst): one for one in own if {one.src, one.dst} <= enrolled}
        if latest:
            yield list(latest.values()), max(map(ended_us, latest.values()))


class _Beside:
    """The hops of one test after the other; they come in the same order as the tests."""

    def __init__(self, hops: Iterable[Hop]) -> None:
        self._groups = ((key, list(own)) for key, own in groupby(hops, _key))
        self._ahead = next(self._groups, None)

    def of(self, test: Key) -> list[Hop]:
        while self._ahead is not None and self._ahead[0] < test:
            self._ahead = next(self._groups, None)
        return self._ahead[1] if self._ahead is not None and self._ahead[0] == test else []


def _paths(store: Store, ask: Ask) -> Iterator[pa.RecordBatch]:
    """A row for each direction of each test, as the page showed it when the test had ended."""
    rows = _path_rows(store, ask)
    while some := list(islice(rows, ROWS)):
        yield from rows_table(some).to_batches()


def _path_rows(store: Store, ask: Ask) -> Iterator[tuple[Report, PathRow]]:
    beside = _Beside(rows_of(store, "hops", ask.of, Hop))
    for readings, at_us in _tests(store, ask):
        hops = beside.of(_key(readings[0]))
        made = path_rows(ask.profile, readings, hops, ask.members, at_us=at_us, rules=ask.rules)
        report = msgspec.structs.replace(_EMPTY, tenant=ask.of.tenant, profile=ask.profile, at_us=at_us)
        yield from ((report, row) for row in made)


_EMPTY: Final = Report(
    tenant="",
    profile="",
    at_us=0,
    rules_version="",
    verdict=Verdict(headline="", details=[], can=[], cannot=[], unknown=[]),
    findings=[],
    paths=[],
    members=[],
    missing=[],
)

# --- grades -------------------------------------------------------------------------------------------------


def _described(name: str, type_: pa.DataType, unit: str, description: str) -> pa.Field:
    return pa.field(name, type_, metadata={"description": description, "unit": unit})


_STR, _INT = pa.string(), pa.int64()
GRADE_SCHEMA: Final = pa.schema(
    [
        _described("tenant", _STR, "", "tenant the agents belong to"),
        _described("cycle", _INT, "s since 1970", "cycle the test belongs to: its start"),
        _described("test", _STR, "", "id of the pair test, shared by both directions"),
        _described("src", _STR, "", "agent that sent"),
        _described("dst", _STR, "", "agent that received"),
        _described("src_site", _STR, "", "site of src"),
        _described("dst_site", _STR, "", "site of dst"),
        _described("at_us", _INT, "us since 1970", "end of the test"),
        _described("profile", _STR, "", "application profile that the grade is for"),
        _described("letter", _STR, "", "A B C D F, X = cannot connect, ? = withheld"),
        _described("outcome", _INT, "", "what the letter is given for, in outcome_unit"),
        _described("outcome_low", _INT, "", "least outcome that the inputs support"),
        _described("outcome_high", _INT, "", "greatest outcome that the inputs support"),
        _described("outcome_unit", _STR, "", "unit of the outcome"),
        _described("reason", _STR, "", "why this letter, or why none"),
        _described("rule", _STR, "", "rule that gave the letter"),
        _described("rules_version", _STR, "", "version of the rules"),
    ]
)


def _grades(store: Store, ask: Ask) -> Iterator[pa.RecordBatch]:
    rows = _grade_rows(store, ask)
    while some := list(islice(rows, ROWS)):
        yield pa.RecordBatch.from_pylist(some, schema=GRADE_SCHEMA)


def _grade_rows(store: Store, ask: Ask) -> Iterator[dict[str, Any]]:
    """A row for each direction of each test and each profile that the site is graded for."""
    sites = {member.name: member.site for member in ask.members}
    for readings, at_us in _tests(store, ask):
        of = {(one.src, one.dst): one for one in readings}
        for one in readings:
            ends = sites[one.src], sites[one.dst]
            for profile in ask.profiles:
                wanted = ask.rules.profile(profile).sites
                if wanted and not set(ends) & set(wanted):
                    continue
                found = grade(one, of.get((one.dst, one.src)), profile, ask.rules, at_us)
                told = msgspec.structs.asdict(found) | {"letter": found.letter.value}
                told["outcome_unit"] = told.pop("unit")
                yield {
                    "tenant": ask.of.tenant,
                    "cycle": one.cycle,
                    "test": one.test,
                    "src": one.src,
                    "dst": one.dst,
                    "src_site": ends[0],
                    "dst_site": ends[1],
                    "at_us": ended_us(one),
                    **told,
                }


# --- findings -----------------------------------------------------------------------------------------------

FINDING_SCHEMA: Final = pa.schema(
    [
        _described("tenant", _STR, "", "tenant the agents belong to"),
        _described("report_us", _INT, "us since 1970", "moment of the report"),
        _described("profile", _STR, "", "application profile that paths are bad for"),
        _described("kind", _STR, "", "host, uplink, region, relay, transit"),
        _described("where", _STR, "", "agent, site, region, or two sites; empty for the relay"),
        _described("explains", _INT, "", "bad paths that it explains"),
        _described("bad", _INT, "", "paths that are bad altogether"),
        _described("through", _INT, "", "measured paths that cross it"),
        _described("confidence_percent", _INT, "%", "the odds against the other parts, as a share"),
        _described("since_us", _INT, "us since 1970", "since when; null where nothing was ever usual"),
        _described("paths", pa.list_(_STR), "", "'src dst' of each path that it explains"),
        _described("sentence", _STR, "", "the finding as the page says it"),
        _described("rules_version", _STR, "", "version of the rules"),
    ]
)


def _finding(report: Report, finding: Finding) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(finding),
        "tenant": report.tenant,
        "report_us": report.at_us,
        "profile": report.profile,
        "explains": len(finding.explains),
        "paths": [f"{src} {dst}" for src, dst in finding.explains],
        "rules_version": report.rules_version,
    }


# --- of a moment --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OfReport:
    """An export of one report: of now, or of an earlier moment."""

    schema: pa.Schema
    rows: Callable[[Report, frozenset[str] | None], pa.Table]

    def of(self, report: Report, agents: frozenset[str] | None = None) -> Batches:
        """The rows of a report, of those agents only (None = all)."""
        return Batches(self.schema, iter(self.rows(report, agents).to_batches()))


def _latest_paths(report: Report, agents: frozenset[str] | None) -> pa.Table:
    return rows_table([(report, row) for row in report.paths if _is_of(agents, (row.src, row.dst))])


def _findings(report: Report, agents: frozenset[str] | None) -> pa.Table:
    chosen = [one for one in report.findings if any(_is_of(agents, pair) for pair in one.explains)]
    return pa.Table.from_pylist([_finding(report, one) for one in chosen], schema=FINDING_SCHEMA)


def _is_of(agents: frozenset[str] | None, ends: tuple[str, str]) -> bool:
    return agents is None or not agents.isdisjoint(ends)


PATHS: Final = OfReport(PATH_SCHEMA, _latest_paths)
FINDINGS: Final = OfReport(FINDING_SCHEMA, _findings)

EXPORTS: Final[dict[str, Export]] = {
    "paths": Export(PATH_SCHEMA, _paths),
    "hops": _facts("hops"),
    "flows": _facts("flows"),
    "grades": Export(GRADE_SCHEMA, _grades),
    "receipts": _facts("receipts"),
}
"""Name -> what is written for a range of time. Findings are of a moment."""
TABLES: Final = (*EXPORTS, "findings")
