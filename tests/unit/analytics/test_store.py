"""The store: what was acknowledged is there, once, whatever happens in between."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics.batch import SCHEMA_VERSION, check_batch
from analytics.clock import HOUR_US
from analytics.errors import StoreBusyError, StoreError, StoreLockedError
from analytics.histogram import MOST_COUNT
from analytics.store import seal, spool
from analytics.store import store as store_module
from analytics.store.commit import GroupCommit
from analytics.store.seal import MANY_FILES
from analytics.store.store import Store
from analytics.usage import SUMS, By, Usage, merged
from tests.unit.analytics.facts import AT_US, body, flow, hop, put, reading


@contextmanager
def opened(folder: Path, at_us: int = AT_US) -> Iterator[Store]:
    with closing(Store.open(folder, clock_us=lambda: at_us)) as store:
        yield store


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "spool").glob("*.spool"))


def parquet(folder: Path) -> list[Path]:
    return sorted((folder / "parquet").rglob("*.parquet"))


def pairs(store: Store) -> list[tuple[str, str]]:
    return [(r.src, r.dst) for r in store.readings_latest("default")]


# --- rows ---------------------------------------------------------------------------------------------------


def test_rows_are_the_same_unsealed_sealed_and_reopened(tmp_path: Path) -> None:
    rows = [reading(), reading(dst="home", rtt_p50_us=None, error="söme text")]
    hops = [hop(1, "10.0.0.1", 300), hop(2, "", None)]
    with opened(tmp_path) as store:
        assert put(store, body("pacs", 1, readings=rows, hops=hops, flows=[flow()])) == [True]
        for _ in range(2):
            assert store.readings_latest("default") == sorted(rows, key=lambda r: r.dst)
            assert store.hops_of("default", ["pacs-radiologist"]) == hops
            assert store.flows("default") == [flow()]
            assert store.counts() == {"readings": 2, "hops": 2, "flows": 1, "receipts": 0}
            store.seal()
    assert segments(tmp_path) == []
    with opened(tmp_path) as store:
        assert store.readings_latest("default") == sorted(rows, key=lambda r: r.dst)
        assert store.counts() == {"readings": 2, "hops": 2, "flows": 1, "receipts": 0}


def test_an_empty_store_answers_with_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.seal()
        assert store.readings_latest("default") == []
        assert store.hops_of("default", []) == []
        assert store.flows("default") == []


def test_the_latest_reading_of_a_path_is_that_of_the_latest_cycle(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, body("pacs", 1, readings=[reading(cycle=200, test="new")]))
        store.seal()
        put(store, body("pacs", 2, readings=[reading(cycle=100, test="late")]))
        assert [r.test for r in store.readings_latest("default")] == ["new"]


def test_a_report_of_the_past_knows_only_what_had_arrived(tmp_path: Path) -> None:
    now = [AT_US]
    with closing(Store.open(tmp_path, clock_us=lambda: now[0])) as store:
        put(store, body("pacs", 1, readings=[reading(cycle=100, test="before")]))
        now[0] += 60_000_000
        put(store, body("pacs", 2, readings=[reading(cycle=200, test="after")]))
        assert [r.test for r in store.readings_latest("default", AT_US)] == ["before"]
        assert [r.test for r in store.readings_latest("default")] == ["after"]
        assert store.readings_latest("default", AT_US - 1) == []


def test_a_week_old_reading_says_nothing_about_now(tmp_path: Path) -> None:
    now = [AT_US]
    with closing(Store.open(tmp_path, clock_us=lambda: now[0])) as store:
        put(store, body("pacs", 1, readings=[reading()]))
        store.seal()
        now[0] += 9 * 86_400_000_000
        assert store.readings_latest("default") == []
        assert len(store.readings_latest("default", AT_US)) == 1


def test_hops_are_looked_for_as_far_back_as_the_readings_that_name_them(tmp_path: Path) -> None:
    hops = [hop(1, "10.0.0.1", 300)]
    now = [AT_US]
    with closing(Store.open(tmp_path, clock_us=lambda: now[0])) as store:
        put(store, body("pacs", 1, hops=hops))
        store.seal()
        now[0] += 6 * 86_400_000_000
        assert store.hops_of("default", ["pacs-radiologist"]) == hops
        now[0] += 3 * 86_400_000_000
        assert store.hops_of("default", ["pacs-radiologist"]) == []
        assert store.hops_of("default", ["pacs-radiologist"], AT_US) == hops


def test_tenants_do_not_see_each_other_and_cannot_claim_another(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, body("pacs", 1, readings=[reading(tenant="other")]), tenant="default")
        put(store, body("pacs", 1, readings=[reading()]), tenant="other")
        for sealed in (False, True):
            if sealed:
                store.seal()
            assert [r.tenant for r in store.readings_latest("default")] == ["default"]
            assert [r.tenant for r in store.readings_latest("other")] == ["other"]
            assert store.readings_latest("nobody") == []


def test_usage_is_summed_by_hour_and_group(tmp_path: Path) -> None:
    hour, now_us = AT_US - AT_US % HOUR_US, AT_US + HOUR_US // 2
    flows = [
        flow(window_us=hour, opened=2, segments_sent=10, srtt_lasting_histogram=(40, 2, 41, 1)),
        flow(window_us=hour + 10, opened=1, segments_sent=5, srtt_lasting_histogram=(30, 1, 41, 3)),
        flow(window_us=hour - 1, opened=1, failed=4),
        flow(window_us=hour, process="curl", opened=1, remote_address="198.51.100.66"),
        flow(window_us=hour - 9 * HOUR_US, opened=7),
        flow(window_us=now_us + 1, opened=100),
    ]
    with opened(tmp_path) as store:
        put(
            store,
            body("pacs", 1, flows=flows),
            body("home", 1, flows=[flow("home", window_us=hour, opened=1)]),
        )
        for sealed in (False, True):
            if sealed:
                store.seal()
            asked = {"since_us": hour - HOUR_US, "until_us": now_us}
            orthanc = Usage(agent="pacs", process="Orthanc")
            merged_here = msgspec.structs.replace(
                orthanc,
                hour_us=hour,
                opened=3,
                segments_sent=15,
                srtt_lasting_histogram=(30, 1, 40, 2, 41, 4),
            )
            before = msgspec.structs.replace(orthanc, hour_us=hour - HOUR_US, opened=1, failed=4)
            curl = Usage(agent="pacs", process="curl", hour_us=hour, opened=1)
            home = Usage(agent="home", process="Orthanc", hour_us=hour, opened=1)
            assert store.usage("default", By.PROCESS, **asked) == [home, before, merged_here, curl]
            assert store.usage("default", By.PROCESS, **asked, limit=1) == [before, merged_here]
            assert store.usage("default", By.PROCESS, **asked, but="Orthanc") == [curl]
            assert store.usage("default", By.PROCESS, **asked, agent="home") == [home]
            assert store.usage("other", By.PROCESS, **asked) == []
            by_destination = store.usage("default", By.DESTINATION, **asked, agent="pacs", but="curl")
            assert [(one.process, one.remote_address, one.opened) for one in by_destination] == [
                ("", "203.0.113.20", 1),
                ("", "203.0.113.20", 3),
            ]


def test_usage_of_a_sender_that_counts_without_bounds_is_still_told(tmp_path: Path) -> None:
    most = flow(window_us=AT_US, bytes_sent=2**62, srtt_lasting_histogram=(40, MOST_COUNT))
    with opened(tmp_path) as store:
        put(store, body("pacs", 1, flows=[most, most, most]))
        (told,) = store.usage("default", By.PROCESS, since_us=0, until_us=AT_US)
        assert (told.bytes_sent, told.srtt_lasting_histogram) == (2**62, (40, MOST_COUNT))


def test_usage_is_what_python_would_sum(tmp_path: Path) -> None:
    """The same sums by another way: every flow an hour of its own, added by ``merged``."""
    random_rows = random.Random(7)
    flows = [
        flow(
            window_us=AT_US - random_rows.randrange(HOUR_US // 2),
            process=random_rows.choice("abc"),
            opened=random_rows.randrange(5),
            segments_sent=random_rows.randrange(1_000),
            busy_us=random_rows.randrange(10**7),
            srtt_lasting_histogram=tuple(
                part
                for number in sorted(random_rows.sample(range(200), random_rows.randrange(4)))
                for part in (number, random_rows.randrange(1, 9))
            ),
        )
        for _ in range(300)
    ]
    since = AT_US - AT_US % HOUR_US - HOUR_US
    with opened(tmp_path) as store:
        put(store, body("pacs", 1, flows=flows[:150]))
        store.seal()
        put(store, body("pacs", 2, flows=flows[150:]))
        told = store.usage("default", By.PROCESS, since_us=since, until_us=AT_US)
    names = (*SUMS, "agent", "process", "srtt_lasting_histogram")
    summed = {}
    for one in flows:
        hour = one.window_us - one.window_us % HOUR_US
        usage = Usage(hour_us=hour, **{name: getattr(one, name) for name in names})
        key = (one.process, hour)
        summed[key] = merged([summed[key], usage]) if key in summed else usage
    assert told == [summed[key] for key in sorted(summed)]


def test_flows_are_filtered_exactly_and_newest_first(tmp_path: Path) -> None:
    flows = [
        flow(window_us=10),
        flow(window_us=30, process="curl", remote_address="198.51.100.66"),
        flow(window_us=20, process="curl"),
    ]
    with opened(tmp_path) as store:
        put(store, body("pacs", 1, flows=flows), body("home", 1, flows=[flow("home", window_us=40)]))
        assert [f.window_us for f in store.flows("default")] == [40, 30, 20, 10]
        assert [f.window_us for f in store.flows("default", limit=2)] == [40, 30]
        assert [f.window_us for f in store.flows("default", agent="pacs", since_us=20)] == [30, 20]
        assert [f.window_us for f in store.flows("default", process="curl")] == [30, 20]
        assert [f.window_us for f in store.flows("default", but="curl")] == [40, 10]
        assert [f.window_us for f in store.flows("default", remote="198.51.100.66")] == [30]
        assert store.flows("default", process="' OR 1=1 --") == []


def test_parquet_is_sorted_described_and_readable_by_anyone(tmp_path: Path) -> None:
    rows = [reading("pacs", dst) for dst in ("home", "clinic", "office-1")]
    with opened(tmp_path) as store:
        put(store, *(body("pacs", n, readings=[row]) for n, row in enumerate(rows)))
        store.seal()
    (path,) = parquet(tmp_path)
    named = path.relative_to(tmp_path / "parquet").as_posix()
    assert named == "tenant=default/readings/date=2026-11-23/0000000001.parquet"
    schema = pq.read_schema(path)
    described = {b"description": b"median round trip", b"unit": b"us"}
    assert schema.field("rtt_p50_us").metadata == described
    told = duckdb.sql(f"SELECT dst, sender, batch, received_us FROM read_parquet('{path}')").fetchall()
    assert told == [("clinic", "pacs", 1, AT_US), ("home", "pacs", 0, AT_US), ("office-1", "pacs", 2, AT_US)]


# --- duplicates ---------------------------------------------------------------------------------------------


def test_a_batch_is_kept_once_however_often_it_comes(tmp_path: Path) -> None:
    sent = body("pacs", 7, readings=[reading()])
    with opened(tmp_path) as store:
        assert sorted(put(store, sent, sent, sent)) == [False, False, True]
        assert put(store, sent) == [False]
        assert put(store, body("pacs", 7, boot="deadbeef", readings=[reading()])) == [True]
    with opened(tmp_path) as store:
        assert put(store, sent) == [False]  # known from the spool
        store.seal()
        assert put(store, sent) == [False]
    with opened(tmp_path) as store:
        assert put(store, sent) == [False]  # known from the footers
        assert store.counts()["readings"] == 2


def test_a_sender_that_hangs_up_does_not_undo_its_batch(tmp_path: Path) -> None:
    sent = body("pacs", 1, readings=[reading()])

    async def hang_up(store: Store) -> None:
        waiting = asyncio.create_task(store.append(check_batch(sent), sent, "default"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await store.append(check_batch(sent), sent, "default") is False

    with opened(tmp_path) as store:
        asyncio.run(hang_up(store))
        assert store.counts()["readings"] == 1


# --- crashes ------------------------------------------------------------------------------------------------


def copied(folder: Path, target: Path) -> Path:
    """What a crash at this moment leaves: the files as they are."""
    shutil.copytree(folder, target)
    return target


def test_unsealed_rows_survive_a_restart_and_are_sealed_then(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as store:
        put(store, body("pacs", 1, readings=[reading()]), body("home", 1, readings=[reading("home", "pacs")]))
        crashed = copied(tmp_path / "a", tmp_path / "b")
    with opened(crashed) as store:
        assert pairs(store) == [("home", "pacs"), ("pacs", "radiologist")]
        put(store, body("pacs", 2, readings=[reading(dst="home")]))
        store.seal()
        assert segments(crashed) == []
        assert len(pairs(store)) == 3


def test_a_torn_tail_is_cut_and_counted(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, body("pacs", 1, readings=[reading()]))
    (segment,) = segments(tmp_path)
    whole = segment.read_bytes()
    torn = spool.encode_frame(spool.Frame(AT_US, "default", body("pacs", 2, readings=[reading(dst="home")])))
    for cut in (1, 11, 12, 40, len(torn) - 1):
        segment.write_bytes(whole + torn[:cut])
        with opened(tmp_path) as store:
            assert pairs(store) == [("pacs", "radiologist")]
            assert store.health().torn_tails == 1
        assert segment.read_bytes() == whole


def test_damage_in_the_middle_costs_one_batch_and_the_segment_is_kept_aside(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for n, dst in enumerate(("radiologist", "home", "clinic")):
            put(store, body("pacs", n, readings=[reading(dst=dst)]))
    (segment,) = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    second = data.index(spool.FRAME_MAGIC, data.index(spool.FRAME_MAGIC) + 4)
    data[second + 60] ^= 0xFF
    segment.write_bytes(data)
    with opened(tmp_path) as store:
        assert pairs(store) == [("pacs", "clinic"), ("pacs", "radiologist")]
        assert store.health().damaged_segments == 1
        store.seal()
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["0000000001.spool.bad"]
    with opened(tmp_path) as store:
        assert len(pairs(store)) == 2
        assert put(store, body("pacs", 9, readings=[reading(dst="home")])) == [True]
        assert segments(tmp_path)[0].name == "0000000002.spool"


PLAIN_BATCH: Final = {
    "schema": SCHEMA_VERSION,
    "agent": "pacs",
    "boot": "6f1c0a2b9d3e4f50",
    "batch": 7,
    "tables": {},
}
NO_BATCHES: Final = {
    "no batch": spool.Frame(AT_US, "default", b"right CRC, wrong bytes"),
    "nothing": spool.Frame(AT_US, "default", b""),
    "a table of nobody's": spool.Frame(
        AT_US, "default", msgspec.msgpack.encode({**PLAIN_BATCH, "tables": {"x": {"rows": 0, "columns": {}}}})
    ),
    "a schema before the first": spool.Frame(
        AT_US, "default", msgspec.msgpack.encode({**PLAIN_BATCH, "schema": 0})
    ),
    "no tenant's name": spool.Frame(AT_US, "../default", body("pacs", 7, readings=[reading()])),
    "no moment": spool.Frame(2**63, "default", body("pacs", 7, readings=[reading()])),
}


@pytest.mark.parametrize("what", NO_BATCHES)
@pytest.mark.parametrize("alone", [False, True])
def test_a_whole_frame_that_is_no_batch_is_set_aside_and_nothing_else_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str, alone: bool
) -> None:
    with opened(tmp_path) as store:
        put(store, body("pacs", 1, readings=[reading()]))
    (segment,) = segments(tmp_path)
    whole = segment.read_bytes()
    before = whole[: whole.index(spool.FRAME_MAGIC)] if alone else whole
    after = spool.encode_frame(spool.Frame(AT_US, "default", body("pacs", 2, readings=[reading(dst="home")])))
    segment.write_bytes(before + spool.encode_frame(NO_BATCHES[what]) + (b"" if alone else after))
    rest = [] if alone else [("pacs", "home"), ("pacs", "radiologist")]
    with opened(tmp_path) as store:
        assert pairs(store) == rest
        assert (store.health().frames_set_aside, store.health().damaged_segments) == (1, 0)
        assert caplog.text.count("1 frame that is no batch") == 1
        assert put(store, body("pacs", 3, readings=[reading(dst="clinic")])) == [True]
        store.seal()
    kept = tmp_path / "spool" / "0000000001.spool.bad"
    assert NO_BATCHES[what] in spool.decode_segment(kept.read_bytes()).frames
    assert segments(tmp_path) == []
    with opened(tmp_path) as store:
        assert len(pairs(store)) == len(rest) + 1
        assert store.health().frames_set_aside == 0


def test_a_batch_of_a_newer_version_in_the_spool_is_not_set_aside(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, body("pacs", 1, readings=[reading()]))
    (segment,) = segments(tmp_path)
    newer = msgspec.msgpack.encode({**PLAIN_BATCH, "schema": SCHEMA_VERSION + 1})
    segment.write_bytes(segment.read_bytes() + spool.encode_frame(spool.Frame(AT_US, "default", newer)))
    with pytest.raises(StoreError, match="of a newer version") as refused, opened(tmp_path):
        pass
    assert "start the version" in refused.value.remedy
    assert segments(tmp_path) == [segment]


@pytest.mark.parametrize("left", ["a temporary file", "one table", "all tables"])
def test_a_crash_while_sealing_is_repeated_without_loss_or_duplicate(tmp_path: Path, left: str) -> None:
    tables = {"readings": [reading()], "hops": [hop(1, "10.0.0.1", 300)], "flows": [flow()]}
    with opened(tmp_path / "a") as store:
        put(store, body("pacs", 1, **tables))
        crashed = copied(tmp_path / "a", tmp_path / "b")
        store.seal()
    for done in parquet(tmp_path / "a"):
        target = crashed / done.relative_to(tmp_path / "a")
        if left == "a temporary file":
            target.parent.mkdir(parents=True)
            target.with_name(target.name + ".tmp").write_bytes(done.read_bytes()[:100])
        elif left == "all tables" or "readings" in done.parts:
            target.parent.mkdir(parents=True)
            shutil.copy(done, target)
    with opened(crashed) as store:
        assert store.counts() == {"readings": 1, "hops": 1, "flows": 1, "receipts": 0}
        assert put(store, body("pacs", 1, **tables)) == [False]
        store.seal()
        assert store.counts() == {"readings": 1, "hops": 1, "flows": 1, "receipts": 0}
        assert store.hops_of("default", ["pacs-radiologist"]) == tables["hops"]
    assert len(parquet(crashed)) == 3
    assert not list(crashed.rglob("*.tmp"))


WRITER = """
import asyncio, sys, threading
from pathlib import Path
from analytics.batch import SCHEMA_VERSION, check_batch
from analytics.store.store import Store
from analytics.usage import SUMS, By, Usage, merged
from tests.unit.analytics.facts import body, reading

