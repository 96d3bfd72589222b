"""``/v1/mesh`` of a real server: whom it lets in, what it starts, what it keeps."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.identity import create
from analytics import wire
from analytics.measurement import Rung
from server.app import serving
from server.settings import Settings
from tests.unit.server.enrolling import Member
from tests.unit.server.test_signalling import connected, hear, say

Run = Callable[[Callable[[Any], Any]], None]
ROOT = Path(__file__).parents[3]
A, B = create("a"), create("b")
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A server whose own cycle does not begin meanwhile."""
    return settings.model_copy(update={"settle_s": 50.0})


async def post(site: Any, path: str, body: Any, **headers: str) -> httpx.Response:
    return await site.report.post(f"/v1/mesh/{path}", content=json.dumps(body), headers={**JSON, **headers})


async def both(site: Any) -> tuple[Member, Member]:
    a = await site.enrol("a", "s1", identity=A)
    b = await site.enrol("b", "s2", identity=B)
    return a, b


def test_a_pair_is_tested_and_its_results_are_told(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        of_a, of_b = await both(site)
        async with connected(site, of_a) as a, connected(site, of_b) as b:
            answer = await post(site, "runs", {"src": "b", "dst": "a"})
            assert answer.status_code == 202
            run = answer.json()
            assert (run["pairs"], run["pairs_ended"], run["ended_us"]) == (1, 0, None)
            first, second = await hear(a), await hear(b)
            assert isinstance(first, wire.TestOrder)
            assert isinstance(second, wire.TestOrder)
            assert first.plan.trains == 0
            again = await post(site, "runs", {"src": "a", "dst": "b"})
            assert again.status_code == 409
            for socket, rtt_us in ((a, 700), (b, 800)):
                told = {"rtt_p50_us": rtt_us, "loss_bp": 0}
                await say(socket, wire.TestEnded(test=first.test, rung=Rung.LAN, **told))
            while run["ended_us"] is None:
                run = (await site.report.get(f"/v1/mesh/runs/{run['id']}")).json()
            assert {(r["src"], r["dst"], r["rtt_p50_us"]) for r in run["results"]} == {
                ("a", "b", 700),
                ("b", "a", 800),
            }
            assert (await site.report.get(f"/v1/mesh/runs/{run['id']}?since=1")).json()["results"] == run[
                "results"
            ][1:]
        rows: set[tuple[str, str]] = set()
        while ("run", "b a") not in rows:  # they are written twice a second
            rows = {(row["action"], row["subject"]) for row in (await site.report.get("/v1/audit")).json()}

    with_server(scenario)


def test_all_means_all_that_are_online(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        of_a, of_b = await both(site)
        c = await site.enrol("c", "s3")
        d = await site.enrol("d", "s4")
        async with (
            connected(site, of_a),
            connected(site, of_b),
            connected(site, c, mesh=False),
        ):
            assert d
            assert (await post(site, "runs", {"all": True})).json()["pairs"] == 1
        lonely = await post(site, "runs", {"all": True})
        assert lonely.status_code == 409

    with_server(scenario)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, 409),
        ({"src": "a"}, 409),
        ({"src": "a", "dst": "a"}, 409),
        ({"src": "a", "dst": "nobody"}, 409),
        ({"src": "A B", "dst": "a"}, 422),
        ({"src": "a", "dst": "b", "now": True}, 422),
        ([], 422),
    ],
)
def test_what_cannot_be_run_is_one_problem(with_server: Run, body: Any, expected: int) -> None:
    async def scenario(site: Any) -> None:
        answer = await post(site, "runs", body)
        assert answer.status_code == expected
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["title"]

    with_server(scenario)


def test_a_page_of_another_site_cannot_make_a_browser_start_tests(with_server: Run) -> None:
    """Without a preflight a browser sends only three content types; with a rebound name, another Host."""

    async def scenario(site: Any) -> None:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            answer = await post(site, "runs", {"all": True}, **{"Content-Type": kind})
            assert answer.status_code == 415
        unknown = await post(site, "runs", {"all": True}, Authorization="")
        assert unknown.status_code == 401
        assert "access-token" in unknown.json()["remedy"]
        large = await post(site, "marks", {"agent": "a" * 5_000})
        assert large.status_code == 413

    with_server(scenario)


def test_a_run_that_is_not_there_is_404(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        assert (await site.report.get("/v1/mesh/runs/nope")).status_code == 404
        assert (await site.report.get("/v1/mesh/runs/nope?since=-1")).status_code == 422

    with_server(scenario)


def test_marks_are_kept_over_a_restart(with_server: Run, settings: Settings) -> None:
    async def scenario(site: Any) -> None:
        await both(site)
        assert (await site.report.get("/v1/mesh/marks")).json() == []
        await post(site, "marks", {"agent": "b"})
        marked = (await post(site, "marks", {"agent": "b", "peer": "a"})).json()
        assert [(mark["agent"], mark["peer"]) for mark in marked] == [("a", "b"), ("b", None)]
        assert site.running.cycles.planner.important == {("a", "b"), "b"}
        unmarked = (await post(site, "marks", {"agent": "b", "important": False})).json()
        assert [(mark["agent"], mark["peer"]) for mark in unmarked] == [("a", "b")]
        assert (await post(site, "marks", {"agent": "nobody"})).status_code == 409
        assert (await post(site, "marks", {"agent": "a", "peer": "a"})).status_code == 409

    with_server(scenario)

    async def restarted() -> None:
        async with serving(settings) as running:
            assert running.cycles.planner.important == {("a", "b")}

    asyncio.run(restarted())


def test_the_command_runs_marks_and_says_no(with_server: Run) -> None:
    async def pathgrade(site: Any, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pathgrade", "mesh", *words, "--url", str(site.report.base_url)]
        env = {**os.environ, "PATHGRADE_TOKEN": site.token}
        return await asyncio.to_thread(
            subprocess.run,
            command,
            env=env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    async def scenario(site: Any) -> None:
        of_a, of_b = await both(site)
        async with connected(site, of_a) as a, connected(site, of_b) as b:
            running = asyncio.create_task(pathgrade(site, "run", "a", "b"))
            test = (await hear(a)).test
            await say(a, wire.TestEnded(test=test, rung=Rung.SRFLX, rtt_p50_us=41_000, loss_bp=100))
            await say(b, wire.TestEnded(test=test, rung=Rung.NONE, error="the peer went away"))
            done = await running
            lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
            assert done.returncode == 0, done.stderr
            assert lines[1].startswith("b → a no way through ")
            assert lines[1].endswith(" the peer went away")
            assert lines[2].startswith("a → b direct · NAT 41")
            assert lines[3].startswith("1 of 2 directed paths reached in ")
        marked = await pathgrade(site, "mark", "b", "--json")
        assert json.loads(marked.stdout) == [{"agent": "b", "peer": None, "important": True}]
        assert (await pathgrade(site, "mark")).stdout.strip() == "b → everyone, both ways"
        for wrong in (["run"], ["run", "a"], ["run", "a", "b", "--all"]):
            assert (await pathgrade(site, *wrong)).returncode == 2
        refused = await pathgrade(site, "run", "a", "b")
        assert refused.returncode == 65
        assert refused.stderr.startswith("error: 'a' is not online")

    with_server(scenario)
