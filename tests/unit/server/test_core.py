"""From two agents' batches to the report, through a real server."""

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from analytics.batch import pack_batch
from analytics.histogram import bucket
from analytics.measurement import Flow, Hop, Letter, Reading, Rung, StampSource
from analytics.report import PathDetail, Service, build_detail
from analytics.sla import month_at, month_of
from analytics.trust import check_statement
from analytics.usage import By
from server import core as core_module
from server.api.core import ExportRange
from server.budget import Choice
from server.history import Told, remembered
from server.schedule import Pair

Run = Callable[[Callable[[Any], Any]], None]


def reading(src: str, dst: str, received: int, *, ended_us: int, test: str = "t1") -> Reading:
    return Reading(
        tenant="default",
        cycle=ended_us // 1_000_000,
        test=test,
        src=src,
        dst=dst,
        started_us=ended_us - 9_000_000,
        ended_us=ended_us,
        rung=Rung.SRFLX,
        sent=300,
        received=received,
        rtt_n=300,
        rtt_min_us=20_000,
        rtt_p50_us=20_400,
        rtt_p95_us=21_000,
        stamps=StampSource.KERNEL,
    )


def hop(src: str, dst: str) -> Hop:
    key = {"tenant": "default", "cycle": 1, "test": "t1", "src": src, "dst": dst}
    return Hop(**key, ttl=1, address="192.168.1.1", sent=6, answered=6, rtt_min_us=500)  # type: ignore[arg-type]


