import pytest
from benches.figures import missed
from benches.mesh_table import (
    COLUMN,
    FIGURES,
    MESH_AGENTS,
    Measured,
    cells,
    extrapolated,
    figures,
    more,
    row,
)

from analytics.wire import ProbePlan
from server.budget import cost_of, depths

LIGHT_S = cost_of(depths(ProbePlan()).light).cpu_us / 1e6


def measured(**known) -> Measured:
    values = {
        "agents": 100,
        "passive": 10,
        "results": 9_900,
        "reached": 9_900,
        "skipped": 0,
        "wall_s": 300.0,
        "agent_cpu_s": 99 * LIGHT_S + 0.3,
        "agent_rest_share": 0.001,
        "agent_rss_mb": 61.0,
        "agent_bare_rss_mb": 55.0,
        "agent_own_mb": 33.0,
        "server_cpu_s": 40.0,
        "server_rest_share": 0.01,
        "server_rss_mb": 300.0,
        "pair_s": [1.9, 2.0, 2.6],
        "mesh_agents": MESH_AGENTS,
        "mesh_pairs": 1_225,
        "mesh_s": 60.0,
        "mesh_failed": 0,
    }
    return Measured(**values | known)


def missed_of(one: Measured) -> list[str]:
    return missed(figures(one.agents), {COLUMN: cells(one)}, judged=COLUMN, quick=False)


def test_a_test_costs_what_is_above_the_rest():
    assert measured().test_cpu_s == pytest.approx(LIGHT_S)
    assert measured().server_test_cpu_s == pytest.approx((40 - 3) / 4_950)


def test_a_good_run_misses_nothing_and_each_target_can_be_missed():
    assert missed_of(measured()) == []
    for bad in (
        {"results": 9_899},
        {"reached": 9_899},
        {"agent_rss_mb": 64.1},
        {"agent_rest_share": 0.0025},
        {"pair_s": [1.0, 3.1, 1.0]},
        {"mesh_s": 90.5},
        {"mesh_failed": 1},
    ):
        assert missed_of(measured(**bad)), bad


def test_fewer_than_fifty_agents_are_not_judged_by_their_mesh():
    assert [figure.key for figure in figures(49) if figure.target] == [
        figure.key for figure in FIGURES if figure.target and figure.key != "mesh_s"
    ]


def test_the_budget_bounds_every_fleet_and_a_large_one_waits_longer():
    small, large = row(10, measured()), row(1_000, measured())
    assert (small.full_share, small.all_in_s) == (1.0, 300)
    assert large.full_share == 0
    assert large.all_in_s > 300
    assert max(small.cpu_share, large.cpu_share) <= 0.008 + 0.001 + 1e-9


def test_a_dearer_machine_tests_less_and_not_for_more():
    dear = measured(agent_cpu_s=99 * 2 * LIGHT_S + 0.3)
    assert row(1_000, dear).tests < row(1_000, measured()).tests
    assert row(1_000, dear).cpu_share <= 0.009 + 1e-9


def test_all_of_it_is_told():
    text = extrapolated(measured())
    assert "1,000" in text
    assert "assumed:" in text
    assert more(measured())["measured"]["results"] == 9_900
