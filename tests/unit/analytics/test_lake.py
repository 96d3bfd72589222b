"""The lake, on a real PostgreSQL: the same answers as the folder, and every row once, whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from analytics.errors import LakeError, LakeSetupError
from analytics.report import build_report
from analytics.rules.load import load_rules
from analytics.store import lake as lake_module
from analytics.store import lake_catalog, lake_engine, lake_tables, tidy
from analytics.store.lake_catalog import Catalog
from analytics.store.lake_files import MARK
from analytics.store.lake_ledger import NAME
from analytics.store.lake_place import LakePlace
from analytics.store.lake_storage import LakeStorage
from analytics.store.store import Store
from analytics.store.stream import Range, stream
from analytics.usage import By
from tests.unit.analytics.facts import AT_US, MEMBERS, body, flow, hop, put, reading, trace
from tests.unit.analytics.postgres import Postgres, running

DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running() as postgres:
        yield postgres


@pytest.fixture
def place(postgres: Postgres, tmp_path: Path) -> LakePlace:
    return LakePlace.parse(postgres.new_catalog(), str(tmp_path / "shared"))


@contextmanager
def opened(
    folder: Path, place: LakePlace | None, clock_us: Callable[[], int] = lambda: AT_US
) -> Iterator[Store]:
    chosen: dict[str, Any] = {} if place is None else {"storage": LakeStorage(place, os.environ)}
    with closing(Store.open(folder, clock_us=clock_us, **chosen)) as store:
        yield store


def told_by(store: Store) -> list[str]:
    """All rows, as a list: a row that is there twice is seen twice."""
    asked = store.usage("default", By.PROCESS, since_us=0, until_us=AT_US)
    return sorted(u.process for u in asked for _ in range(u.opened))


def numbered(agent: str, number: int) -> bytes:
    return body(agent, number, flows=[flow(agent, process=f"{agent}.{number}", opened=1)])


# --- the same as the folder ---------------------------------------------------------------------------------


def test_the_same_facts_give_the_same_report_from_folder_and_lake(tmp_path: Path, place: LakePlace) -> None:
    told = []
    for kind, lake in (("folder", None), ("lake", place)):
        now = [AT_US - 2 * DAY_US]
        with opened(tmp_path / kind, lake, lambda now=now: now[0]) as store:
            for step, batch in enumerate(fleet()):
                now[0] += DAY_US // 2
                put(store, batch)
                if step != 2:
                    store.seal()
            told.append(answers(store, now[0]))
        with opened(tmp_path / kind, lake, lambda now=now: now[0]) as store:
            told.append(answers(store, now[0]))
    assert told[0]["report"].paths
    assert len(told[0]["export"]) == told[0]["counts"]["flows"]
    assert told[1:] == told[:1] * 3


def fleet() -> list[bytes]:
    hops = trace(("10.0.0.1", 300), ("192.0.2.1", None), ("203.0.113.9", 30_000))
    return [
        body("pacs", 1, readings=[reading(cycle=1), reading(dst="home", rtt_p50_us=None)], hops=hops),
        body("home", 1, readings=[reading("home", rtt_us=250_000, received=270)], flows=[flow("home")]),
        body("pacs", 2, readings=[reading(error="söme text")], hops=[hop(1, "", None, test="x")]),
        body("pacs", 3, flows=[flow(srtt_lasting_histogram=(3, 1, 5, 2)), flow(process="x'y", opened=3)]),
    ]


def answers(store: Store, at_us: int) -> dict[str, Any]:
    readings = store.readings_latest("default")
    hops = store.hops_of("default", [r.test for r in readings])
    span = Range("default", AT_US - 3 * DAY_US, AT_US + 3 * DAY_US)
    report = build_report(
        tenant="default",
        profile="pacs",
        readings=readings,
        hops=hops,
        members=MEMBERS,
        at_us=AT_US,
        rules=load_rules(),
    )
    return {
        "report": report,
        "past": store.past("default", since_us=0),
        "hops": store.usual_hops("default", [("pacs", "radiologist")], since_us=0, until_us=2 * AT_US),
        "flows": store.flows("default"),
        "usage": store.usage("default", By.DESTINATION, since_us=0, until_us=at_us),
        "counts": store.counts(),
        "measured": sorted(store.measured("default")),
        "export": [row for batch in stream(store, "flows", span, ["agent"]) for row in batch.to_pylist()],
        "another tenant": store.readings_latest("other"),
    }


def test_what_the_folder_had_before_the_lake_is_still_answered(tmp_path: Path, place: LakePlace) -> None:
    with opened(tmp_path, None) as store:
        put(store, numbered("pacs", 1))
        store.seal()
        put(store, numbered("pacs", 2))
    with opened(tmp_path, place) as store:
        assert told_by(store) == ["pacs.1", "pacs.2"]
        assert put(store, numbered("pacs", 1), numbered("pacs", 3)) == [False, True]
        store.seal()
        assert told_by(store) == ["pacs.1", "pacs.2", "pacs.3"]
        assert store.counts()["flows"] == 3


# --- every row once -----------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from analytics.store import lake, lake_ledger
from analytics.store.lake_place import LakePlace
from analytics.store.lake_storage import LakeStorage
from analytics.store.store import Store
from tests.unit.analytics.facts import body, flow, put

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

folder, catalog, data, moment, first = sys.argv[1:]
def sent(number):
    return body("pacs", number, flows=[flow("pacs", process=f"pacs.{number}", opened=1)])

store = Store.open(Path(folder), storage=LakeStorage(LakePlace.parse(catalog, data), os.environ))
put(store, sent(int(first)))
store.seal()
put(store, sent(int(first) + 1), sent(int(first) + 2))
{
    "files written": lambda: setattr(lake.Lake, "_commit", die),
    "committed": lambda: setattr(lake_ledger.Ledger, "enter", die),
    "entered in the ledger": lambda: setattr(Path, "unlink", die),
}[moment]()
store.seal()
"""


