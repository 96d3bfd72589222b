"""The parts that touch the machine, as far as they need no root."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from benches import machine
from benches.protocol import Ready, Told
from benches.truth import End

SCRIPTS = Path(__file__).parents[3] / "scripts"
LIMIT_S = 60


def run(*arguments: str | int | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=SCRIPTS,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_both_ends_of_every_session_tell_the_same_bytes_and_another_process():
    told = json.loads(run("benches/workload.py", 30, 4, 0.3).stdout)
    ends = {End(*end): (pid, sent, received) for end, pid, sent, received in told}
    assert len(told) == len(ends) == 68
    for end, (pid, sent, received) in ends.items():
        other = End(end.remote, end.remote_port, end.local, end.local_port)
        assert ends[other][1:] == (received, sent)
        assert ends[other][0] != pid


def test_the_workload_has_many_kinds_of_processes_and_both_families():
    told = json.loads(run("benches/workload.py", 30, 4, 0.3).stdout)
    assert len({pid for _, pid, *_ in told}) > 20
    assert {end[0] for end, *_ in told} == {"127.0.0.1", "::1"}


def test_a_watcher_tells_when_it_is_ready_and_the_rest_when_its_input_ends(tmp_path):
    done = run("-m", "benches.watcher", "ss", tmp_path, 10)
    ready, told = done.stdout.splitlines()
    assert not msgspec.json.decode(ready, type=Ready).refusal
    assert msgspec.json.decode(told, type=Told).cpu_s >= 0


def test_a_process_has_memory_of_its_own_and_cpu_time():
    own = machine.memory(os.getpid())
    assert own.resident > own.anonymous > 1
    assert machine.cpu_s(os.getpid()) > 0
    assert machine.programs(os.getpid()) == {}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["passive", "--help"], ["accuracy", "--help"], ["mesh", "--help"]]
)
def test_help_has_examples(arguments):
    assert "scripts/bench passive --json" in run("-m", "benches.main", *arguments).stdout


def test_an_unknown_bench_is_refused():
    assert run("-m", "benches.main", "actively").returncode == 2
