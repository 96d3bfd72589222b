"""What people ask for: a test on demand while the server's own cycle runs, and a pair that is marked."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from lab import cables, net, product
from lab.network import open_lab
from lab.product import pathgrade
from lab.report import Reader

from tests.stopwatch import waited_s

pytestmark = pytest.mark.lab

SCENARIO = Path(__file__).parent / "two_sites.toml"
NAME = f"d{os.getpid()}"
CYCLES_PLAN = (
    '{"probes": 150, "hop_rounds": 3}'  # shorter than usual, but in every part; no test on demand is as long
)
PARTS = ("server", "east-1", "open-1")
ANSWER_S = 3.0
RUNS = 5
PAIR = ("east-1", "open-1")
ASKED_S, AT_MOST_S = 60, 150  # what scripts/bench detect judges; and what a busy machine may take
TRIES = 3  # of a run, where the machine is shown to have been late
LATE_S = 0.25


@pytest.fixture(scope="module")
def lab():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATHGRADE_PLAN", CYCLES_PLAN)
        yield from lab_with_a_cycle()


def lab_with_a_cycle():
    lab = open_lab(SCENARIO, NAME, report=True)
    try:
        product.start_turn(lab)
        product.start_server(lab)
        product.start_agents(lab)
        lab.begin()
        reader = Reader(lab.url)
        lab.parts.wait_until(
            lambda: (reader.status() or {}).get("cycle_running", False), what="a cycle starts", at_most_s=60
        )
        yield lab
    finally:
        lab.down()
    assert [name for name in net.existing() if name.startswith(f"pg-{NAME}-")] == []


def asked(lab, *words):
    """Run the command; what it printed, and how long a person waited."""
    command = [pathgrade(), "mesh", *words, "--url", lab.url, "--json"]
    env = product.with_token(lab)
    began_s = time.monotonic()
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout), time.monotonic() - began_s


def late_s(lab):
    """How long the parts of a test on demand have waited for a CPU so far, all together."""
    return sum(waited_s(lab.parts.running[name].process.pid) for name in PARTS)


def answered_s(lab):
    """From the order until both ends had told, by the server's clock. What a person waits, the bench says.

    A run that took too long while the machine kept its parts waiting is made once more, and counted.
    """
    for left in reversed(range(TRIES)):
        before_s = late_s(lab)
        assert Reader(lab.url).status()["cycle_running"]
        run, person_s = asked(lab, "run", "east-1", "open-1")
        assert [(result["rung"], result["error"]) for result in run["results"]] == [("srflx", "")] * 2
        # 10 + 5 + 3 + 2 ms of cables, and 7 ms of the fault that the scenario has.
        assert all(20_000 <= result["rtt_p50_us"] <= 29_000 for result in run["results"])
        took_s, machine_s = (run["ended_us"] - run["started_us"]) / 1e6, late_s(lab) - before_s
        print(f"on demand: {took_s:.2f} s, a person {person_s:.2f} s; waited for a CPU {machine_s:.2f} s")  # noqa: T201  # the figure asked for
        if not left or took_s <= ANSWER_S or machine_s < LATE_S:
            return took_s


def test_a_punched_pair_answers_within_three_seconds_in_the_middle_of_a_cycle(lab):
    assert max(answered_s(lab) for _ in range(RUNS)) <= ANSWER_S


def test_all_pairs_are_tested_and_the_cycle_goes_on_to_its_end(lab):
    run, person_s = asked(lab, "run", "--all")
    assert (run["pairs"], len(run["results"])) == (6, 12)
    assert [result for result in run["results"] if result["rung"] == "none"] == []
    print(f"\nsix pairs on demand, two of them relayed: {person_s:.2f} s")  # noqa: T201  # as above
    reader = Reader(lab.url)
    lab.parts.wait_until(
        lambda: not reader.status()["cycle_running"], what="the cycle ends", at_most_s=300, look_every_s=0.5
    )
    log = (lab.folder / "server.log").read_text()
    assert "skipped=0" in log
    assert "Traceback" not in log
    tested = {(row["src"], row["dst"]): row for row in reader.report("generic")["paths"]}
    assert len(tested) == 12
    assert (
        tested["east-1", "open-1"]["capacity_kbps"] is not None
    )  # the cycle's own test, in full, came again


def test_hops_make_a_report_of_rounds_of_their_own(lab):
    command = [pathgrade(), "hops", *PAIR, "--report", "--rounds", "3", "--every", "5", "--json"]
    env = product.with_token(lab)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    forward, back = told["forward_hops"], told["back_hops"]
    assert forward[0]["address"] == "192.168.1.1"
    assert forward[-1]["is_end"] == 1
    for hops in (forward, back):
        assert hops[-1]["sent"] >= 3  # one probe to each hop in each round
        assert 20_000 <= hops[-1]["rtt_min_us"] <= hops[-1]["rtt_p50_us"] <= 29_000


def test_a_marked_pair_shows_another_letter_soon_after_its_leg_became_slower(lab):
    asked(lab, "mark", "east-1", "open-1")
    reader = Reader(lab.url)

    def row():
        return next(row for row in reader.report("generic")["paths"] if (row["src"], row["dst"]) == PAIR)

    lab.parts.wait_until(lambda: row()["watched"], what="the pair is watched", at_most_s=60, look_every_s=0.2)
    before = row()
    assert before["grade"]["letter"] == "A"
    began_s, began_us = time.monotonic(), time.time_ns() // 1000
    cables.change(lab.folder, "east-uplink", {"up.delay_us": 100_000})
    lab.parts.wait_until(
        lambda: row()["grade"]["letter"] != "A",
        what="the letter changes",
        at_most_s=AT_MOST_S,
        look_every_s=0.2,
    )
    took_s = time.monotonic() - began_s
    print(f"\n90 ms more: another letter after {took_s:.1f} s; {ASKED_S} s asked")  # noqa: T201  # as above
    after = row()
    assert 110_000 <= after["rtt_p50_us"] <= 120_000
    assert began_us < after["letter_since_us"] < time.time_ns() // 1000
    assert after["capacity_kbps"] is not None  # of the test in full, although the latest ones were light
    assert after["legs"]
    status = reader.status()
    assert (status["paths_watched"], status["paths_not_watched"]) == (2, 0)
