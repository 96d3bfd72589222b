from typing import NamedTuple

import pytest
from benches import accuracy
from benches.accuracy import FIGURES, HEADINGS, JUDGED, TO_BEST, loss_cells, spread_cells, to_best
from benches.accuracy_measures import Loss, Spread, capacity_off, leg_off, spread
from benches.errors import PartError
from benches.figures import Factor, missed, table
from benches.meters import Compared, Met, OneWay

GOOD = {figure.key: figure.target.limit for figure in FIGURES if figure.target}


def test_every_figure_has_a_name_of_its_own_and_the_issue_its_limits():
    assert len({figure.key for figure in FIGURES}) == len(FIGURES)
    limits = {
        key: GOOD[key] for key in ("quiet_p99", "busy_p99", "capacity_1000000", "sent_kb", "hops_least")
    }
    assert limits == {
        "quiet_p99": 20, "busy_p99": 50, "capacity_1000000": 0.05, "sent_kb": 250, "hops_least": 0.3,
    }  # fmt: skip


def test_what_reaches_all_limits_misses_nothing_and_each_limit_can_be_missed():
    cells = {JUDGED: GOOD}
    assert missed(FIGURES, cells, judged=JUDGED, quick=False) == []
    for key, limit in GOOD.items():
        words = missed(FIGURES, {JUDGED: GOOD | {key: limit + 0.01}}, judged=JUDGED, quick=False)
        assert len(words) == 1


def test_without_a_peer_to_compare_with_nothing_is_better_than_a_peer():
    assert missed(FIGURES, {JUDGED: GOOD | {"busy_to_best": None}}, judged=JUDGED, quick=False)


def test_a_spread_is_of_errors_either_way_and_of_the_truth():
    compared = [Compared(1_000_000 + error, 1_000_000) for error in range(-50_000, 50_000, 1_000)]
    found = spread(Met(compared, sent=200))
    assert (found.error_p50, found.error_p99) == (25.0, 49.0)
    assert found.p99_off == 48.0
    assert (found.true_p50, found.used_share) == (1000.0, 0.5)


def test_no_round_trip_is_an_error_not_a_good_one():
    with pytest.raises(PartError):
        spread(Met([], sent=5))


def test_the_worse_end_is_told():
    cells = spread_cells("busy", [Spread(1, 9, 3, 400, 1.0), Spread(2, 8, 4, 410, 0.9)])
    assert cells == {
        "busy_p99": 9, "busy_p50": 2, "busy_p99_off": 4, "busy_true": 410, "busy_used": 0.9,
    }  # fmt: skip


def test_a_loss_is_compared_with_the_wires_own_count():
    found = Loss(OneWay(4_000, 4), OneWay(1_000, 0), 5_000, 5)
    assert loss_cells(1_000, found) == {"loss_1000_told": 0.001, "loss_1000_true": 0.001, "loss_1000_off": 0}
    assert Loss(OneWay(4_000, 20), OneWay(1_000, 0), 5_000, 5).off > 1


def test_the_best_peer_is_the_one_with_the_least_error_of_those_that_run():
    cells = {
        JUDGED: {"busy_p99": 10.0, "quiet_p99": 5.0},
        "ping": {"busy_p99": 50.0, "quiet_p99": "not installed"},
        "irtt": {"busy_p99": 5_000.0, "quiet_p99": "not installed"},
        "sockperf": {"busy_p99": "no", "quiet_p99": "no"},
    }
    assert to_best(cells) == {"busy_p99": Factor(0.2)}


def test_the_table_has_a_column_for_how_many_times_the_best_peers_figure():
    cells = {column: {} for column in HEADINGS} | {JUDGED: GOOD, TO_BEST: {"busy_p99": Factor(0.2)}}
    lines = table(FIGURES, cells, HEADINGS, judged=JUDGED, quick=False).splitlines()
    assert lines[0].split("  ")[-1] == "target (pathgrade)"
    assert "0.20 x  <= 50.0 us  met" in lines[2]
    assert len(lines) == len(FIGURES) + 1


def test_capacity_is_judged_by_the_median_of_the_worse_direction():
    middle, worst = capacity_off([[100_000, 101_000, 150_000], [97_000, 98_000, 98_500]], 100_000)
    assert middle == pytest.approx(0.02)
    assert worst == pytest.approx(0.5)


def test_a_capacity_that_was_not_told_is_none_not_a_good_one():
    assert capacity_off([[100_000, None], [100_000, 100_000]], 100_000) == (None, None)


class Hop(NamedTuple):
    rtt_min_us: int | None


@pytest.mark.parametrize(
    ("rtts", "worst"), [([10, 2_010, 10_110, 10_130], 100), ([0, 2_000, 10_000, 10_000], 0)]
)
def test_legs_are_differences_of_successive_hops(rtts, worst):
    assert leg_off([Hop(rtt) for rtt in rtts], [0, 2_000, 8_000, 0], "rtt_min_us") == worst


@pytest.mark.parametrize("rtts", [[10, None, 30, 40], [10, 20, 30]])
def test_a_hop_that_is_missing_is_an_error(rtts):
    with pytest.raises(PartError, match="3 hops answered of 4"):
        leg_off([Hop(rtt) for rtt in rtts], [0, 1, 2, 3], "rtt_min_us")


def test_a_peer_that_fails_keeps_its_other_figures_and_its_reason(tmp_path):
    run = accuracy._Run(accuracy.QUICK, tmp_path, print)
    run.cells["irtt"]["quiet_p99"] = 4.0

    def fails():
        raise PartError("it ended", remedy="")

    run._of_peer("irtt", fails)
    run._of_peer("irtt", lambda: {"busy_p99": 1.0})
    assert run.cells["irtt"]["quiet_p99"] == 4.0
    assert run.cells["irtt"]["busy_p99"] == "it ended"
