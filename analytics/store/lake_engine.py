"""DuckDB made ready for a lake: extensions from their wheels, the key to S3, the catalog attached.

Nothing is fetched when the server runs: the extensions come with ``pip install 'pathgrade[lake]'``, one wheel
each, and must be of the very version of DuckDB that loads them.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import duckdb

from analytics.errors import LakeSetupError
from analytics.store.lake_place import SCHEMA, Bucket, LakePlace, connection_of

LAKE: Final = "lake"
"""Name of the attached catalog in DuckDB."""
REMEDY: Final = "install it beside pathgrade: pip install 'pathgrade[lake]'"
_EXTENSIONS: Final = ("ducklake", "postgres_scanner")
_S3_EXTENSIONS: Final = ("httpfs",)


def extensions_for(place: LakePlace) -> tuple[str, ...]:
    """Name the extensions that a lake needs."""
    return _EXTENSIONS + (_S3_EXTENSIONS if place.is_s3 else ())


def extension_file(name: str, version: str) -> Path:
    """Find an extension's file in its wheel. Raises ``LakeSetupError`` where it is not there."""
    found = find_spec(f"duckdb_extension_{name}")
    if found is None or found.origin is None:
        raise LakeSetupError(f"a lake is set, and DuckDB's extension {name} is not installed", remedy=REMEDY)
    folder = Path(found.origin).parent / "extensions"
    file = folder / f"v{version}" / f"{name}.duckdb_extension"
    if not file.is_file():
        there = ", ".join(sorted(path.name for path in folder.glob("v*"))) or "none"
        raise LakeSetupError(
            f"DuckDB {version} needs its extension {name} of v{version}; installed: {there}", remedy=REMEDY
        )
    return file


def load_extensions(database: duckdb.DuckDBPyConnection, place: LakePlace) -> None:
    """Load what the lake needs. Raises ``LakeSetupError``."""
    for name in extensions_for(place):
        file = extension_file(name, duckdb.__version__)
        try:
            database.execute(f"LOAD {quoted(str(file))}")
        except duckdb.Error as error:
            raise LakeSetupError(f"loading {file}: {first_line(error)}", remedy=REMEDY) from error


def give_key(database: duckdb.DuckDBPyConnection, place: LakePlace, bucket: Bucket) -> None:
    """Tell DuckDB how to reach the bucket; kept in its memory only."""
    told = {
        "KEY_ID": quoted(bucket.key),
        "SECRET": quoted(bucket.secret),
        "REGION": quoted(bucket.region),
        "USE_SSL": str(bucket.tls).lower(),
        "SCOPE": quoted(place.data),
    }
    if bucket.token:
        told["SESSION_TOKEN"] = quoted(bucket.token)
    if bucket.host:  # a service of one's own seldom has a DNS name for each bucket
        told |= {"ENDPOINT": quoted(bucket.host), "URL_STYLE": "'path'"}
    options = ", ".join(f"{name} {value}" for name, value in told.items())
    database.execute(f"CREATE OR REPLACE SECRET {LAKE} (TYPE s3, {options})")


def attach(database: duckdb.DuckDBPyConnection, place: LakePlace) -> None:
    """Attach the catalog, made where there is none. Raises ``duckdb.Error``."""
    uri = quoted(f"ducklake:postgres:{connection_of(place)}")
    options = f"DATA_PATH {quoted(place.data)}, METADATA_SCHEMA {quoted(SCHEMA)}"
    database.execute(f"ATTACH IF NOT EXISTS {uri} AS {LAKE} ({options})")
    database.execute("SET enable_external_file_cache = true")  # reading there may cost a request


def quoted(text: str) -> str:
    """Write a text as SQL does, for statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def first_line(error: Exception) -> str:
    """What DuckDB says first, without how it came to libpq; the lines below are advice for a programmer."""
    told = str(error).strip().partition("\n")[0]
    return told[max(0, told.find("connection to server")) :]