def test_two_ends_readings_become_a_report(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        now_us = time.time_ns() // 1000
        for src, dst, received in (("a", "b", 300), ("b", "a", 270)):
            reply = await site.enrol(src, f"site-{src}")
            tables = {
                "readings": [reading(src, dst, received, ended_us=now_us)],
                "hops": [hop(src, dst)],
            }
            body = pack_batch(agent=src, boot="6f1c0a2b9d3e4f50", batch=0, tables=tables)
            assert (await site.send(reply, body)).status_code == 200
        core = site.running.core
        status = core.status()
        assert (status.paths_measured, status.paths_expected, status.agents_enrolled) == (2, 2, 2)
        assert status.rows == {"readings": 2, "hops": 2, "flows": 0, "receipts": 0}
        report = core.report("generic")
        assert report.missing == []
        losses = {(row.src, row.dst): (row.loss_bp, row.loss_back_bp) for row in report.paths}
        assert losses == {("a", "b"): (0, 1000), ("b", "a"): (1000, 0)}
        detail = core.detail("a", "b", "generic")
        assert detail.forward.src == detail.back.dst == "a"
        assert [row.src for row in (*detail.forward_hops, *detail.back_hops)] == ["a", "b"]
        assert core.detail("a", "nobody", "generic") is None
        why = core.explain("a", "b", "generic")
        assert (why.test.test, why.grade, len(why.hops)) == ("t1", detail.forward.grade, 2)
        assert core.explain("a", "nobody", "generic") is None
        assert core.explain("a", "b", "generic", now_us - 60_000_000) is None
        for table, count in (
            ("paths", 2),
            ("hops", 0),
            ("flows", 0),
            ("grades", 2),
            ("receipts", 0),
            ("findings", 1),
        ):
            chosen = ExportRange(since_us=now_us - 3_600_000_000, profile_named=True)
            made = core.export(table, "generic", chosen)
            assert sum(batch.num_rows for batch in made.batches) == count, table
        before = core.report("generic", at_us=now_us - 60_000_000)
        assert before.paths == []
        assert (before.missing, before.members) == ([], [])  # neither had enrolled
        assert {"pacs", "generic"} <= set(core.profiles())
        assert [(member.name, member.online) for member in core.members()] == [("a", False), ("b", False)]

    with_server(scenario)


def test_a_detail_is_made_once_with_its_sessions_too(
    with_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def counted(*pair: str, **given: Any) -> PathDetail | None:
        made.append(" ".join(pair))
        return build_detail(*pair, **given)

    monkeypatch.setattr(core_module, "build_detail", counted)

    async def scenario(site: Any) -> None:
        for src, dst in (("a", "b"), ("b", "a")):
            reply = await site.enrol(src, f"site-{src}")
            body = pack_batch(
                agent=src,
                boot="6f1c0a2b9d3e4f50",
                batch=0,
                tables={"readings": [reading(src, dst, 300, ended_us=time.time_ns() // 1000)]},
            )
            assert (await site.send(reply, body)).status_code == 200
        assert (await site.report.get("/v1/paths/a/b")).status_code == 200
        assert made == ["a b"]

    with_server(scenario)


def test_a_path_that_the_budget_put_off_says_so_and_is_not_stale(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        ended_us = time.time_ns() // 1000 - 1_500_000_000  # 25 min: stale, were it not for the budget
        for src, dst in (("a", "b"), ("b", "a")):
            reply = await site.enrol(src, f"site-{src}")
            tables = {"readings": [reading(src, dst, 300, ended_us=ended_us)]}
            body = pack_batch(agent=src, boot="6f1c0a2b9d3e4f50", batch=0, tables=tables)
            assert (await site.send(reply, body)).status_code == 200
        core, planner = site.running.core, site.running.cycles.planner
        assert [(row.put_off, row.grade.rule) for row in core.report("generic").paths] == [
            (False, "any.stale.v1")
        ] * 2
        fleet = {name: f"site-{name}" for name in "abcdef"}
        planner.take(
            planner.ask(fleet), [Choice(Pair("a", "c"), full=False), Choice(Pair("b", "d"), full=False)]
        )
        status = core.status()
        assert (status.paths_put_off, status.cycles_for_all) == (26, 8)
        assert core.detail("a", "b", "generic").forward.put_off
        assert all(row.put_off and row.grade.rule != "any.stale.v1" for row in core.report("generic").paths)

    with_server(scenario)


def test_after_a_restart_the_longest_waiting_is_still_first() -> None:
    old = reading("b", "a", 300, ended_us=10_000_000)
    new = msgspec.structs.replace(
        old, src="a", dst="b", ended_us=11_000_000, capacity_kbps=1_000, received=270
    )
    known = remembered([old, new, reading("a", "c", 300, ended_us=5_000_000)])
    assert [(pair, seen.tested_us, seen.full_us) for pair, seen in known.items()] == [
        (Pair("a", "b"), 11_000_000, 11_000_000),
        (Pair("a", "c"), 5_000_000, 0),
    ]
    assert known[Pair("a", "b")].loss_bp == 1_000
    told = (Told.of(*(getattr(one, name) for name in Told._fields)) for one in (new, old))
    assert remembered(told)[Pair("a", "b")] == known[Pair("a", "b")]


def flow(process: str, window_us: int, **changes: Any) -> Flow:
    told = {
        "tenant": "default",
        "agent": "a",
        "process": process,
        "remote_address": "198.51.100.66",
        "service_port": 443,
        "window_us": window_us,
        "window_length_us": 10_000_000,
        "opened": 20,
        "segments_sent": 2_000,
        "srtt_lasting_histogram": (bucket(200_000), 20),
    }
    return Flow(**(told | changes))


def test_flows_become_letters_of_applications(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        now_us = time.time_ns() // 1000
        reply = await site.enrol("a", "site-a")
        flows = [
            flow("curl", now_us - 20_000_000),
            flow("pathgrade", now_us - 20_000_000, segments_retransmitted=900),
            flow("old", now_us - 2 * 86_400_000_000),
        ]
        body = pack_batch(agent="a", boot="6f1c0a2b9d3e4f50", batch=0, tables={"flows": flows})
        assert (await site.send(reply, body)).status_code == 200
        core = site.running.core
        made = core.applications(By.PROCESS, but="pathgrade")
        assert [(row.process, row.grade.letter) for row in made.rows] == [("curl", Letter.D)]
        assert [letter for letter in made.rows[0].hours if letter] == [Letter.D]
        both = core.applications(By.DESTINATION).rows
        assert [(row.remote_address, row.sessions, row.grade.letter) for row in both] == [
            ("198.51.100.66", 40, Letter.F)
        ]
        assert core.applications(By.PROCESS, agent="nobody").rows == []

    with_server(scenario)


def test_what_happened_is_told_by_a_running_server(with_server: Run) -> None:
    """A path over time, two moments beside each other, and a month of a service that is signed."""

    async def scenario(site: Any) -> None:
        now_us = time.time_ns() // 1000
        sent: dict[str, list[Reading]] = {"a": [], "b": []}
        for ago in (4, 3, 2, 1):
            for src, dst in (("a", "b"), ("b", "a")):
                received = 150 if ago == 1 else 300
                ended_us = now_us - ago * 60_000_000
                sent[src].append(reading(src, dst, received, ended_us=ended_us, test=f"t{ago}"))
        for src, rows in sent.items():
            reply = await site.enrol(src, f"site-{src}")
            body = pack_batch(agent=src, boot="6f1c0a2b9d3e4f50", batch=0, tables={"readings": rows})
            assert (await site.send(reply, body)).status_code == 200
        core = site.running.core
        told = core.timeline("a", "b", "generic", since_us=now_us - 600_000_000)
        assert [us for us in told.columns.rtt_p50_us if us is not None] == [20_400] * 4
        assert max(bp for bp in told.columns.loss_bp if bp is not None) == 5_000
        came = core.compare("generic", now_us - 86_400_000_000)
        assert (came.counts["new"], came.members_new) == (2, ["a", "b"])
        service = Service(name="EHR", profile="generic", agent="a", port=443)
        month = month_of(month_at(now_us))
        assert month is not None
        report = core.sla(service, month)
        (place,) = report.workplaces
        assert place.name == "b"
        assert [one.worst for one in report.incidents] == [Letter.F]
        body = msgspec.json.encode(report)
        check_statement(body, core.signed(body), core.signing_key())
        core.file_days()

    with_server(scenario)
