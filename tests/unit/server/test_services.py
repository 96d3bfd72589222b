"""Services of a real server: what is offered and tagged, and that their sessions count in the report."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from agent.identity import create
from analytics import wire
from analytics.batch import pack_batch
from analytics.histogram import bucket
from analytics.measurement import CapacityTrust, Direction, Flow, Reading
from analytics.wire import ServiceOffer
from server.pages.explained import sections
from server.state import State, create_token
from tests.unit.server.enrolling import enrolment
from tests.unit.server.test_core import reading
from tests.unit.server.test_signalling import hear, raw, say

Run = Callable[[Callable[[Any], Any]], None]
ROOT = Path(__file__).parents[3]
JSON = {"Content-Type": "application/json"}
A, B = create("a"), create("b")


async def tag(site: Any, **body: Any) -> httpx.Response:
    return await site.report.post("/v1/services", content=json.dumps(body), headers=JSON)


async def services(site: Any) -> list[tuple[str, int, str, str]]:
    found = (await site.report.get("/v1/services")).json()
    return [(one["agent"], one["port"], one["name"], one["profile"]) for one in found]


async def offering(site: Any, name: str, *offers: ServiceOffer) -> None:
    """Enrol an agent that offers services."""
    token = await asyncio.to_thread(create_token, site.settings.data, 1, 60)
    asked = {**enrolment(token, name, "here"), "services": [msgspec.structs.asdict(one) for one in offers]}
    answer = await site.agents.post("/v1/enrol", json=asked)
    assert answer.status_code == 200, answer.text


def test_a_tag_stands_beside_offers_and_in_place_of_one(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await offering(site, "pacs", ServiceOffer(name="PACS", profile="pacs", port=4242))
        assert await services(site) == [("pacs", 4242, "PACS", "pacs")]
        answer = await tag(site, agent="pacs", port=8042, name="DICOMweb", profile="pacs")
        assert answer.status_code == 200
        assert await services(site) == [("pacs", 4242, "PACS", "pacs"), ("pacs", 8042, "DICOMweb", "pacs")]
        await tag(site, agent="pacs", port=4242, name="RIS", profile="ehr")
        assert (await services(site))[0] == ("pacs", 4242, "RIS", "ehr")
        (member,) = site.running.core.members()
        assert {service.name for service in member.services} == {"RIS", "DICOMweb"}
        await tag(site, agent="pacs", port=4242)  # the offer is back
        await tag(site, agent="pacs", port=8042)
        assert await services(site) == [("pacs", 4242, "PACS", "pacs")]
        await asyncio.sleep(0.6)  # audit rows are written twice a second
        rows = (await site.report.get("/v1/audit")).json()
        assert ("tag", "pacs 8042", "service=DICOMweb") in {
            (row["action"], row["subject"], row["detail"]) for row in rows
        }

    with_server(scenario)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"agent": "nobody", "port": 1, "name": "X"}, 409, "no agent is called 'nobody'"),
        ({"agent": "a", "port": 1, "name": "X", "profile": "pax"}, 409, "no profile is called 'pax'"),
        ({"agent": "a", "port": 0, "name": "X"}, 422, "port"),
        ({"agent": "a", "port": 1, "name": "X", "host": "y"}, 422, "host"),
    ],
)
def test_what_cannot_be_tagged_is_refused(
    with_server: Run, body: dict[str, Any], status: int, says: str
) -> None:
    async def scenario(site: Any) -> None:
        await site.enrol("a")
        answer = await tag(site, **body)
        assert (answer.status_code, says in answer.text) == (status, True)
        assert await services(site) == []

    with_server(scenario)


def test_the_command_tags_and_lists(with_server: Run) -> None:
    def pathgrade(site: Any, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pathgrade", "services", *words, "--url", f"http://{site.running.report}"],
            cwd=ROOT,
            env={**os.environ, "PATHGRADE_TOKEN": site.token},
            capture_output=True,
            text=True,
            timeout=25,
            check=False,
        )

    async def scenario(site: Any) -> None:
        await site.enrol("pacs")
        done = await asyncio.to_thread(pathgrade, site, "tag", "pacs", "8042", "DICOMweb", "--for", "pacs")
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [
            "service",
            "agent",
            "port",
            "profile",
            "DICOMweb",
            "pacs",
            "8042",
            "pacs",
        ]
        done = await asyncio.to_thread(pathgrade, site, "tag", "pacs", "8042", "X", "--for", "pax")
        assert (done.returncode, "no profile is called 'pax'" in done.stderr) == (65, True)
        done = await asyncio.to_thread(pathgrade, site, "--json")
        assert json.loads(done.stdout) == [
            {"name": "DICOMweb", "profile": "pacs", "agent": "pacs", "port": 8042, "tagged": True}
        ]

    with_server(scenario)


def test_tags_outlive_the_server(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    state.tag("default", "pacs", 8042, ServiceOffer(name="DICOMweb", profile="pacs", port=8042))
    state.close()
    again = State.open(tmp_path)
    assert again.services("default") == {"pacs": [ServiceOffer(name="DICOMweb", profile="pacs", port=8042)]}
    again.close()


def measured(src: str, dst: str, now_us: int) -> Reading:
    percentiles = {f"rtt_p{part}_us": 20_400 for part in (25, 50, 75, 90, 95, 99)}
    return msgspec.structs.replace(
        reading(src, dst, 300, ended_us=now_us),
        **percentiles,
        capacity_kbps=100_000,
        capacity_trust=CapacityTrust.MEASURED,
    )


def sessions(agent: str, remote: str, direction: Direction, now_us: int, **changes: Any) -> Flow:
    base = Flow(
        tenant="default",
        agent=agent,
        window_us=now_us - 20_000_000,
        window_length_us=10_000_000,
        process="Orthanc",
        direction=direction,
        remote_address=remote,
        service_port=8042,
        opened=1,
        segments_sent=9_000,
        segments_retransmitted=90,
        bytes_sent=13_000_000,
        busy_us=3_000_000,
        rwnd_limited_us=2_400_000,
        rtt_min_us=20_000,
        srtt_us=21_000,
        srtt_lasting_histogram=(bucket(21_000), 12),
        congestion="bbr",
    )
    return msgspec.structs.replace(base, **changes)


def test_sessions_of_a_tagged_service_count_in_the_report(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        now_us = time.time_ns() // 1000
        enrolled = {name: await site.enrol(name, "here", identity=key) for name, key in (("a", A), ("b", B))}
        tables = {
            "a": {
                "readings": [measured("a", "b", now_us)],
                "flows": [sessions("a", "::ffff:10.0.0.2", Direction.IN, now_us)],
            },
            "b": {"readings": [measured("b", "a", now_us)]},
        }
        for name, rows in tables.items():
            body = pack_batch(agent=name, boot="6f1c0a2b9d3e4f50", batch=0, tables=rows)
            assert (await site.send(enrolled[name], body)).status_code == 200
        core = site.running.core
        async with raw(site, enrolled["b"]) as socket:
            await say(socket, wire.Hello(version="1", boot="b", mesh=False, addresses=["10.0.0.2"]))
            assert isinstance(await hear(socket), wire.Welcome)
            assert [member.addresses for member in core.members()] == [[], ["10.0.0.2"]]
            before = {(row.src, row.dst): row for row in core.report("pacs").paths}
            assert all(row.fused is None for row in before.values())
            await tag(site, agent="a", port=8042, name="DICOMweb", profile="pacs")
            report = core.report("pacs")
            row = next(one for one in report.paths if (one.src, one.dst) == ("a", "b"))
            assert row.fused is not None
            assert row.fused.active == before["a", "b"].grade
            assert row.fused.passive == ["round trip", "loss"]
            assert row.fused.congestion == "bbr"
            assert row.fused.held_up is not None
            assert (row.fused.held_up.rule, row.fused.held_up.whose) == ("path.peer-window.v1", "b")
            told = (await site.report.get("/v1/paths/a/b?profile=pacs")).json()["forward"]["fused"]
            assert [number["origin"] for number in told["numbers"]] == ["passive", "passive", "active"]
            derivation = core.explain("a", "b", "pacs")
            assert derivation.fused == row.fused
            (section,) = [one for one in sections(derivation) if one.title == "What the sessions said"]
            assert section.rule == "fusion.passive.v1"
            assert section.lines[0][1].startswith("Sessions of DICOMweb, last ")
            page = (await site.report.get("/paths/a/b?profile=pacs")).text
            assert "own sessions say" in page
            assert "Sessions of DICOMweb" in page
            assert "loss 1.0 % (by sessions, n 9,000)" in page
            assert "The wait is not the network&#39;s" in page
            earlier = core.report("pacs", at_us=now_us - 3_600_000_000)
            assert earlier.paths == []

    with_server(scenario)