async def main(folder, first):
    store = Store.open(Path(folder))
    threading.Thread(target=seal, args=(store,), daemon=True).start()
    await asyncio.gather(*(send(store, f"agent-{n}", first) for n in range(8)))

async def send(store, agent, number):
    while True:
        sent = body(agent, number, readings=[reading(agent, "pacs", test=f"{agent}.{number}")] * 3)
        await store.append(check_batch(sent), sent, "default")
        print(agent, number, flush=True)
        number += 1

def seal(store):
    while True:
        store.seal()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def test_kill_9_loses_nothing_acknowledged_and_a_resend_duplicates_nothing(tmp_path: Path) -> None:
    chance = random.Random(20)
    acknowledged: set[tuple[str, int]] = set()
    for life in range(5):
        acknowledged |= killed_writer(tmp_path, life * 1_000_000, after=chance.randrange(40, 400))
        with closing(Store.open(tmp_path)) as store:
            resent = [body(a, n, readings=[reading(a, "pacs", test=f"{a}.{n}")] * 3) for a, n in acknowledged]
            assert put(store, *resent) == [False] * len(resent)
    with closing(Store.open(tmp_path)) as store:
        store.seal()
    files = [str(path) for path in parquet(tmp_path)]
    told = duckdb.execute("SELECT test, count(*) FROM read_parquet($1) GROUP BY test", [files]).fetchall()
    assert {count for _, count in told} == {3}
    assert {test for test, _ in told} >= {f"{agent}.{number}" for agent, number in acknowledged}


