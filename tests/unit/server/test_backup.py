"""A backup beside a running server has all that was acknowledged; a restored server goes on from it."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.audit_chain import ACTS
from analytics.batch import pack_batch
from analytics.clock import now_us
from server.audit_check import checked
from server.backup import _alone, _copy_state, back_up
from server.backup_plan import MANIFEST, read_manifest, safe_name
from server.errors import BackupError
from server.restore import restore
from server.settings import Settings
from server.state import State
from tests.unit.cli.test_cli import pathgrade
from tests.unit.server.conftest import Site, visited
from tests.unit.server.enrolling import Member
from tests.unit.server.test_upgrade import ANYWHERE, BOOT, medians, reading

LIMIT_S = 120
NOBODY = "http://127.0.0.1:9"


def settings_of(data: Path, **more: Any) -> Settings:
    told = {"agents": ANYWHERE, "report": ANYWHERE, "stun": [ANYWHERE], "settle_s": 0.05}
    return Settings.load(data=data, **told, **more)


def quiet(line: str) -> None:
    pass


def batch(number: int) -> bytes:
    return pack_batch(agent="pacs", boot=BOOT, batch=number, tables={"readings": [reading()]})


async def send(site: Site, member: Member, number: int) -> bool:
    """Tell whether it was known."""
    answer = await site.send(member, batch(number))
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["duplicate"])


def test_what_was_acknowledged_before_it_began_is_in_it_and_its_agents_go_on(tmp_path: Path) -> None:
    before, after = settings_of(tmp_path / "data", seal_s=1), settings_of(tmp_path / "new")
    kept: dict[str, Any] = {}

    async def first() -> None:
        async with visited(before) as site:
            member = kept["member"] = await site.enrol("pacs", "hospital")
            await site.enrol("clinic", "clinic")
            sent = 0

            async def keep_sending() -> None:
                nonlocal sent
                while True:
                    await send(site, member, sent)
                    sent += 1
                    await asyncio.sleep(0.02)

            sending = asyncio.create_task(keep_sending())
            await asyncio.sleep(1.5)  # some are sealed, some are not
            kept["acknowledged"] = sent
            kept["made"] = await asyncio.to_thread(back_up, before, tmp_path, say=quiet)
            sending.cancel()
            kept["at_us"] = now_us()
            kept["report"] = (await site.report.get("/v1/paths", params={"at": kept["at_us"]})).json()

    async def second() -> None:
        async with visited(after) as site:
            now = (await site.report.get("/v1/paths", params={"at": kept["at_us"]})).json()
            assert medians(now) == medians(kept["report"]) != {}
            known = [await send(site, kept["member"], number) for number in range(kept["acknowledged"])]
            assert all(known), "acknowledged, and not in the backup"
            assert not await send(site, kept["member"], 100_000)
            rows = (await site.report.get("/v1/audit")).json()
            assert {row["action"] for row in rows} >= {"backup", "restore", "enrol", "token"}

    async def whole() -> None:
        async with asyncio.timeout(LIMIT_S):
            await first()
            told = await asyncio.to_thread(restore, Path(kept["made"].file), after.data, say=quiet)
            assert told.files == kept["made"].files
            for path in (after.data, *(one for one in after.data.rglob("*") if one.is_file())):
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
            await second()

    asyncio.run(whole())
    assert kept["acknowledged"] > 3
    assert not list((tmp_path / "data").glob("tmp/backup-*"))
    assert stat.S_IMODE(Path(kept["made"].file).stat().st_mode) == 0o600
    assert {one.chain: one for one in checked(after.data, None, {})["default"]}[ACTS].broken is None


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small folder that no server holds."""
    folder = tmp_path / "data"
    State.open(folder).close()
    (folder / "grant-key.pem").write_bytes(b"a key")
    (folder / "parquet" / "x").mkdir(parents=True)
    (folder / "parquet" / "x" / "1.parquet").write_bytes(os.urandom(200_000))
    (folder / "parquet" / "x" / "2.parquet.tmp").write_bytes(b"unfinished")
    (folder / "state.duckdb").write_bytes(b"disposable")
    return folder


