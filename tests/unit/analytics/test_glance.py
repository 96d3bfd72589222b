"""What is seen of whole columns at once; that it is never wrong is in ``tests/property/test_glance.py``."""

from __future__ import annotations

from array import array

import msgspec
import pytest

from analytics.batch import COLUMNS, TableBlock, check_batch
from analytics.measurement import Receipt
from analytics.store.glance import right_columns
from tests.unit.analytics.facts import body, flow, hop, reading

LISTS = {"srtt_histogram", "srtt_lasting_histogram"}
RECEIPT = Receipt(
    tenant="default",
    cycle=300,
    test="t1",
    src="pacs",
    dst="clinic",
    layout=3,
    signed_us=300_000_000,
    src_key="ed25519:" + "A" * 43,
    src_signature="A" * 86 + "==",
)


def table(name: str) -> TableBlock:
    rows = {
        "readings": [reading(), reading(dst="home", rtt_p50_us=None)],
        "hops": [hop(1, "10.0.0.1", 300), hop(2, "", None)],
        "flows": [flow(), flow(window_us=7)],
        "receipts": [RECEIPT, msgspec.structs.replace(RECEIPT, dst="home", why_not="peer-silent")],
    }
    return check_batch(body("pacs", 1, **{name: rows[name]})).tables[name]


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_nothing_of_a_usual_batch_is_looked_at_value_by_value(name: str) -> None:
    usual = {column.name for column in COLUMNS[name]} - LISTS
    assert right_columns(name, table(name), "pacs") == usual


def test_of_a_table_without_rows_nothing_is_said() -> None:
    assert (
        right_columns("readings", msgspec.structs.replace(table("readings"), rows=0), "pacs") == frozenset()
    )


def test_one_bad_integer_leaves_the_columns_of_its_bounds_to_the_strict_check() -> None:
    block = table("readings")
    bad = msgspec.structs.replace(block.columns["rtt_p50_us"], data=array("q", [5, -1]).tobytes())
    damaged = msgspec.structs.replace(block, columns=block.columns | {"rtt_p50_us": bad})
    right = right_columns("readings", damaged, "pacs")
    assert "rtt_p50_us" not in right
    assert {"sent", "received", "dst"} <= right


def test_text_beyond_ascii_and_rows_of_another_are_left_to_the_strict_check() -> None:
    block = check_batch(body("pacs", 1, readings=[reading(error="söme text")])).tables["readings"]
    assert "error" not in right_columns("readings", block, "pacs")
    assert "src" not in right_columns("readings", block, "another")
