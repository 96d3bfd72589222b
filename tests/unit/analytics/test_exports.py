"""Exports over a range of time, from a real store; and the notebook of ``docs/analysts.md`` over them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.exports import EXPORTS, FINDINGS, TABLES, Ask
from analytics.measurement import FACTS, Hop, Reading, Receipt
from analytics.receipt_file import check, line_of
from analytics.report import build_report
from analytics.rules.load import load_rules
from analytics.sheets import FORMULA, harmless
from analytics.store.store import Store
from analytics.store.stream import Range, stream
from analytics.written import ENDINGS, FORMATS, MEDIA_TYPES, written
from server.api.routes import Format, Table
from tests.unit.analytics.facts import AT_US, CYCLE, MEMBERS, body, flow, put, reading
from tests.unit.analytics.signed import ANCHORS, signed
from tests.unit.analytics.signed import file as receipt_file
from tests.unit.analytics.test_legs import HOSPITAL, HOTEL

RULES = load_rules()
ROOT = Path(__file__).parents[3]
DAY_S = 86_400
STEP_S = 3_600
CYCLES = 30  # an hour apart: over two days


def facts(n: int) -> tuple[list[Reading], list[Reading], list[Hop], list[Hop]]:
    """One test an hour between PACS and radiologist, and the hops of both ends."""
    cycle = CYCLE - n * STEP_S
    ended_us = AT_US - 12_000_000 - n * STEP_S * 1_000_000
    of = {"cycle": cycle, "test": f"t{n:03}"}
    there = reading(rtt_us=260_000, ended_us=ended_us, started_us=ended_us - 9_000_000, **of)
    back = msgspec.structs.replace(there, src=there.dst, dst=there.src)
    near = [msgspec.structs.replace(hop, **of) for hop in HOSPITAL]
    far = [msgspec.structs.replace(hop, src="radiologist", dst="pacs", **of) for hop in HOTEL]
    return [there], [back], near, far


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Some of it sealed, some not."""
    made = Store.open(tmp_path_factory.mktemp("store"), clock_us=lambda: AT_US)
    for n in range(CYCLES):
        there, back, near, far = facts(n)
        seen = [flow("pacs", window_us=AT_US - n * STEP_S * 1_000_000, opened=3, srtt_histogram=(7, 3))]
        put(
            made,
            body("pacs", n, readings=there, hops=near, flows=seen, receipts=[*map(signed, there)]),
            body("radiologist", n, readings=back, hops=far),
        )
        if n == CYCLES // 2:
            made.seal()
    yield made
    made.close()


def ask(since_s: int = 3 * DAY_S, until_s: int = 0, **of: Any) -> Ask:
    given: dict[str, Any] = {"profile": "pacs", "profiles": ["pacs", "ehr"], "agents": None, **of}
    span = Range("default", AT_US - since_s * 1_000_000, AT_US - until_s * 1_000_000, given.pop("agents"))
    return Ask(of=span, members=MEMBERS, rules=RULES, **given)


def rows(store: Store, table: str, asked: Ask) -> list[dict[str, Any]]:
    kind = EXPORTS[table]
    return [row for batch in kind.batches(store, asked) for row in batch.to_pylist()]


def test_paths_of_every_test_have_grade_and_legs(store: Store) -> None:
    made = rows(store, "paths", ask())
    assert len(made) == 2 * CYCLES
    assert [row["at_us"] for row in made] == sorted(row["at_us"] for row in made)
    there = [row for row in made if row["src"] == "pacs"]
    assert {row["letter"] for row in there} == {"D"}
    assert {row["leg_destination_access_us"] for row in there} == {212_300}
    assert all(row["age_s"] == 0 and row["rules_version"] == RULES.version for row in made)


def test_grades_are_for_every_profile(store: Store) -> None:
    made = rows(store, "grades", ask())
    assert len(made) == 2 * 2 * CYCLES
    assert {(row["profile"], row["outcome_unit"]) for row in made} == {("pacs", "ms"), ("ehr", "us")}
    assert all(row["rule"] and row["reason"] for row in made)
    assert len(rows(store, "grades", ask(profiles=["pacs"]))) == 2 * CYCLES


@pytest.mark.parametrize(("table", "per_cycle"), [("hops", 6 + len(HOTEL)), ("flows", 1), ("receipts", 1)])
def test_facts_come_as_they_were_sent(store: Store, table: str, per_cycle: int) -> None:
    made = rows(store, table, ask(until_s=-1))
    assert len(made) == CYCLES * per_cycle
    kind = FACTS[table]
    assert set(made[0]) == set(kind.__struct_fields__)
    assert made == [msgspec.to_builtins(msgspec.convert(row, kind)) | row for row in made]


def test_an_exported_receipt_still_holds_with_its_reading(store: Store) -> None:
    receipts = {row["test"]: row for row in rows(store, "receipts", ask(until_s=-1))}
    for n in range(CYCLES):
        (there,), *_ = facts(n)
        told = line_of(there, msgspec.convert(receipts[there.test], Receipt))
        assert check(receipt_file([told]), ANCHORS).proven


def test_a_range_is_cut_exactly_and_days_join_without_gaps(store: Store) -> None:
    whole = [row["test"] for row in rows(store, "grades", ask())]
    for cut_s in (1, 5 * STEP_S, 27 * STEP_S):
        old = [row["test"] for row in rows(store, "grades", ask(until_s=cut_s))]
        new = [row["test"] for row in rows(store, "grades", ask(since_s=cut_s))]
        assert old + new == whole
    assert rows(store, "paths", ask(since_s=-1)) == []


