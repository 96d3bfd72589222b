"""The report as a whole, its export, and the documents made from the same definitions."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb
import msgspec
import pytest

from analytics.errors import ExportError
from analytics.export import PATH_COLUMNS, export_paths
from analytics.grades_doc import grades_text
from analytics.measurement import CapacityTrust, Hop, Reading, Rung
from analytics.report import PathDetail, Report, build_detail, build_report
from analytics.rules.load import load_rules
from analytics.schema_doc import schema_text
from tests.unit.analytics.facts import AT_US, MEMBERS, flow, reading
from tests.unit.analytics.test_legs import HOSPITAL, HOTEL

RULES = load_rules()
NAMES = [member.name for member in MEMBERS]
ROOT = Path(__file__).parents[3]


def facts() -> tuple[list[Reading], list[Hop]]:
    """All 30 paths but two; the hotel is slow both ways, the clinic is relayed, one path is gone."""
    readings = []
    for src in NAMES:
        for dst in NAMES:
            if src == dst or {src, dst} == {"home", "clinic"}:
                continue
            slow = {"rtt_us": 260_000, "capacity_kbps": 25_000} if "radiologist" in (src, dst) else {}
            rung = {"rung": Rung.RELAY_UDP} if "clinic" in (src, dst) else {}
            readings.append(reading(src, dst, **slow, **rung))
    gone = {
        "rung": Rung.NONE,
        "rungs_failed": "no answer",
        "rtt_min_us": None,
        "rtt_p50_us": None,
        "rtt_n": 0,
        "sent": 0,
    }
    gone |= {"capacity_kbps": None, "capacity_trust": CapacityTrust.NONE, "received": 0}
    readings[-1] = msgspec.structs.replace(readings[-1], **gone)
    hops = [
        *HOSPITAL,
        *(msgspec.structs.replace(hop, src="radiologist", dst="pacs") for hop in HOTEL),
    ]
    return readings, hops


def built(readings: list[Reading], hops: list[Hop]) -> Report:
    return build_report(
        tenant="default",
        profile="pacs",
        readings=readings,
        hops=hops,
        members=MEMBERS,
        at_us=AT_US,
        rules=RULES,
    )


def test_rows_are_worst_first_and_whole() -> None:
    report = built(*facts())
    assert len(report.paths) == 28
    assert report.missing == [("clinic", "home"), ("home", "clinic")]
    assert "".join(row.grade.letter for row in report.paths) == "X" + "D" * 10 + "B" * 17
    worst = report.paths[0]
    assert (worst.src, worst.dst, worst.rtt_p50_us, worst.loss_bp, worst.legs) == (
        "office-2",
        "office-1",
        None,
        None,
        [],
    )
    slow = next(row for row in report.paths if (row.src, row.dst) == ("pacs", "radiologist"))
    assert (slow.age_s, slow.loss_bp, slow.loss_back_bp, slow.src_site, slow.dst_site) == (
        12,
        0,
        0,
        "hospital",
        "hotel",
    )
    assert sum(leg.rtt_us for leg in slow.legs) == slow.rtt_min_us
    assert report.verdict.headline == "4 of 5 workplaces can open a CT from the PACS right now."


def test_the_order_of_the_facts_does_not_matter() -> None:
    readings, hops = facts()
    expected = built(readings, hops)
    chance = random.Random(3)
    for _ in range(5):
        chance.shuffle(readings)
        chance.shuffle(hops)
        assert built(readings, hops) == expected


def test_agents_that_are_gone_are_left_out() -> None:
    readings, hops = facts()
    assert built([*readings, reading("pacs", "ghost")], hops) == built(readings, hops)


def test_the_other_direction_counts_only_if_it_is_of_the_same_test() -> None:
    readings = [reading(), reading("radiologist", "pacs", received=150)]
    assert built(readings, []).paths[0].loss_back_bp in (0, 5_000)
    other = [reading(), reading("radiologist", "pacs", received=150, test="an older one")]
    assert all(row.loss_back_bp is None for row in built(other, []).paths)


def told(src: str, dst: str) -> PathDetail | None:
    readings, hops = facts()
    met = {"local_candidate": "srflx 198.51.100.66 4000", "remote_candidate": "srflx 203.0.113.20 5000"}
    readings = [
        msgspec.structs.replace(r, **met) if (r.src, r.dst) == ("pacs", "radiologist") else r
        for r in readings
    ]
    flows = [
        flow("pacs", remote_address="203.0.113.20"),
        flow("pacs", remote_address="203.0.113.99"),
        flow("radiologist", remote_address="198.51.100.66"),
        flow("home", remote_address="198.51.100.66"),
    ]
    return build_detail(
        src,
        dst,
        profile="pacs",
        readings=readings,
        hops=hops,
        flows=flows,
        members=MEMBERS,
        at_us=AT_US,
        rules=RULES,
    )


def test_a_path_with_both_directions_hops_and_flows() -> None:
    detail = told("pacs", "radiologist")
    assert detail is not None
    assert detail.back is not None
    assert (detail.forward.src, detail.back.src) == ("pacs", "radiologist")
    assert [hop.ttl for hop in detail.forward_hops] == [1, 2, 3, 4, 5, 6]
    assert {hop.src for hop in detail.back_hops} == {"radiologist"}
    assert [(f.agent, f.remote_address) for f in detail.flows] == [
        ("pacs", "203.0.113.20"),
        ("radiologist", "198.51.100.66"),
    ]
    assert told("home", "clinic") is None


# --- export -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["parquet", "csv"])
def test_an_export_has_the_rows_of_the_page(tmp_path: Path, format_: str) -> None:
    report = built(*facts())
    out = tmp_path / f"paths.{format_}"
    assert export_paths(report, out) == 28
    read = f"read_{format_}('{out}')"
    rows = duckdb.sql(f"SELECT src, dst, letter, rung, rtt_p50_us, loss_bp, outcome FROM {read}").fetchall()
    assert rows == [
        (r.src, r.dst, r.grade.letter.value, r.rung.value, r.rtt_p50_us, r.loss_bp, r.grade.outcome)
        for r in report.paths
    ]
    legs = duckdb.sql(
        f"SELECT leg_source_host_us, leg_source_access_us, leg_transit_us, leg_destination_access_us, "
        f"leg_destination_host_us FROM {read} WHERE src = 'pacs' AND dst = 'radiologist'"
    ).fetchone()
    assert legs == (300, 4_000, 41_800, 212_300, 1_600)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_an_export_of_nothing_has_the_columns(tmp_path: Path) -> None:
    assert export_paths(built([], []), tmp_path / "paths.parquet") == 0
    columns = duckdb.sql(f"DESCRIBE SELECT * FROM '{tmp_path / 'paths.parquet'}'").fetchall()
    assert [column[0] for column in columns] == [column.name for column in PATH_COLUMNS]


def test_an_export_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    report = built([], [])
    with pytest.raises(ExportError, match="no such format") as caught:
        export_paths(report, tmp_path / "paths.xlsx")
    assert caught.value.remedy == "end the name in .parquet or .csv"
    with pytest.raises(ExportError, match="No such file or directory"):
        export_paths(report, tmp_path / "none" / "paths.csv")


# --- documents ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "module"),
    [
        ("schema.md", schema_text(), "analytics.schema_doc"),
        ("grades.md", grades_text(RULES), "analytics.grades_doc"),
    ],
)
def test_generated_documents_are_fresh(name: str, text: str, module: str) -> None:
    assert (ROOT / "docs" / name).read_text() == text, f"stale: run python -m {module}"
