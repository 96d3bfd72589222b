"""Export: the rows of a report as a file that any tool reads; the data dictionary is ``docs/schema.md``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from analytics.errors import ExportError
from analytics.fused import Fused
from analytics.measurement import LegKind
from analytics.report import PathRow, Report
from analytics.store.files import replace_durably
from analytics.written import ENDINGS, written


@dataclass(frozen=True, slots=True)
class ExportColumn:
    """One column of the exported paths, and where it comes from."""

    name: str
    type: pa.DataType
    unit: str
    description: str
    value: Callable[[Report, PathRow], Any]


def _of_report(name: str, type_: pa.DataType, unit: str, description: str) -> ExportColumn:
    return ExportColumn(name, type_, unit, description, lambda report, row: getattr(report, name))


def _of_row(name: str, type_: pa.DataType, unit: str, description: str) -> ExportColumn:
    return ExportColumn(name, type_, unit, description, lambda report, row: getattr(row, name))


def _of_grade(name: str, field: str, type_: pa.DataType, description: str) -> ExportColumn:
    return ExportColumn(name, type_, "", description, lambda report, row: getattr(row.grade, field))


def _of_leg(kind: LegKind) -> ExportColumn:
    def value(report: Report, row: PathRow) -> int | None:
        return next((leg.rtt_us for leg in row.legs if leg.kind is kind and leg.measured), None)

    name = f"leg_{kind.value.replace('-', '_')}_us"
    description = f"share of rtt_min_us in the leg {kind.value}; null = no such leg, or nobody answered there"
    return ExportColumn(name, pa.int64(), "us", description, value)


def _of_fused(name: str, type_: pa.DataType, description: str, of: Callable[[Fused], Any]) -> ExportColumn:
    def value(report: Report, row: PathRow) -> Any:
        return None if row.fused is None else of(row.fused) or None

    return ExportColumn(name, type_, "", description, value)


def _letter_active(fused: Fused) -> str:
    return fused.active.letter.value


def _passive(fused: Fused) -> str:
    return ",".join(fused.passive)


def _held_up_by(fused: Fused) -> str | None:
    return None if fused.held_up is None else f"{fused.held_up.what} of {fused.held_up.whose}"


_INT, _STR = pa.int64(), pa.string()

PATH_COLUMNS: Final[tuple[ExportColumn, ...]] = (
    _of_report("tenant", _STR, "", "tenant the agents belong to"),
    ExportColumn(
        "report_us", _INT, "us since 1970", "moment of the report", lambda report, row: report.at_us
    ),
    _of_row("src", _STR, "", "agent that sent"),
    _of_row("dst", _STR, "", "agent that received"),
    _of_row("src_site", _STR, "", "site of src"),
    _of_row("dst_site", _STR, "", "site of dst"),
    _of_grade("profile", "profile", _STR, "application profile that the grade is for"),
    ExportColumn(
        "letter", _STR, "", "A B C D F, X = cannot connect, ? = withheld", lambda r, p: p.grade.letter.value
    ),
    _of_grade("outcome", "outcome", _INT, "what the letter is given for, in outcome_unit"),
    _of_grade("outcome_low", "outcome_low", _INT, "least outcome that the inputs support"),
    _of_grade("outcome_high", "outcome_high", _INT, "greatest outcome that the inputs support"),
    _of_grade("outcome_unit", "unit", _STR, "unit of the outcome"),
    _of_grade("reason", "reason", _STR, "why this letter, or why none"),
    _of_grade("rule", "rule", _STR, "rule that gave the letter"),
    _of_grade("rules_version", "rules_version", _STR, "version of the rules"),
    _of_row("at_us", _INT, "us since 1970", "end of the test"),
    _of_row("age_s", _INT, "s", "age of the test at the moment of the report"),
    _of_row("rung", _STR, "", "rung of the ladder the test ran over; none = unreachable"),
    _of_row("rungs_failed", _STR, "", "why each higher rung failed"),
    _of_row("rtt_min_us", _INT, "us", "least round trip"),
    _of_row("rtt_p50_us", _INT, "us", "median round trip"),
    _of_row("rtt_p95_us", _INT, "us", "95th percentile of the round trip"),
    _of_row("rtt_n", _INT, "", "round trips measured"),
    _of_row("sent", _INT, "", "probes src sent to dst"),
    _of_row("received", _INT, "", "probes dst received"),
    _of_row("loss_bp", _INT, "basis points", "loss src -> dst"),
    _of_row("loss_back_bp", _INT, "basis points", "loss dst -> src, counted by the other end"),
    _of_row("ipdv_us", _INT, "us", "mean |difference| of successive one-way delays (RFC 3393)"),
    _of_row("capacity_kbps", _INT, "kbit/s", "capacity src -> dst, IP layer"),
    _of_row("capacity_trust", _STR, "", "measured, at-least or none"),
    _of_row("stamps", _STR, "", "clock of the round trips: kernel or user"),
    _of_row("connect_us", _INT, "us", "from the first check to the DTLS session"),
    *(_of_leg(kind) for kind in LegKind),
    _of_row("letter_since_us", _INT, "us since 1970", "since when the letter is so; null = not watched"),
    _of_row(
        "lossy_since_us", _INT, "us since 1970", "since when src -> dst loses; null = not, or not watched"
    ),
    _of_row("error", _STR, "", "why there is no measurement"),
    _of_fused(
        "letter_active", _STR, "letter by the probes alone; null = nothing else counts", _letter_active
    ),
    _of_fused("passive", _STR, "numbers that applications' own sessions gave, by commas", _passive),
    _of_fused("apart", _STR, "why probes and application are on different paths", lambda fused: fused.apart),
    _of_fused("held_up_by", _STR, "what sessions waited for that is not the network", _held_up_by),
    _of_fused("congestion", _STR, "congestion control of the end that sends", lambda fused: fused.congestion),
)

PATH_SCHEMA: Final = pa.schema(
    [pa.field(c.name, c.type, metadata={"description": c.description, "unit": c.unit}) for c in PATH_COLUMNS]
)


def export_paths(report: Report, out: Path) -> int:
    """Write one row a directed path, in the order of the report; returns how many.

    The name's ending chooses the format: ``.parquet`` or ``.csv``. The file appears whole or not at all.
    Raises ``ExportError``.
    """
    format_ = _ENDINGS.get(out.suffix)
    if format_ is None:
        raise ExportError(
            f"exporting to {out}: no such format", remedy=f"end the name in {' or '.join(_ENDINGS)}"
        )
    pieces = written(PATH_SCHEMA, paths_table(report).to_batches(), format_)
    try:
        replace_durably(out, lambda file: file.writelines(pieces))
    except OSError as error:
        raise ExportError(
            f"exporting to {out}: {error.strerror or error}",
            remedy="name a file in a folder you may write to",
        ) from error
    return len(report.paths)


_ENDINGS: Final = {ending: format_ for ending, format_ in ENDINGS.items() if format_ != "arrow"}


def paths_table(report: Report) -> pa.Table:
    """Lay the rows of a report out as Arrow."""
    return rows_table([(report, row) for row in report.paths])


def rows_table(rows: Sequence[tuple[Report, PathRow]]) -> pa.Table:
    """Lay rows out as Arrow, each with the report that it is of."""
    columns = [pa.array([c.value(report, row) for report, row in rows], c.type) for c in PATH_COLUMNS]
    return pa.Table.from_arrays(columns, schema=PATH_SCHEMA)
