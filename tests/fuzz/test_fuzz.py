"""Every fuzz target with its kept inputs and some mutations of them, in plain Python: the short run.

``scripts/fuzz`` is the long one, guided by coverage.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest
from fuzzing import targets
from fuzzing.campaign import Limit, Outcome, read, table
from fuzzing.main import main
from fuzzing.mutate import mutants
from shaped import Taken, clean_up

MOST_KEPT = 200_000
"""Bytes of all corpora together."""


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)
    clean_up()


@pytest.mark.parametrize("name", targets.names())
def test_nothing_but_declared_errors_comes_out(name: str) -> None:
    target = targets.load(name)
    kept = target.kept()
    inputs = [*kept, *mutants(kept, target.short_runs, draw=random.Random(name))]
    for data in inputs:
        try:
            target.run(data)
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}\nfor {name} fed with {data!r}")


@pytest.mark.parametrize("name", targets.names())
def test_a_target_takes_some_of_its_kept_inputs_and_says_what_it_is(name: str) -> None:
    target = targets.load(name)
    assert target.about.endswith((".", ":", ")")) or target.about
    assert any(target.run(data) for data in target.kept()), "no kept input reaches the end of the parser"


def test_the_corpora_stay_small() -> None:
    files = [path for path in targets.CORPUS.glob("*/*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_KEPT
    assert {path.parent.name for path in files} == set(targets.names())


def test_mutations_are_the_same_each_time_and_not_the_seed() -> None:
    made = [list(mutants([b"a seed"], 50, draw=random.Random(7))) for _ in range(2)]
    assert made[0] == made[1]
    assert len(set(made[0])) > 40


def test_fields_are_taken_off_the_front_and_are_zero_after_the_end() -> None:
    taken = Taken(b"\5\1\2xyrest")
    assert (taken.number(0, 9), taken.flag(), taken.some()) == (5, True, b"xy")
    assert (taken.rest(), taken.byte(), taken.some(), taken.number(3, 4)) == (b"rest", 0, b"", 3)


SAID = """INFO: seed corpus: files: 3
#4\tINITED cov: 10 ft: 11 corp: 3/40b exec/s: 0 rss: 47Mb
#999\tNEW    cov: 14 ft: 20 corp: 4/50b lim: 6 exec/s: 0 rss: 47Mb L: 6/6 MS: 1 x-
"""
CRASHED = """
 === Uncaught Python exception: ===
ValueError: no such thing
==1== ERROR: libFuzzer: fuzz target exited
artifact_prefix='.fuzz/'; Test unit written to .fuzz/crashes/x-crash-1
"""


def test_what_libfuzzer_says_is_read() -> None:
    good = read("x", SAID + "stat::number_of_executed_units: 1000\n", seconds=2.0, failed=False)
    assert good == Outcome(target="x", executions=1000, seconds=2.0, coverage_before=10, coverage=14)
    bad = read("x", SAID + CRASHED, seconds=2.0, failed=True)
    assert (bad.executions, bad.crash, bad.why) == (
        999,
        ".fuzz/crashes/x-crash-1",
        "ValueError: no such thing",
    )
    assert "1,000" in table([good, bad])
    assert "ValueError: no such thing" in table([good, bad])


def test_a_run_ends_after_seconds_or_executions() -> None:
    assert list(Limit(seconds=0.2, runs=5).arguments()) == ["-max_total_time=1", "-runs=5"]


def test_one_input_is_fed_again(tmp_path, capsys) -> None:
    (tmp_path / "input").write_bytes(targets.load("keys").kept()[0])
    assert main(["keys", "--replay", str(tmp_path / "input")]) == 0
    assert capsys.readouterr().out == "taken\n"
    (tmp_path / "input").write_bytes(b"\0none")
    assert main(["keys", "--replay", str(tmp_path / "input")]) == 0
    assert "declared" in capsys.readouterr().out
    assert main(["no-such"]) == 64
