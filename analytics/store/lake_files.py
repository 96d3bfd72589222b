"""Parquet files of a lake: written by us, whole and durable, under names that follow from the segment.

DuckDB never waits for the disk, and names files at random. Ours are on the disk before the catalog learns of
them, and a seal that is repeated writes the same files over: nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import pyarrow.fs

from analytics.errors import LakeError
from analytics.store.files import disk_errors, make_folder, replace_durably, sync_folder
from analytics.store.lake_place import S3, Bucket, LakePlace

MARK: Final = "pathgrade.lake"
"""In the root of a shared folder: without it, this is only the place where the folder is to be mounted."""

Write = Callable[[BinaryIO], None]


class DataFiles(Protocol):
    """Somewhere to write whole files to."""

    def make_root(self) -> None:
        """Make a new lake's root."""

    def write(self, name: str, write: Write) -> str:
        """Write a file below the root, durably, over one of that name; returns its address."""


class SharedFolder:
    """A folder that all servers of the lake mount at the same path."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def make_root(self) -> None:
        """As ``DataFiles``, with a mark in it: a folder without one is a mount that is away."""
        with disk_errors("making the lake's folder", self._root):
            make_folder(self._root)
            (self._root / MARK).touch()  # others may do the same at this moment
            sync_folder(self._root)

    def write(self, name: str, write: Write) -> str:
        """As ``DataFiles``. Raises ``LakeError``, ``StoreFullError`` or ``StoreError``."""
        path = self._root / name
        with disk_errors("sealing to", path):
            if not (self._root / MARK).exists():
                raise LakeError(f"sealing to {path}: no {MARK} in {self._root}", remedy="is it mounted?")
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

    def make_root(self) -> None:
        """As ``DataFiles``: the bucket must be there, a prefix needs no making."""

    def write(self, name: str, write: Write) -> str:
        """As ``DataFiles``. Raises ``LakeError``."""
        address = self._root + name
        try:
            with closing(self._service.open_output_stream(address.removeprefix(S3))) as stream:
                write(stream)
        except OSError as error:
            raise LakeError(
                f"sealing to {address}: {error}",
                remedy="check the bucket, its key and its AWS_ENDPOINT_URL; the spool keeps all until then",
            ) from error
        return address


def data_files(place: LakePlace, bucket: Bucket | None) -> DataFiles:
    """Open the data of a lake for writing."""
    return SharedFolder(place.data) if bucket is None else S3Bucket(place.data, bucket)
