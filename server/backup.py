"""A backup of a data folder, beside the server that runs on it.

1. Every file is linked (``link(2)``, which copies nothing) into ``tmp`` in the data folder. Files that hold
   measurements never change once they have their name, but new ones take the place of several old ones:
   if the folder has other names afterwards than before, it is linked once more. So what is linked is the
   folder as it was at one moment. The segment that is being written grows behind that moment, which does no
   harm: a whole frame more is a batch more, and a torn one is cut when it is read.
2. ``state.sqlite`` is copied by SQLite's own backup.
3. All of it is written to ``FILE.tmp``, synced, and only then called ``FILE``.

Whatever the server acknowledged before the start is in it. A server that starts clears ``tmp``,
and the next backup what one that was killed left.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

import msgspec

from analytics import words
from analytics.clock import now_us
from analytics.store.files import sync_folder
from server.api.audits import COMMAND, AuditRow
from server.backup_plan import FORMAT, MANIFEST, STATE, FileTold, Manifest, is_copied, missing
from server.database import DEFAULT_TENANT, STATE_VERSION, connect, transaction
from server.errors import BackupError, backup_errors
from server.ledger import append
from server.settings import Settings

TRIES: Final = 30
PAUSE_S: Final = 0.3
"""Between two tries: sealing the rows of a minute takes less."""
SAY_EACH_S: Final = 2.0
ROOM_LEFT: Final = 1.02
"""Of what is to be written: headers."""
PIECE: Final = 1 << 20
STAGING: Final = "backup-"
UNFINISHED: Final = "pathgrade-*.tar.tmp"
"""Of a backup that was given a folder (``named``), and killed."""
PAGES: Final = 2_048
"""Of SQLite's backup, before others have their turn."""

Say = Callable[[str], None]

REMEDY: Final = "run it as root or as the server's user, and see that there is room"


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that is done."""

    file: str
    size: int  # bytes
    files: int
    seconds: float
    not_in_it: list[str]


def back_up(settings: Settings, target: Path, *, say: Say) -> Made:
    """Write a backup to ``target``: a file that is not there yet, or a folder to put one into.

    Raises ``BackupError`` and ``StateError``. A process that is killed leaves no file of that name.
    """
    data, began_s, begun_us = settings.data, time.monotonic(), now_us()
    if not (data / STATE).is_file():
        raise BackupError(f"back up {data}: there is no {STATE}", remedy="name a server's data folder")
    out = target / named(begun_us) if target.is_dir() else target
    if out.exists():
        raise BackupError(f"write {out}: it is there already", remedy="name another file, or a folder")
    if out.resolve().is_relative_to(data.resolve()):
        raise BackupError(
            f"write {out}: that is in the data folder, and each backup would have those before in it",
            remedy="name a place outside of it, best on another disk",
        )
    with backup_errors(f"back up {data}", REMEDY), _alone(data) as spill:
        _note(data, out)
        with _linked(data, spill, say) as staging:
            paths = sorted(path for path in staging.rglob("*") if path.is_file())
            _check_room(out, sum(path.stat().st_size for path in paths))
            lacks = missing(settings.lake() is not None, _outside(settings))
            with _whole(out) as file:
                count = _Writing(file, staging, say).write(paths, begun_us, lacks)
    spent = round(time.monotonic() - began_s, 1)
    return Made(file=str(out), size=out.stat().st_size, files=count, seconds=spent, not_in_it=lacks)


def named(at_us: int) -> str:
    """Name a backup by when it was begun."""
    return f"pathgrade-{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y%m%dT%H%M%SZ}.tar"


def _note(data: Path, out: Path) -> None:
    """Put into the audit log that everything was taken away."""
    engine = connect(data / STATE)
    row = AuditRow(at_us=now_us(), actor=COMMAND, action="backup", subject=str(out)[:500])
    try:
        with transaction(engine) as connection:
            append(connection, DEFAULT_TENANT, [row])
    finally:
        engine.dispose()


def _outside(settings: Settings) -> list[str]:
    """Name the files that settings name and that are not in the data folder."""
    paths = (value for name, value in settings if isinstance(value, Path) and name != "data")
    return sorted(str(path) for path in paths if not path.resolve().is_relative_to(settings.data.resolve()))


# --- one moment of the folder -------------------------------------------------------------------------------


@contextlib.contextmanager
def _alone(data: Path) -> Iterator[Path]:
    """Hold ``tmp`` against another backup, and clear it of those that were killed."""
    spill = _spill(data)
    held = os.open(spill, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError(
                f"back up {data}: another backup of it is being made", remedy="wait until that one is done"
            ) from error
        for left in spill.glob(f"{STAGING}*"):  # who made it is gone: it would hold the folder
            shutil.rmtree(left, ignore_errors=True)
        yield spill
    finally:
        os.close(held)


@contextlib.contextmanager
def _linked(data: Path, spill: Path, say: Say) -> Iterator[Path]:
    staging = spill / f"{STAGING}{os.getpid()}"
    try:
        for _ in range(TRIES):
            shutil.rmtree(staging, ignore_errors=True)
            _make(staging, data)
            if _link_all(data, staging):
                break
            say("the server was sealing: looking once more")
            time.sleep(PAUSE_S)
        else:
            raise BackupError(
                f"back up {data}: files came and went each time",
                remedy="try again when the server seals less",
            )
        _copy_state(data / STATE, staging / STATE)
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _spill(data: Path) -> Path:
    """Find or make ``tmp``: the server spills there, and clears it when it starts."""
    made = data / "tmp"
    if not made.exists():
        _make(made, data)
    return made


def _make(folder: Path, data: Path) -> None:
    """Make a folder that the data folder's owner may clear, whoever makes it."""
    folder.mkdir(mode=0o700)
    owner = data.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(folder, owner.st_uid, owner.st_gid)


