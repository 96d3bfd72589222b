"""Whose files these are: each tenant's lie in a folder of its own, outermost.

A question for a tenant opens files of that folder only, so none can tell of another's rows, whatever it asks.
A file says so itself as well: what has rows of another tenant than its folder's is set aside.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from analytics.errors import StoreError
from analytics.measurement import NAME_PATTERN

PREFIX: Final = "tenant="
_NAME: Final = re.compile(NAME_PATTERN)
_MOST: Final = 63
"""Characters of a name, as in the vocabulary."""


def is_name(tenant: str) -> bool:
    """Whether a text is a tenant's name as the vocabulary has it: then it can be a folder's, too."""
    return len(tenant) <= _MOST and _NAME.match(tenant) is not None


def check_name(tenant: str) -> None:
    """Refuse what is no tenant's name. Raises ``StoreError``."""
    if not is_name(tenant):
        raise StoreError(
            f"keeping rows of tenant {tenant[:_MOST]!r}: no name of a tenant",
            remedy="name it with a-z and 0-9, and dots, dashes or underscores between them",
        )


def folder_of(root: Path, tenant: str) -> Path:
    """Name a tenant's folder. Raises as ``check_name``."""
    check_name(tenant)
    return root / f"{PREFIX}{tenant}"


def tenant_of(folder: str) -> str:
    """Say whose folder it is, by its name; empty where it is none."""
    tenant = folder.removeprefix(PREFIX)
    return tenant if tenant != folder and is_name(tenant) else ""


def tenants_below(root: Path) -> list[str]:
    """List the tenants that have a folder."""
    return sorted(filter(None, (tenant_of(folder.name) for folder in root.glob(f"{PREFIX}*"))))


def tenants_in(file: pq.ParquetFile) -> set[str]:
    """Say whose rows a file has, by its statistics where these tell. Raises as pyarrow does."""
    told = file.metadata
    at = told.schema.names.index("tenant")
    found: set[str] = set()
    for group in range(told.num_row_groups):
        seen = statistics_of(told, group, at)
        if seen is not None and seen.has_min_max and seen.min == seen.max:
            found.add(seen.min)
        else:
            # Of one column, threads have nothing to share.
            column = file.read_row_group(group, columns=["tenant"], use_threads=False)["tenant"]
            found.update(column.unique().to_pylist())
    return found


def statistics_of(told: pq.FileMetaData, group: int, at: int) -> pq.Statistics | None:
    """What a file says of a column in a row group. Raises ``ValueError`` where it says two types of it.

    Asked for the statistics of such a column, pyarrow 26 ends the process: nobody takes the C++ exception.
    """
    column, kind = told.row_group(group).column(at), told.schema.column(at).physical_type
    if column.physical_type != kind:
        raise ValueError(f"a column of {column.physical_type} that is {kind}")
    return column.statistics