def test_filters_keep_what_has_that_end(store: Store) -> None:
    assert len(rows(store, "paths", ask(agents=frozenset({"radiologist"})))) == 2 * CYCLES
    assert rows(store, "paths", ask(agents=frozenset({"home"}))) == []
    assert rows(store, "flows", ask(agents=frozenset({"radiologist"}))) == []
    assert len(rows(store, "flows", ask(until_s=-1, agents=frozenset({"pacs", "home"})))) == CYCLES


def test_another_tenants_rows_are_not_there(store: Store) -> None:
    other = Range("other", 0, AT_US)
    assert not list(stream(store, "readings", Range("other", AT_US - DAY_S * 10**6, AT_US), ["src"]))
    assert other.agents is None


def test_a_file_that_is_merged_away_while_it_is_read_stays_readable(tmp_path: Path) -> None:
    store = Store.open(tmp_path, clock_us=lambda: AT_US)
    for n in range(40):
        put(store, body("pacs", n, flows=[flow("pacs", window_us=AT_US - n)] * 1_000))
        store.seal()
    reading_now = stream(store, "flows", Range("default", AT_US - 10**6, AT_US + 1), ["window_us", "agent"])
    first = next(reading_now)
    for path in tmp_path.rglob("*.parquet"):
        path.unlink()
    assert first.num_rows + sum(batch.num_rows for batch in reading_now) == 40_000
    store.close()


# --- files --------------------------------------------------------------------------------------------------


def file(store: Store, table: str, format_: str) -> bytes:
    kind = EXPORTS[table]
    return b"".join(written(kind.schema, kind.batches(store, ask(until_s=-1)), format_))


@pytest.mark.parametrize("table", list(EXPORTS))
def test_every_format_has_the_same_rows(store: Store, table: str, tmp_path: Path) -> None:
    expected = rows(store, table, ask(until_s=-1))
    assert pq.read_table(io.BytesIO(file(store, table, "parquet"))).to_pylist() == expected
    assert pa.ipc.open_file(file(store, table, "arrow")).read_all().to_pylist() == expected
    (tmp_path / "x.csv").write_bytes(file(store, table, "csv"))
    read = duckdb.sql(f"SELECT * FROM read_csv('{tmp_path / 'x.csv'}', all_varchar = true)")
    assert read.columns == list(expected[0])
    assert len(read.fetchall()) == len(expected)


def test_fields_carry_their_description_and_unit(store: Store) -> None:
    for table in EXPORTS:
        schema = pq.read_schema(io.BytesIO(file(store, table, "parquet")))
        assert all(field.metadata[b"description"] for field in schema)


def test_lists_are_text_in_csv(store: Store) -> None:
    assert '"7 3"' in file(store, "flows", "csv").decode()


CELLS = st.none() | st.text(st.sampled_from("=+-@\t\r'a1"), max_size=4)


@given(st.lists(CELLS, min_size=1, max_size=8))
def test_no_cell_of_csv_is_run_by_a_spreadsheet(cells: list[str | None]) -> None:
    schema = pa.schema([("process", pa.string()), ("rtt_us", pa.int64()), ("names", pa.list_(pa.string()))])
    rows = [{"process": cell, "rtt_us": -1, "names": [cell] if cell else None} for cell in cells]
    batches = [pa.RecordBatch.from_pylist(rows, schema=schema)]
    text = b"".join(written(schema, batches, "csv")).decode()
    read = list(csv.reader(io.StringIO(text, newline="")))[1:]
    told = ["" if cell is None else harmless(cell) for cell in cells]
    assert [row[0] for row in read] == told
    assert {row[1] for row in read} == {"-1"}  # a number stays one
    assert not [row for row in read if row[2].startswith(FORMULA)]


def test_an_empty_export_has_the_columns(store: Store) -> None:
    kind = EXPORTS["grades"]
    for format_ in FORMATS:
        content = b"".join(written(kind.schema, kind.batches(store, ask(since_s=-1)), format_))
        assert b"outcome_unit" in content


def test_the_lists_of_tables_and_formats_are_one(store: Store) -> None:
    assert {table.value for table in Table} == set(TABLES)
    assert {format_.value for format_ in Format} == set(FORMATS) == set(MEDIA_TYPES) == set(ENDINGS.values())


# --- the notebook -------------------------------------------------------------------------------------------


def test_the_notebook_of_the_docs_runs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "analysts.md").read_text(), re.DOTALL)
    for table in EXPORTS:
        (tmp_path / f"{table}.parquet").write_bytes(file(store, table, "parquet"))
    readings, back, near, far = facts(0)
    report = build_report(
        tenant="default",
        profile="pacs",
        readings=[*readings, *back],
        hops=[*near, *far],
        members=MEMBERS,
        at_us=AT_US,
        rules=RULES,
    )
    causes = FINDINGS.of(report)
    (tmp_path / "findings.parquet").write_bytes(b"".join(written(causes.schema, causes.batches, "parquet")))
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    for cell in cells:
        exec(compile(cell, "analysts.md", "exec"), space)
    assert len(cells) == 6
    assert space["letters"].fetchall()[0] == ("pacs", "radiologist", "D", 30, 100.0)
    assert ("pacs", "radiologist", 260.0, 4.3, 41.8, 213.9) in space["legs"].fetchall()
    assert space["applications"].fetchall()[0][:4] == ("pacs", "Orthanc", 4242, 90)
    assert space["causes"].fetchall()[0][1] == 2
    assert capsys.readouterr().out.count("┌") >= 6
