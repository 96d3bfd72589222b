"""``pathgrade hops --deep``: what it takes, refuses and shows; the traces themselves are in tests/lab."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from agent.deep import NOTHING, Deep, resolve, routers_before_end, shown
from agent.errors import DeepError
from agent.mesh.route import FanHop
from tests.unit.mesh.test_treatment import TCP, trace

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("127.0.0.1", ("127.0.0.1", 443)),
        ("127.0.0.1:11112", ("127.0.0.1", 11112)),
        ("localhost:1", ("127.0.0.1", 1)),
    ],
)
def test_host_and_port(target: str, found: tuple[str, int]) -> None:
    assert resolve(target) == found


@pytest.mark.parametrize("target", ["", ":443", "host:", "host:0", "host:65536", "host:http", "::1"])
def test_what_is_no_host_and_port_is_refused(target: str) -> None:
    with pytest.raises(DeepError) as caught:
        resolve(target)
    assert caught.value.remedy


def test_flows_stop_short_of_the_end() -> None:
    stuck = trace("udp", "10.0.0.1", "10.0.1.1", end=False)
    assert routers_before_end([TCP, stuck]) == 3
    assert routers_before_end([stuck]) == 2
    assert routers_before_end([trace("udp")]) == 0


def test_traces_stand_side_by_side() -> None:
    made = Deep(
        address="192.0.2.10",
        port=443,
        traces=[TCP, trace("udp", "10.0.0.1", "", "10.0.9.1", end=False)],
        differences=["UDP gets as far as hop 3."],
        flows=16,
        fan=[FanHop(1, (("10.0.0.1", 16),), 0), FanHop(2, (("10.0.1.1", 9), ("10.0.2.1", 6)), 1)],
    )
    console = Console(width=120, highlight=False)
    with console.capture() as capture:
        console.print(shown(made))
    said = [" ".join(line.split()) for line in capture.get().splitlines()]
    assert said[0] == "192.0.2.10 port 443"
    assert said[3] == f"2 10.0.1.1 {NOTHING} no answer {NOTHING}"
    assert said[5] == f"4 192.0.2.10 open {NOTHING}"
    assert said[6] == "UDP gets as far as hop 3."
    assert said[-1] == "hop 2: 10.0.1.1 (9), 10.0.2.1 (6); 1 without an answer"


def pathgrade(*arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    words = [*before, sys.executable, "-m", "pathgrade", *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_without_the_capability_it_says_what_to_do() -> None:
    # Root keeps its uid, so that it can still read this tree, and loses every capability.
    before = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all") if os.geteuid() == 0 else ()
    done = pathgrade("hops", "--deep", "127.0.0.1", before=before)
    assert done.returncode == 77
    assert "needs CAP_NET_RAW" in done.stderr
    assert "  try: run it as root" in done.stderr


@pytest.mark.parametrize("arguments", [("hops",), ("hops", "a"), ("hops", "a", "b", "--deep", "127.0.0.1")])
def test_one_or_the_other(arguments: tuple[str, ...]) -> None:
    assert pathgrade(*arguments).returncode == 2
