"""Parquet files of a lake: written by us, whole and durable, under names that follow from the segment.

DuckDB never waits for the disk, and names files at random. Ours are on the disk before the catalog learns of
them, and a seal that is repeated writes the same files over: nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow.fs

from analytics.errors import LakeError
from analytics.store.files import disk_errors, make_folder, replace_durably
from analytics.store.lake_place import S3, Bucket, LakePlace

Write = Callable[[BinaryIO], None]


class DataFiles(Protocol):
    """Somewhere to write whole files to."""

    def write(self, name: str, write: Write) -> str:
        """Write a file below the root, durably, over one of that name; returns its address."""


class SharedFolder:
    """A folder that all servers of the lake mount at the same path."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def write(self, name: str, write: Write) -> str:
        """As ``DataFiles``. Raises ``StoreFullError`` or ``StoreError``."""
        path = self._root / name
        with disk_errors("sealing to", path):
            make_folder(path.parent)
            replace_durably(path, write)
        return str(path)


class S3Bucket:
    """A prefix of a bucket: an object is there, whole and durable, once its upload has been answered."""

    def __init__(self, root: str, bucket: Bucket) -> None:
        self._root = root
        given: dict[str, Any] = {"region": bucket.region, "scheme": "https" if bucket.tls else "http"}
        if bucket.host:
            given["endpoint_override"] = bucket.host
        if bucket.token:
            given["session_token"] = bucket.token
        self._service = pyarrow.fs.S3FileSystem(
            access_key=bucket.key,
            secret_key=bucket.secret,
            connect_timeout=5,
            request_timeout=30,
            **given,
        )

    def write(self, name: str, write: Write) -> str:
        """As ``DataFiles``. Raises ``LakeError``."""
        address = self._root + name
        try:
            with closing(self._service.open_output_stream(address.removeprefix(S3))) as stream:
                write(stream)
        except OSError as error:
            raise LakeError(
                f"sealing to {address}: {error}",
                remedy="check the bucket, its key and AWS_ENDPOINT_URL; what was acknowledged stays in the spool",
            ) from error
        return address


def data_files(place: LakePlace, bucket: Bucket | None) -> DataFiles:
    """Open the data of a lake for writing."""
    return SharedFolder(place.data) if bucket is None else S3Bucket(place.data, bucket)