def _link_all(data: Path, staging: Path) -> bool:
    """Link what is there; False if it was not the same from the first to the last."""
    names = _listed(data)
    for folder in sorted({folder for name in names for folder in name.parents if folder.name}):
        _make(staging / folder, data)
    for name in names:
        try:
            (staging / name).hardlink_to(data / name)
        except FileNotFoundError:
            return False
    return _listed(data) == names


def _listed(data: Path) -> list[PurePosixPath]:
    """Name the files that are copied as they are."""
    found = []
    for folder, folders, files in os.walk(data):
        inside = PurePosixPath(folder).relative_to(data)
        folders[:] = [name for name in folders if is_copied(inside / name)]
        found += [inside / name for name in files if is_copied(inside / name)]
    return sorted(found)


def _copy_state(path: Path, to: Path) -> None:
    os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with (
            contextlib.closing(sqlite3.connect(path)) as source,
            contextlib.closing(sqlite3.connect(to)) as copy,
        ):
            # A commit of the server between two steps would start the copy again from its first page, and a
            # server that is busy commits without end: a transaction that reads keeps to one moment.
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_master").fetchone()
            source.backup(copy, pages=PAGES, sleep=0.01)
    except sqlite3.Error as error:
        raise BackupError(f"copy {path}: {error}", remedy="check the disk") from error


# --- the file -----------------------------------------------------------------------------------------------


def _check_room(out: Path, size: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if free < size * ROOM_LEFT:
        raise BackupError(
            f"write {out}: it takes {words.size(size)}, and {words.size(free)} are free",
            remedy="name a place with more room",
        )


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[BinaryIO]:
    """Open a file, for the owner only, that gets its name when all of it is on the disk."""
    unfinished = out.with_name(out.name + ".tmp")
    for left in (unfinished, *out.parent.glob(UNFINISHED)):
        _remove_left(left)
    made = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(made, "wb") as file:
            with contextlib.suppress(OSError):  # not every network file system can
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(out)
        sync_folder(out.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _remove_left(path: Path) -> None:
    """Remove what a killed backup left; who still writes a file, perhaps of another data folder, holds it."""
    with contextlib.suppress(OSError), os.fdopen(os.open(path, os.O_WRONLY | os.O_NONBLOCK), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


@dataclass(slots=True)
class _Writing:
    """Writes the members, hashing each on its way."""

    file: BinaryIO
    folder: Path
    say: Say
    told: list[FileTold] = field(default_factory=list)
    _said_s: float = field(default_factory=time.monotonic)

    def write(self, paths: list[Path], begun_us: int, lacks: list[str]) -> int:
        """Write the files and the manifest; returns how many files there are."""
        with tarfile.open(fileobj=self.file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in paths:
                self._add(tar, path)
            manifest = Manifest(
                format=FORMAT,
                version=version("pathgrade"),
                state_version=STATE_VERSION,
                begun_us=begun_us,
                files=self.told,
                not_in_it=lacks,
            )
            body = msgspec.json.encode(manifest)
            tar.addfile(_member(MANIFEST, len(body), begun_us), io.BytesIO(body))
        return len(self.told)

    def _add(self, tar: tarfile.TarFile, path: Path) -> None:
        name = path.relative_to(self.folder).as_posix()
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())  # a segment that is written to grows: so far, and no further
            hashed = _Hashed(file)
            tar.addfile(_member(name, stat.st_size, stat.st_mtime_ns // 1_000), hashed)  # type: ignore[arg-type]
        self.told.append(FileTold(path=name, size=stat.st_size, sha256=hashed.digest.hexdigest()))
        if time.monotonic() > self._said_s + SAY_EACH_S:
            self._said_s = time.monotonic()
            self.say(f"{words.count(len(self.told), 'file')}, {words.size(self.file.tell())}")


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Read on."""
        piece = self._file.read(size)
        self.digest.update(piece)
        return piece


def _member(name: str, size: int, at_us: int) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.mode, made.mtime = size, 0o600, at_us // 1_000_000
    return made