def test_the_command_writes_it_and_takes_it_back(data: Path, tmp_path: Path) -> None:
    out, new = tmp_path / "b.tar", tmp_path / "new"
    new.mkdir(mode=0o750)
    done = pathgrade("server", "backup", str(out), "--data", str(data), url=NOBODY)
    assert (done.returncode, "3 files" in done.stdout) == (0, True), done.stdout + done.stderr
    with tarfile.open(out) as tar:
        names = tar.getnames()
    assert names == ["grant-key.pem", "parquet/x/1.parquet", "state.sqlite", MANIFEST]
    done = pathgrade("server", "restore", str(out), "--data", str(new), url=NOBODY)
    assert done.returncode == 0, done.stderr
    assert (new / "parquet/x/1.parquet").read_bytes() == (data / "parquet/x/1.parquet").read_bytes()
    done = pathgrade("server", "restore", str(out), "--data", str(new), url=NOBODY)
    assert (done.returncode, "is not an empty folder" in done.stderr) == (74, True)
    done = pathgrade("server", "backup", str(out), "--data", str(data), url=NOBODY)
    assert (done.returncode, "there already" in done.stderr) == (74, True)


def test_one_that_is_killed_leaves_no_half_file_and_the_next_one_is_whole(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.tar"
    killed = (
        "import os, sys\nfrom pathlib import Path\nfrom server.backup import back_up\n"
        "from server.settings import Settings\nos.fsync = lambda fd: os.kill(os.getpid(), 9)\n"
        "back_up(Settings.load(data=sys.argv[1]), Path(sys.argv[2]), say=print)\n"
    )
    done = subprocess.run([sys.executable, "-c", killed, data, out], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not out.exists()
    assert list((data / "tmp").iterdir())
    made = back_up(settings_of(data), out, say=quiet)
    assert not list((data / "tmp").iterdir())
    assert made.files == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "data"]
    restore(out, tmp_path / "new", say=quiet)


def test_two_at_once_do_not_meet_and_what_killed_ones_left_is_removed(data: Path, tmp_path: Path) -> None:
    left, others = (tmp_path / f"pathgrade-2020010{n}T000000Z.tar.tmp" for n in (1, 2))
    left.write_bytes(b"half")
    with others.open("wb") as file, _alone(data):
        fcntl.flock(file, fcntl.LOCK_EX)  # of another data folder
        with pytest.raises(BackupError, match="another backup of it is being made"):
            back_up(settings_of(data), tmp_path, say=quiet)
        assert left.exists()
        (data / "tmp" / "backup-1").mkdir()
        (data / "tmp" / "backup-1" / "x").write_bytes(b"linked")
    with others.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        back_up(settings_of(data), tmp_path, say=quiet)
        assert (left.exists(), others.exists()) == (False, True)
    assert not list((data / "tmp").iterdir())


def test_it_is_not_put_into_what_it_is_of(data: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data)
    for target in (data, data / "b.tar", tmp_path / "link" / "parquet", tmp_path / "link" / "b.tar"):
        with pytest.raises(BackupError, match="in the data folder") as caught:
            back_up(settings_of(data), target, say=quiet)
        assert caught.value.remedy


class Busy(sqlite3.Connection):
    """Another connection commits after each step of a backup, as a server does that is never quiet."""

    def backup(self, target: sqlite3.Connection, **how: Any) -> None:
        path, steps = self.execute("PRAGMA database_list").fetchone()[2], iter(range(200))
        with closing(sqlite3.Connection(path, isolation_level=None)) as other:

            def commit(*_: int) -> None:
                assert next(steps, None) is not None, "the copy starts again after each commit"
                other.execute("INSERT INTO t VALUES (1)")

            super().backup(target, progress=commit, **how)


def test_the_state_of_a_server_that_commits_without_end_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "state.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t AS SELECT zeroblob(400000) AS body")
        connection.commit()
    monkeypatch.setattr("server.backup.PAGES", 10)
    with monkeypatch.context() as patch:
        patch.setattr("server.backup.sqlite3.connect", Busy)
        _copy_state(tmp_path / "state.sqlite", tmp_path / "copy")
    with closing(sqlite3.connect(tmp_path / "copy")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("SELECT count(*) FROM t").fetchall() == [(1,)]


def members(out: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(out) as tar:
        return [(one, read.read()) for one in tar if (read := tar.extractfile(one))]


def rewritten(out: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> None:
    found = members(out)
    change(found)
    with tarfile.open(out, "w") as tar:
        for one, body in found:
            one.size = len(body)
            tar.addfile(one, io.BytesIO(body))


def changed(found: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    body = found[1][1]
    found[1] = (found[1][0], body[:-1] + bytes([body[-1] ^ 1]))


def left_out(found: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    del found[0]


def unfinished(found: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    del found[-1]


def elsewhere(found: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    found.insert(0, (tarfile.TarInfo("../evil"), b"x"))


def a_link(found: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    found.insert(0, (link, b""))


def of_later(found: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    told = msgspec.structs.replace(read_manifest(found[-1][1]), state_version=99)
    found[-1] = (found[-1][0], msgspec.json.encode(told))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed, "parquet/x/1.parquet is not as it was backed up"),
        (left_out, "grant-key.pem is not as it was backed up"),
        (unfinished, "no manifest"),
        (elsewhere, "called '../evil'"),
        (a_link, "no file of its own"),
        (of_later, "state version 99"),
    ],
)
def test_a_backup_that_is_not_as_it_was_made_is_refused_and_leaves_nothing(
    change: Any, words: str, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "b.tar"
    back_up(settings_of(data), out, say=quiet)
    rewritten(out, change)
    with pytest.raises(BackupError, match=words) as caught:
        restore(out, tmp_path / "new", say=quiet)
    assert caught.value.remedy
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "data"]


@pytest.mark.parametrize("kept", [0, 100, 5_000, 150_000])
def test_a_backup_that_was_cut_short_is_refused(kept: int, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.tar"
    back_up(settings_of(data), out, say=quiet)
    os.truncate(out, kept)
    with pytest.raises(BackupError):
        restore(out, tmp_path / "new", say=quiet)
    assert not (tmp_path / "new").exists()


def test_what_it_does_not_have_is_said(data: Path, tmp_path: Path) -> None:
    (tmp_path / "alerts.toml").write_text("")
    place = {"lake_catalog": "postgres:host=db dbname=lake", "lake_data": "s3://bucket/prefix"}
    set_so = settings_of(data, alerts=tmp_path / "alerts.toml", **place)
    made = back_up(set_so, tmp_path / "b.tar", say=quiet)
    assert made.not_in_it[0].startswith("the lake: back up its PostgreSQL")
    assert made.not_in_it[1].startswith(f"{tmp_path}/alerts.toml: named by a setting")
    assert restore(tmp_path / "b.tar", tmp_path / "new", say=quiet).not_in_it == made.not_in_it


def test_a_folder_that_is_none_and_a_disk_that_is_full_are_one_error(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackupError, match=r"there is no state\.sqlite"):
        back_up(settings_of(tmp_path / "nothing"), tmp_path / "b.tar", say=quiet)
    with ExitStack() as stack:
        patch = stack.enter_context(monkeypatch.context())
        patch.setattr("server.backup.shutil.disk_usage", lambda path: Free(10))
        with pytest.raises(BackupError, match="are free"):
            back_up(settings_of(data), tmp_path / "b.tar", say=quiet)
    with pytest.raises(BackupError, match="No such file"):
        back_up(settings_of(data), tmp_path / "no" / "b.tar", say=quiet)


class Free:
    def __init__(self, free: int) -> None:
        self.free = free


def test_files_that_come_and_go_meanwhile_are_linked_once_more(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a merged file takes the place of two while they are linked."""
    folder, said = data / "parquet" / "x", []
    link = Path.hardlink_to

    def linking(self: Path, target: Path) -> None:
        link(self, target)
        if target.name == "1.parquet":
            target.rename(folder / "3.parquet")

    monkeypatch.setattr(Path, "hardlink_to", linking)
    monkeypatch.setattr("server.backup.PAUSE_S", 0)
    back_up(settings_of(data), tmp_path / "b.tar", say=said.append)
    assert said == ["the server was sealing: looking once more"]
    assert "parquet/x/3.parquet" in [one.name for one, _ in members(tmp_path / "b.tar")]
    assert "parquet/x/1.parquet" not in [one.name for one, _ in members(tmp_path / "b.tar")]


@given(st.text(max_size=40))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    try:
        path = safe_name(name)
    except BackupError:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert str(path) == name