def killed_writer(folder: Path, first: int, after: int) -> set[tuple[str, int]]:
    """Run a writer, kill it after so many acknowledgements, and return all that it was told."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(first)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    assert process.wait() == -signal.SIGKILL
    whole = [line.split() for line in lines if line.endswith("\n")]
    return {(agent, int(number)) for agent, number in whole}


def test_readers_see_every_row_once_while_it_is_written_sealed_and_merged(tmp_path: Path) -> None:
    done = threading.Event()
    seen: list[str] = []
    written = [0]

    def watch() -> None:
        before = 0
        while not done.is_set():
            now = len(store.hops_of("default", ["pacs-radiologist"]))
            if not before <= now <= written[-1] + 1:
                seen.append(f"{now} rows after {before}, {written[-1]} written")
            before = now

    with opened(tmp_path) as store:
        readers = [threading.Thread(target=watch) for _ in range(3)]
        for reader in readers:
            reader.start()
        for n in range(2 * MANY_FILES):
            put(store, body("pacs", n, hops=[hop(1, "10.0.0.1", n)]))
            written.append(n + 1)
            store.seal()
        done.set()
        for reader in readers:
            reader.join()
        assert seen == []
        assert len(store.hops_of("default", ["pacs-radiologist"])) == 2 * MANY_FILES
        assert store.health().files_set_aside == 0


def test_a_segment_begun_while_sealing_is_left_to_its_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch comes just as ``seal`` gives the segment lock back: its new segment is still open."""

    class Stalling:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.late = [body("pacs", 2, readings=[reading(dst="home")])]

        def __enter__(self) -> None:
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()
            if threading.current_thread() is threading.main_thread() and self.late:
                put(store, self.late.pop())

    with opened(tmp_path) as store:
        put(store, body("pacs", 1, readings=[reading()]))
        monkeypatch.setattr(store, "_segment_lock", Stalling())
        store.seal()
        put(store, body("pacs", 3, readings=[reading(dst="clinic")]))
        store.seal()
        assert store.counts()["readings"] == 3
    with opened(tmp_path) as store:
        assert [dst for _, dst in pairs(store)] == ["clinic", "home", "radiologist"]


