"""A data folder of before, whose files held the rows of all tenants, becomes one with a folder for each."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics.errors import StoreError
from analytics.rollup import Level
from analytics.store import layout, seal
from analytics.store.store import Store
from tests.unit.analytics.facts import AT_US, body, put, reading
from tests.unit.analytics.old_folder import BATCHES, EACH, NAMED, check, in_files, opened, unpacked


def rolled_up(folder: Path, level: Level) -> Counter[str]:
    """Tests of each tenant in a level's files, old ones or new."""
    paths = [str(path) for path in folder.glob(f"rollup/**/{level}/date=*/*.parquet")]
    asked = "SELECT tenant, sum(tests)::BIGINT FROM read_parquet($1, hive_partitioning = false) GROUP BY ALL"
    return Counter(dict(duckdb.execute(asked, [paths]).fetchall()))


def test_an_old_folder_is_moved_when_it_is_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = unpacked(tmp_path)
    levels = {level: rolled_up(folder, level) for level in Level}
    with opened(folder) as store:
        assert store.health().hours_rolled == 0
    assert {level: rolled_up(folder, level) for level in Level} == levels
    assert "14 files of before were moved" in caplog.text
    assert not list(folder.glob("parquet/[!t]*")) + list(folder.glob("rollup/[!t]*"))
    check(folder)


def test_where_one_tenant_is_files_are_renamed_not_written_again(tmp_path: Path) -> None:
    with opened(tmp_path, AT_US) as store:
        put(store, body("pacs", 1, readings=[reading()]))
        store.seal()
    (new,) = (tmp_path / "parquet").rglob("*.parquet")
    inode = new.stat().st_ino
    make_old(tmp_path)
    with opened(tmp_path, AT_US) as store:
        assert store.readings_latest("default") == [reading()]
    assert new.stat().st_ino == inode


def make_old(folder: Path) -> None:
    """Lay the folder of one tenant out as before."""
    for root in ("parquet", "rollup"):
        for path in list((folder / root).glob("tenant=*/*")):
            path.rename(folder / root / path.name)
            path.parent.rmdir()
    (folder / layout.NAME).unlink()


def test_what_was_unfinished_then_is_not_doubled(tmp_path: Path) -> None:
    """Killed while sealing, and before small files that were merged were removed."""
    folder = unpacked(tmp_path)
    for table in NAMED:
        old = folder / "parquet" / table
        unfinished = old / "date=2026-11-24" / "0000000009.parquet"  # of the segment in the spool
        shutil.copy(old / "date=2026-11-24" / "0000000008.parquet", unfinished)
        (compacted,) = (old / "date=2026-11-23").glob("*.parquet")
        part = compacted.with_name("0000000001.parquet")
        assert 1 in seal.read_told(compacted)[0].file.replaces
        shutil.copy(compacted, part)
        compacted.with_name("0000000077.parquet.tmp").write_bytes(b"half")
    check(folder)
    assert not list(folder.rglob("*.tmp"))


def test_a_torn_file_of_before_is_set_aside_and_the_others_are_moved(tmp_path: Path) -> None:
    folder = unpacked(tmp_path)
    torn = folder / "parquet/hops/date=2026-11-24/0000000008.parquet"
    torn.write_bytes(torn.read_bytes()[:-9])
    broken = folder / "parquet/flows/date=2026-11-24/0000000008.parquet"  # behind a good footer
    content = bytearray(broken.read_bytes())
    content[4:2_000] = bytes(1_996)
    broken.write_bytes(content)
    for _ in range(2):
        with opened(folder) as store:
            assert len(store.flows("default")) == BATCHES - 1
            store.seal()
        assert all(path.with_name(path.name + ".bad").exists() for path in (torn, broken))
    assert in_files(folder, "readings") == EACH
    assert in_files(folder, "hops").total() == EACH.total() - 4


@pytest.mark.parametrize("moment", range(0, 60, 7))
def test_a_kill_at_any_moment_of_the_move_is_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    folder = unpacked(tmp_path)
    calls = iter(range(1_000))

    def killed_at(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            if next(calls) >= moment:
                raise KeyboardInterrupt
            return real(*given)

        return call

    with monkeypatch.context() as patched:
        for name in ("fsync", "unlink", "rename"):
            patched.setattr(os, name, killed_at(getattr(os, name)))
        with pytest.raises(KeyboardInterrupt):
            Store.open(folder)
    check(folder)


def test_what_an_older_version_writes_beside_it_is_refused(tmp_path: Path) -> None:
    folder = unpacked(tmp_path)
    beside = folder / "parquet/flows/date=2026-11-24/0000000008.parquet"
    kept = beside.read_bytes()
    check(folder)
    beside.parent.mkdir(parents=True)
    beside.write_bytes(kept)
    with pytest.raises(StoreError, match="older version") as caught:
        Store.open(folder)
    assert "move what lies beside" in caught.value.remedy
    beside.unlink()
    check(folder)


def test_a_folder_of_a_newer_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / layout.NAME).write_bytes(b"PGLAYOUT 3\n")
    with pytest.raises(StoreError, match="not of layout 2"):
        Store.open(tmp_path)
    (tmp_path / layout.NAME).unlink()
    with opened(tmp_path):  # and the lock was given back
        assert (tmp_path / layout.NAME).read_bytes() == layout.SAYS


def test_a_file_in_another_tenants_folder_is_set_aside(tmp_path: Path) -> None:
    with opened(tmp_path, AT_US) as store:
        put(store, body("pacs", 1, readings=[reading()]))
        store.seal()
    (file,) = (tmp_path / "parquet").rglob("*.parquet")
    astray = tmp_path / "parquet/tenant=other" / file.relative_to(tmp_path / "parquet/tenant=default")
    astray.parent.mkdir(parents=True)
    file.rename(astray)
    with opened(tmp_path, AT_US) as store:
        assert store.health().files_set_aside == 1
        assert store.readings_latest("other") == store.readings_latest("default") == []
    assert astray.with_name(astray.name + ".bad").exists()
