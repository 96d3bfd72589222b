import pytest
from benches.cells import accuracy_cells, cost_cells, load_cell, pair_cells, program_cells, program_lines
from benches.figures import Ratio
from benches.loads import Storm
from benches.machine import Memory, Runs
from benches.measures import Accuracy, Costs, Pair, Watched
from benches.protocol import Told
from benches.truth import Shares

PROGRAMS = {"set_state": Runs(10_000, 3_000_000, 0), "iter:task_file": Runs(2_000, 600_000, 4)}


def cost(told: Told, **known) -> Costs:
    unknown = {"at_rest": None, "afterwards": None, "rest_cpu_share": None, "programs": {}}
    return Costs(connections=1_000, told=told, **unknown | known)


def test_shares_are_of_both_ends():
    cells = accuracy_cells(Accuracy(Shares(ends=200, seen=200, right=150), []))
    assert cells == {"seen_share": 1.0, "right_share": 0.75}


def test_costs_are_brought_to_a_connection_or_a_hundred_thousand():
    told = Told(cpu_s=0.005, lost=0, uploaded_bytes=2_500)
    cells = cost_cells(cost(told, programs=PROGRAMS, afterwards=Memory(30.5, 15.0)))
    assert cells["cpu_s"] == pytest.approx(0.5)
    assert cells["bpf_us"] == pytest.approx(3.6)
    assert cells["bpf_ns"] == pytest.approx(300)
    assert (cells["lost"], cells["after_mb"], cells["upload_kb"]) == (0, 30.5, 2.5)


def test_what_a_watcher_does_not_have_is_not_zero():
    cells = cost_cells(cost(Told(cpu_s=0.1)))
    assert cells["lost"] is None
    assert cells["rest_mb"] is None
    assert cells["upload_kb"] is None
    assert "bpf_us" not in cells
    assert program_cells({}, 1_000) == {}


def test_what_is_lost_is_not_absent():
    assert cost_cells(cost(Told(cpu_s=0.1, lost=3)))["lost"] == 3


def test_pairs_become_a_ratio_and_those_without_a_watcher_a_spread():
    pairs = [
        Pair(Storm(100.0, 50.0), Watched(Storm(90.0, 55.0), 0.1, 7.5, 0)),
        Pair(Storm(200.0, 50.0), Watched(Storm(200.0, 50.0), 0.1, 12.5, 7)),
    ]
    cells = pair_cells("storm", {"ours": pairs}, none="none")
    assert cells["ours"]["storm_ratio"] == Ratio(0.95, 0.9, 1.0, 2)
    assert cells["ours"]["storm_cpu_us"] == 52.5
    assert cells["ours"]["storm_cpu_ratio"] == pytest.approx((0.8, 0.8, 0.8, 2))
    assert cells["ours"]["storm_lost"] == 7
    assert cells["none"]["storm_per_s"] == 150.0
    assert cells["none"]["storm_ratio"] == Ratio(1.0, 100 / 150, 200 / 150, 2)


def test_loading_is_told_by_its_median_where_there_is_any():
    storm = Storm(100.0, 50.0)
    assert load_cell([Pair(storm, Watched(storm, load_s, 0.0, 0)) for load_s in (0.1, 0.3, 0.2)]) == 0.2
    assert load_cell([Pair(storm, Watched(storm, None, 0.0, None))]) is None


def test_programs_are_told_the_costliest_first_and_what_was_left_out():
    assert program_lines(PROGRAMS, 1_000).splitlines() == [
        "  set_state                   10.00 runs x    300 ns =  3.00 us",
        "  iter:task_file               2.00 runs x    300 ns =  0.60 us  4 left out",
    ]