def test_small_files_of_a_day_are_merged_and_a_crash_in_between_duplicates_nothing(tmp_path: Path) -> None:
    data = tmp_path / "a"
    with opened(data) as store:
        for n in range(MANY_FILES - 1):
            put(
                store,
                body("pacs", n, readings=[reading(test=f"t{n}", cycle=n)], hops=[hop(1, "10.0.0.1", n)]),
            )
            store.seal()
        before = copied(data, tmp_path / "b")
        put(store, body("pacs", 99, readings=[reading(test="last", cycle=99)]))
        store.seal()
        assert store.counts() == {"readings": MANY_FILES, "hops": MANY_FILES - 1, "flows": 0, "receipts": 0}
        assert [r.test for r in store.readings_latest("default")] == ["last"]
    merged = [path for path in parquet(data) if "readings" in path.parts]
    assert len(merged) == 1
    shutil.copy(
        merged[0], before / merged[0].relative_to(data)
    )  # the crash: not yet removed, what it replaces
    for folder, hops_kept in ((data, MANY_FILES - 1), (before, MANY_FILES - 1)):
        with opened(folder) as store:
            assert store.counts() == {"readings": MANY_FILES, "hops": hops_kept, "flows": 0, "receipts": 0}
            assert put(store, body("pacs", 3, readings=[reading()]), body("pacs", 99, readings=[])) == [
                False,
                False,
            ]
        assert len([path for path in parquet(folder) if "readings" in path.parts]) == 1


