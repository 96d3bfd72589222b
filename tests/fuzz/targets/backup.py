"""Backups, restored: tar files and their manifests (server/restore.py, server/backup_plan.py).

Nothing may be written outside of the new folder, nor more than was in the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import msgspec
from shaped import Taken, chosen, counted, either, file_of, folder_of

from server.backup_plan import FORMAT, MANIFEST, FileTold, Manifest, read_manifest, safe_name
from server.errors import BackupError, backup_errors
from server.restore import _extracted

ALLOWED = (BackupError,)
SHORT_RUNS = 100
MOST_INPUT = 8192
KINDS = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
    tarfile.GNUTYPE_SPARSE,
)


def target(data: bytes) -> object:
    return either(data, _tar, _members, read_manifest, _name)


def _tar(data: bytes) -> None:
    staging = folder_of({}, "restored/staging")
    for old in staging.iterdir():
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    with backup_errors("restore", "-"):
        _extracted(file_of(data, "backup.tar"), staging, lambda _text: None)
    assert list(staging.parent.iterdir()) == [staging], "something came out beside it"
    found = [Path(at, name) for at, folders, files in os.walk(staging) for name in (*folders, *files)]
    told = [path.lstat() for path in found]
    assert all(S_ISREG(one.st_mode) or S_ISDIR(one.st_mode) for one in told)
    written = sum(one.st_size for one in told if S_ISREG(one.st_mode))
    assert written <= len(data), "more came out than was in it"


def _members(data: bytes) -> None:
    """Headers are right; names, kinds and contents are the fuzzer's; the manifest is of them."""
    taken = Taken(data)
    members = []
    for _ in range(taken.number(0, 3)):
        kind = taken.one_of(
            (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)
        )
        members.append((taken.text(40), kind, taken.some(40)))
    _tar(packed(members, honest=taken.flag()))


def packed(members: list[tuple[str, bytes, bytes]], *, honest: bool = True) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content))
        told = [FileTold(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
                for name, _, content in members]  # fmt: skip
        manifest = Manifest(
            format=FORMAT,
            version="0.1.0",
            state_version=1,
            begun_us=1,
            files=told if honest else [],
            not_in_it=[],
        )
        body = msgspec.json.encode(manifest)
        info = tarfile.TarInfo(MANIFEST)
        info.size = len(body)
        tar.addfile(info, io.BytesIO(body))
    return file.getvalue()


def _name(data: bytes) -> None:
    path = safe_name(data.decode("utf-8", "surrogateescape"))
    assert not path.is_absolute()
    assert ".." not in path.parts


def seeds() -> Iterator[bytes]:
    yield chosen(
        0, packed([("state.sqlite", tarfile.REGTYPE, b"x"), ("sla/a.json", tarfile.REGTYPE, b"{}")])[:8000]
    )
    name = counted(b"state.sqlite")
    yield chosen(1, b"\1" + b"\0" + name[:1] + name[1:] + counted(b"content")[:1] + b"content" + b"\1")
    yield chosen(1, b"\2\2" + counted(b"link") + b"\0" + b"\0" + counted(b"../up") + b"\0\1")
    yield chosen(2, b'{"format":"x","version":"0","state_version":1,"begun_us":1,"files":[],"not_in_it":[]}')
    yield chosen(3, b"sla/pacs/pacs/2026-11-25.json")
