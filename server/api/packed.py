"""One metric of all paths, packed: what ``GET /v1/matrix`` answers.

::

      0      4       8                    8 + L        8 + L + n * n * cell_bytes
      ┌──────┬───────┬────────────────────┬───────────────────────────┐
      │ PGM1 │ L     │ head: JSON, UTF-8  │ cells: row after row      │
      └──────┴───────┴────────────────────┴───────────────────────────┘
        magic  u32     padded with spaces: cells begin at a multiple of 4

Numbers are little endian and unsigned. The head is ``Head``: agents of rows (sources) and of columns
(destinations) in one order, by site; a cell with the value ``none`` was not measured, and so is an agent's
path to itself. Cells of ``letter`` are ASCII (A B C D F X ?), those of ``rung`` a place in ``rungs``.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from analytics.errors import UNREADABLE, WireError
from analytics.overview import MatrixCells, Metric

MAGIC: Final = b"PGM1"
MOST_HEAD: Final = 16_000_000


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What stands before the cells."""

    profile: str
    metric: Metric
    at_us: int
    revision: str
    agents: list[str]
    sites: list[str]  # of each agent
    rungs: list[str]
    cell_bytes: int  # 1, 2 or 4
    unit: str
    none: int


def packed(cells: MatrixCells) -> bytes:
    """Lay a matrix out as above."""
    head = msgspec.json.encode(
        Head(
            profile=cells.profile,
            metric=cells.metric,
            at_us=cells.at_us,
            revision=cells.revision,
            agents=cells.agents,
            sites=cells.sites,
            rungs=cells.rungs,
            cell_bytes=cells.packing.cell_bytes,
            unit=cells.packing.unit,
            none=cells.packing.none,
        )
    )
    head += b" " * (-len(head) % 4)
    return b"".join((MAGIC, struct.pack("<I", len(head)), head, cells.cells))


def unpacked(body: bytes) -> tuple[Head, bytes]:
    """Read what ``packed`` wrote: the head and the cells. Raises ``WireError``."""
    try:
        (length,) = struct.unpack_from("<I", body, len(MAGIC))
        start = len(MAGIC) + 4
        head = msgspec.json.decode(body[start : start + min(length, MOST_HEAD)], type=Head)
    except (struct.error, *UNREADABLE) as error:
        raise _unread(str(error)) from error
    cells = body[start + length :]
    if not body.startswith(MAGIC) or len(cells) != len(head.agents) ** 2 * head.cell_bytes:
        raise _unread(f"{len(cells)} bytes of cells for {len(head.agents)} agents")
    if len(head.sites) != len(head.agents):
        raise _unread(f"{len(head.sites)} sites for {len(head.agents)} agents")
    return head, cells


def _unread(why: str) -> WireError:
    return WireError(f"read a matrix: {why}", remedy="check that command and server are of one version")