# --- faults of the place ------------------------------------------------------------------------------------

FULL = """
import asyncio, sys
from pathlib import Path
from analytics.batch import SCHEMA_VERSION, check_batch
from analytics.errors import StoreFullError
from analytics.store.store import Store
from analytics.usage import SUMS, By, Usage, merged
from tests.unit.analytics.facts import body, flow

async def send(store, number):
    sent = body("pacs", number, flows=[flow(process="x" * 64) for _ in range(500)])
    return await store.append(check_batch(sent), sent, "default")

async def main(folder):
    store = Store.open(folder)
    kept = 0
    try:
        while True:
            await send(store, kept)
            kept += 1
    except StoreFullError as error:
        assert "free space" in error.remedy and str(folder) in str(error), error
    assert kept > 0
    try:
        store.seal()
        sealed = True
    except StoreFullError:
        sealed = False
    assert store.counts()["flows"] == 500 * kept
    (folder / "ballast").unlink()
    store.seal()
    assert await send(store, kept) is True
    assert await send(store, 0) is False
    store.close()
    store = Store.open(folder)
    assert store.counts()["flows"] == 500 * (kept + 1), store.counts()
    print("kept", kept, "sealed when full", sealed)

folder = Path(sys.argv[1])
(folder / "ballast").write_bytes(bytes(2_500_000))
asyncio.run(main(folder))
"""