def test_killed_while_sealing_loses_nothing_and_doubles_nothing(tmp_path: Path, place: LakePlace) -> None:
    told: list[str] = []
    for life, moment in enumerate(("files written", "committed", "entered in the ledger")):
        arguments = [tmp_path / "a", f"postgres:{place.catalog}", place.data, moment, str(10 * life)]
        done = subprocess.run([sys.executable, "-c", KILLED, *arguments], timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL, moment
        assert len(list((tmp_path / "a" / "spool").iterdir())) == 1, moment
        numbers = [10 * life + step for step in range(3)]
        told += [f"pacs.{number}" for number in numbers]
        with opened(tmp_path / "a", place) as store:
            assert put(store, *(numbered("pacs", number) for number in numbers)) == [False] * 3, moment
            assert told_by(store) == sorted(told), moment
        assert list((tmp_path / "a" / "spool").iterdir()) == [], moment
        assert len(list((tmp_path / "shared").rglob("*.parquet"))) == 2 * (life + 1), moment


def test_a_commit_whose_answer_was_lost_is_found_out(
    tmp_path: Path, place: LakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, lost = Catalog._try, []

    def lose(self: Catalog, doing: str, work: Any) -> Any:
        answer = good(self, doing, work)
        if "_commit" in repr(work) and not lost:
            lost.append(doing)
            raise lake_catalog.BetweenError("the connection was lost at the commit")
        return answer

    with opened(tmp_path, place) as store:
        put(store, numbered("pacs", 1))
        monkeypatch.setattr(Catalog, "_try", lose)
        store.seal()
        assert lost == ["sealing segment 1"]
        assert told_by(store) == ["pacs.1"]


def test_a_catalog_that_is_away_is_one_clear_error_and_is_caught_up_with(
    tmp_path: Path, postgres: Postgres, place: LakePlace
) -> None:
    with opened(tmp_path, place) as store:
        put(store, numbered("pacs", 1))
        store.seal()
        postgres.stop()
        try:
            assert put(store, numbered("pacs", 2)) == [True]
            with pytest.raises(LakeError, match=r"sealing segment 2, lake postgres:host=.*onnect") as caught:
                store.seal()
            assert "psql" in caught.value.remedy
            with pytest.raises(LakeError, match="asking for flows, lake"):
                store.flows("default")
            store.close()
            with opened(tmp_path, place) as again:  # a server may be started meanwhile
                assert put(again, numbered("pacs", 1), numbered("pacs", 2)) == [False, False]
                assert put(again, numbered("pacs", 3)) == [True]
                with pytest.raises(LakeError, match="not reached since this server started"):
                    again.flows("default")
        finally:
            postgres.start()
    with opened(tmp_path, place) as store:
        assert told_by(store) == ["pacs.1", "pacs.2", "pacs.3"]
        postgres.stop()
        postgres.start()
        put(store, numbered("pacs", 4))
        store.seal()  # over connections that went away
        assert told_by(store) == ["pacs.1", "pacs.2", "pacs.3", "pacs.4"]
        assert store.health().unsealed_rows == 0


def test_servers_that_write_at_once_lose_nothing_and_double_nothing(
    tmp_path: Path, place: LakePlace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lake_module, "UPKEEP_EVERY_US", 0)
    monkeypatch.setattr(tidy, "is_trusted", lambda *_: True)  # days go, too
    failed: list[BaseException] = []
    names = ("pacs", "home", "clinic")

    def serve(name: str) -> None:
        try:
            with opened(tmp_path / name, place) as store:
                for number in range(4):
                    put(store, numbered(name, number))
                    store.seal()
                    if number == 2:
                        store.upkeep()  # merges files and deletes days while others insert
        except BaseException as error:
            failed.append(error)

    servers = [threading.Thread(target=serve, args=(name,)) for name in names]
    for server in servers:
        server.start()
    for server in servers:
        server.join(60)
    assert failed == []
    assert "started without the lake" not in caplog.text
    with opened(tmp_path / "pacs", place) as store:
        assert told_by(store) == sorted(f"{name}.{number}" for name in names for number in range(4))
        assert store.counts()["flows"] == 12
    assert read_along(place) == [("2026-11-23", 12)]


def read_along(place: LakePlace) -> list[tuple[str, int]]:
    """As docs/lake.md shows it to analysts."""
    with duckdb.connect() as reader:
        lake_engine.load_extensions(reader, place)
        reader.execute(
            f"ATTACH 'ducklake:postgres:{place.catalog}' AS lake (METADATA_SCHEMA 'pathgrade', READ_ONLY)"
        )
        return reader.execute("SELECT day, count(*) FROM lake.flows GROUP BY ALL ORDER BY ALL").fetchall()


def test_a_copied_data_folder_is_refused_before_it_writes(tmp_path: Path, place: LakePlace) -> None:
    with opened(tmp_path / "a", place) as store:
        put(store, numbered("pacs", 1))
        store.seal()
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        put(store, numbered("pacs", 2))
        store.seal()
        with opened(tmp_path / "b", place) as copy:
            put(copy, numbered("pacs", 9))
            with pytest.raises(LakeSetupError, match="another server seals as") as caught:
                copy.seal()
            assert f"remove its {NAME}" in caught.value.remedy
        (tmp_path / "b" / NAME).unlink()
        with opened(tmp_path / "b", place) as another:
            assert told_by(another) == ["pacs.1", "pacs.2", "pacs.9"]


# --- upkeep -------------------------------------------------------------------------------------------------


def test_small_files_are_merged_and_old_days_go(
    tmp_path: Path, place: LakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_module, "KEEP", "0 seconds")
    now = [AT_US - 40 * DAY_US]
    with opened(tmp_path / "a", place, lambda: now[0]) as store:
        for number, day in enumerate((0, 20, 20, 20, 38, 39)):
            now[0] = AT_US - (40 - day) * DAY_US
            put(store, numbered("pacs", number))
            store.seal()
        for later_us in (0, lake_module.UPKEEP_EVERY_US):
            now[0] = AT_US + later_us
            store.upkeep()
            store.seal()
        assert told_by(store) == [f"pacs.{number}" for number in range(1, 6)]
        assert len(list((tmp_path / "shared").rglob("*.parquet"))) == 3  # a day each
        assert put(store, numbered("pacs", 0)) == [False]
        now[0] += 100 * DAY_US  # nobody knows yet whether that is right
        store.upkeep()
        assert told_by(store) == [f"pacs.{number}" for number in range(1, 6)]


def of_tenants(folder: Path) -> list[tuple[str, list[str]]]:
    """Whose folder each file is in, and whose rows it has."""
    asked = "SELECT DISTINCT tenant FROM read_parquet($1, hive_partitioning = false) ORDER BY ALL"
    return sorted(
        (path.parents[1].name, [tenant for (tenant,) in duckdb.execute(asked, [str(path)]).fetchall()])
        for path in folder.rglob("*.parquet")
    )


def test_no_file_has_the_rows_of_two_tenants_and_a_lake_of_before_goes_on(
    tmp_path: Path, place: LakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_module, "KEEP", "0 seconds")
    now = [AT_US]
    clock_us = lambda: now[0]  # noqa: E731  # as ``opened`` takes it
    with opened(tmp_path / "a", place, clock_us) as store:
        store.seal()
        with store.database() as cursor:  # type: ignore[union-attr]  # over a lake there is one
            for table in lake_tables._WANTED:  # as it was made before
                cursor.execute(f"ALTER TABLE lake.{table} SET PARTITIONED BY (day)")
        with monkeypatch.context() as patched:
            patched.setattr(lake_module.Lake, "_write", as_before)
            put_of_both(store, 1)
    with opened(tmp_path / "a", place, clock_us) as store:
        for number in (2, 3):
            put_of_both(store, number)
        for _ in range(2):
            now[0] += lake_module.UPKEEP_EVERY_US
            store.upkeep()
        store.seal()
        for tenant in ("default", "other"):
            told = [one.process for one in store.flows(tenant)]
            assert sorted(told) == [f"{tenant}.{number}" for number in (1, 2, 3)]
            assert store.counts(tenant) == {
                "readings": 0,
                "hops": 0,
                "flows": 2,
                "receipts": 0,
            }  # one is of before
        assert store.counts()["flows"] == 6
    assert of_tenants(tmp_path / "shared") == [
        ("flows", ["default", "other"]),  # of before: they are merged as then
        ("tenant=default", ["default"]),
        ("tenant=other", ["other"]),
    ]


def put_of_both(store: Store, number: int) -> None:
    for tenant in ("default", "other"):
        put(store, body("pacs", number, flows=[flow(process=f"{tenant}.{number}")]), tenant=tenant)
    store.seal()


def as_before(lake: lake_module.Lake, token: str, place: tuple[str, str, str], parts: list[Any]) -> str:
    """Write a file as a server did whose lake had no partition for a tenant."""
    tenant, table, day = place
    content = partial(lake_module._write, lake_module.pa.concat_tables(parts), table)
    return lake._files.write(f"main/{table}/day={day}/{token}-{tenant}.parquet", content)


# --- S3 -----------------------------------------------------------------------------------------------------


def test_the_data_may_be_in_s3(tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.server import ThreadedMotoServer

    service = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    service.start()
    try:
        host, port = service.get_host_and_port()
        for name, value in {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "it's secret",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        httpx.put(f"http://{host}:{port}/facts").raise_for_status()
        place = LakePlace.parse(postgres.new_catalog(), "s3://facts/lake")
        with opened(tmp_path, place) as store:
            for number in range(3):
                put(store, numbered("pacs", number))
                store.seal()
            assert told_by(store) == ["pacs.0", "pacs.1", "pacs.2"]
        with opened(tmp_path, place) as store:
            assert put(store, numbered("pacs", 1)) == [False]
            assert told_by(store) == ["pacs.0", "pacs.1", "pacs.2"]
        with opened(tmp_path / "b", LakePlace.parse(postgres.new_catalog(), "s3://nowhere")) as store:
            put(store, numbered("pacs", 1))
            with pytest.raises(LakeError, match="sealing to s3://nowhere/"):
                store.seal()
    finally:
        service.stop()


def test_s3_without_a_key_is_one_clear_error(tmp_path: Path, place: LakePlace) -> None:
    bucket = LakePlace.parse(f"postgres:{place.catalog}", "s3://facts")
    with pytest.raises(LakeSetupError, match="there is no key to it") as caught:
        Store.open(tmp_path, storage=LakeStorage(bucket, {}))
    assert "AWS_ACCESS_KEY_ID" in caught.value.remedy
    with pytest.raises(LakeSetupError, match="AWS_ENDPOINT_URL is 'minio:9000'"):
        Store.open(
            tmp_path,
            storage=LakeStorage(
                bucket,
                {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": "minio:9000"},
            ),
        )
    Store.open(tmp_path).close()  # and the lock was given back


# --- set-up -------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_mounted_is_not_written_to(tmp_path: Path, place: LakePlace) -> None:
    with opened(tmp_path / "a", place) as store:
        mounted = tmp_path / "shared"
        mounted.rename(tmp_path / "elsewhere")
        mounted.mkdir()
        put(store, numbered("pacs", 1))
        with pytest.raises(LakeError, match=f"no {MARK} in") as caught:
            store.seal()
        assert caught.value.remedy == "is it mounted?"
        assert list(mounted.iterdir()) == []
        mounted.rmdir()
        (tmp_path / "elsewhere").rename(mounted)
        store.seal()
        assert told_by(store) == ["pacs.1"]


def test_all_servers_of_a_lake_name_its_data_alike(tmp_path: Path, place: LakePlace) -> None:
    with opened(tmp_path / "a", place):
        pass
    other = LakePlace.parse(f"postgres:{place.catalog}", str(tmp_path / "other"))
    with pytest.raises(LakeSetupError, match="does not match existing data path") as caught:
        Store.open(tmp_path / "b", storage=LakeStorage(other, {}))
    assert "lake_data" in caught.value.remedy


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        LakeSetupError, match=r"DuckDB 1\.9\.9 needs its extension ducklake of v1\.9\.9"
    ) as caught:
        lake_engine.extension_file("ducklake", "1.9.9")
    assert "pip install 'pathgrade[lake]'" in caught.value.remedy
    monkeypatch.setattr(lake_engine, "find_spec", lambda _: None)
    with pytest.raises(LakeSetupError, match="extension ducklake is not installed") as caught:
        lake_engine.extension_file("ducklake", duckdb.__version__)
    assert "pip install 'pathgrade[lake]'" in caught.value.remedy


def test_a_server_without_a_lake_loads_nothing_of_it() -> None:
    script = "import sys, server.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert [name for name in loaded if "lake" in name.rpartition(".")[2].split("_")] == [
        "analytics.store.lake_place"
    ]


@pytest.mark.parametrize("content", ["", "{", '{"version": 2, "writer": "x", "token": "", "lives": []}'])
def test_a_damaged_ledger_is_not_begun_anew(tmp_path: Path, place: LakePlace, content: str) -> None:
    (tmp_path / NAME).write_text(content)
    with pytest.raises(LakeSetupError, match=f"reading .*{NAME}") as caught:
        Store.open(tmp_path, storage=LakeStorage(place, {}))
    assert "backup" in caught.value.remedy
    assert (tmp_path / NAME).read_text() == content


@pytest.mark.parametrize(
    ("catalog", "data", "expected"),
    [
        ("sqlite:x", "/d", "does not begin with postgres:"),
        ("postgres:host=h", "/d", "is not postgres:host="),
        ("postgres:dbname=a b", "/d", "is not postgres:host="),
        ("postgres:dbname='a", "/d", "is not postgres:host="),
        ("postgres:dbname=a password=b", "/d", r"\.pgpass"),
        ("postgres:dbname=a", "d", "neither an absolute path nor s3://"),
        ("postgres:dbname=a", "s3://", "is not s3://BUCKET/PREFIX"),
        ("postgres:dbname=a", "s3://bucket/a?b", "is not s3://BUCKET/PREFIX"),
        ("", "/d", "does not begin with postgres:"),
    ],
)
def test_a_place_that_does_not_hold_is_said(catalog: str, data: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        LakePlace.parse(catalog, data)


def test_a_catalog_is_asked_with_bounds() -> None:
    place = LakePlace.parse("postgres: dbname='a \\' b' connect_timeout=60", "/mnt/lake//")
    assert place.data == "/mnt/lake/"
    told = lake_engine.connection_of(place)
    assert told.startswith("dbname='a \\' b' connect_timeout=60 ")
    assert told.count("connect_timeout") == 1
    assert "tcp_user_timeout=15000" in told