def test_a_full_disk_is_said_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        [
            *["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"],
            mount,
            "sh",
            tmp_path,
            sys.executable,
            FULL,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("kept ")


def test_a_second_server_is_told_who_has_the_folder(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(StoreLockedError, match=r"in use by process \d+") as caught:
        Store.open(tmp_path)
    assert "another data folder" in caught.value.remedy
    Store.open(tmp_path).close()


def test_a_file_in_place_of_the_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreError, match="opening the data folder") as caught:
        Store.open(tmp_path / "data")
    assert "may write to" in caught.value.remedy


def test_a_spool_of_another_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    path = tmp_path / "spool" / "0000000001.spool"
    path.write_bytes(b"PGSPOOL\n" + (99).to_bytes(4, "little") + bytes(4) + b"rows")
    with pytest.raises(StoreError, match="not a spool segment of version 1"):
        Store.open(tmp_path)
    assert path.exists()
    with pytest.raises(StoreError, match="not a spool segment"):
        Store.open(tmp_path)  # and the lock was given back


@pytest.mark.parametrize("content", ["torn", "foreign", "text"])
def test_a_parquet_file_that_cannot_be_read_is_set_aside(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path) as store:
        put(store, body("pacs", 1, readings=[reading()]))
        store.seal()
    (good,) = parquet(tmp_path)
    bad = good.with_name("0000000002.parquet")
    if content == "foreign":
        pq.write_table(
            pq.read_table(good, partitioning=None).select(["src"]).replace_schema_metadata(None), bad
        )
    else:
        bad.write_bytes(good.read_bytes()[:-20] if content == "torn" else b"hello")
    with opened(tmp_path) as store:
        assert pairs(store) == [("pacs", "radiologist")]
        assert store.health().files_set_aside == 1
        put(store, body("pacs", 2, readings=[reading(dst="home")]))
        store.seal()
    assert str(bad) in caplog.text
    assert bad.with_name("0000000002.parquet.bad").exists()
    assert [path.name for path in parquet(tmp_path)] == ["0000000001.parquet", "0000000003.parquet"]


def test_damage_behind_a_good_footer_is_found_when_it_is_met(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for n, dst in enumerate(("radiologist", "home")):
            put(store, body("pacs", n, readings=[reading(dst=dst)]))
            store.seal()
        damaged = parquet(tmp_path)[0]
        data = bytearray(damaged.read_bytes())
        data[4 : len(data) * 3 // 4] = bytes(len(data) * 3 // 4 - 4)
        damaged.write_bytes(data)
        assert pairs(store) == [("pacs", "home")]
        assert store.health().files_set_aside == 1
        assert store.counts()["readings"] == 1


def test_what_cannot_be_read_now_is_an_error_and_not_damage(tmp_path: Path, no_free_descriptor: Any) -> None:
    with opened(tmp_path) as store:
        put(store, body("pacs", 1, readings=[reading()]))
        store.seal()
        assert len(pairs(store)) == 1
        with no_free_descriptor(), pytest.raises(StoreError, match=r"reading .*\.parquet") as caught:
            store.readings_latest("default")
        assert caught.value.remedy
        assert len(pairs(store)) == 1
        assert store.health().files_set_aside == 0
    (path,) = parquet(tmp_path)
    with no_free_descriptor(), pytest.raises(StoreError, match="Too many open files"):
        seal.read_footer(path)


def test_a_want_of_memory_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(pq, "read_table", refuse)
    with pytest.raises(StoreError, match="malloc of size 64 failed") as caught:
        seal.read_through(tmp_path / "0000000001.parquet")
    assert "memory" in caught.value.remedy


# --- bounds -------------------------------------------------------------------------------------------------


def test_too_much_at_once_is_refused_and_can_come_again() -> None:
    go = threading.Event()
    written: list[int] = []

    def slow(group: list[Item]) -> None:
        go.wait(30)
        written.extend(item.number for item in group)

    class Item:
        size = 50_000_000

        def __init__(self, number: int) -> None:
            self.number = number

    writer: GroupCommit[Item] = GroupCommit(slow)
    writer.submit(Item(1))
    writer.submit(Item(2))
    with pytest.raises(StoreBusyError, match="too many batches"):
        writer.submit(Item(3))
    go.set()
    writer.close()
    assert written == [1, 2]
    with pytest.raises(StoreError, match="closed"):
        writer.submit(Item(4))


def test_rows_that_cannot_be_sealed_do_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "UNSEALED_BYTES_MOST", 100)
    with opened(tmp_path) as store:
        put(store, body("pacs", 1, readings=[reading()]))
        with pytest.raises(StoreBusyError, match="1 rows wait to be sealed"):
            put(store, body("pacs", 2, readings=[reading()]))
        store.seal()
        assert put(store, body("pacs", 2, readings=[reading()])) == [True]
        store.seal()
        assert store.health().unsealed_bytes == 0
