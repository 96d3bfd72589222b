import pytest
from benches.figures import (
    Figure,
    Ratio,
    Target,
    missed,
    notes,
    number,
    percent,
    ratio,
    spread,
    table,
)

SHARE = Figure("share", "sessions seen", percent, Target(1.0, at_least=True, timed=False))
RATIO = Figure("ratio", "throughput", number(3, ""), Target(0.95, at_least=True))
COST = Figure("cost", "CPU", number(2, "s"), Target(1.0))
TOLD = Figure("told", "upload", number(1, "kB"))
FIGURES = (SHARE, RATIO, COST, TOLD)
GOOD = {"share": 1.0, "ratio": Ratio(0.96, 0.9, 1.1, 7), "cost": 0.4, "told": 3.0}
HEADINGS = {"none": "no agent", "ours": "pathgrade", "other": "ss"}


def judge(quick: bool = False, **cells) -> list[str]:
    return missed(FIGURES, {"ours": GOOD | cells}, judged="ours", quick=quick)


def test_a_ratio_is_the_median_over_pairs_not_of_means():
    assert ratio([(100, 90), (50, 50), (200, 150)]) == Ratio(0.9, 0.75, 1.0, 3)


def test_a_drift_that_both_of_a_pair_share_is_not_in_the_ratio():
    assert ratio([(100, 95), (50, 47.5), (10, 9.5)]).median == pytest.approx(0.95)


def test_the_spread_of_equal_runs_is_told_around_one():
    assert spread([90, 100, 120]) == Ratio(1.0, 0.9, 1.2, 3)


def test_what_reaches_its_targets_misses_none():
    assert judge() == []


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"share": 0.9999}, "sessions seen"),
        ({"ratio": Ratio(0.949, 0.9, 1.2, 7)}, "throughput"),
        ({"cost": 1.001}, "CPU"),
        ({"cost": None}, "CPU"),
        ({"cost": "does not run"}, "CPU"),
    ],
)
def test_what_misses_its_target_is_named(cells, words):
    assert judge(**cells) == [words]


@pytest.mark.parametrize("cells", [{"share": 1.0}, {"ratio": Ratio(0.95, 0.5, 2, 7)}, {"cost": 1.0}])
def test_a_target_that_is_just_reached_is_met(cells):
    assert judge(**cells) == []


def test_zero_is_a_figure_not_an_absent_one():
    lost = Figure("lost", "lost", number(0, ""), Target(0))
    assert missed([lost], {"ours": {"lost": 0}}, judged="ours", quick=False) == []


def test_a_quick_run_judges_what_is_counted_only():
    assert judge(quick=True, cost=9.0, ratio=Ratio(0.1, 0.1, 0.1, 2)) == []
    assert judge(quick=True, share=0.5) == ["sessions seen"]


@pytest.mark.parametrize(("value", "text"), [(1.0, "100.0 %"), (0.99999, "99.9 %"), (0.0, "0.0 %")])
def test_only_all_of_it_is_100_percent(value, text):
    assert percent(value) == text


def test_a_number_has_its_unit():
    assert number(2, "us")(3.456) == "3.46 us"
    assert number(0, "")(12345.6) == "12,346"


def test_the_table_has_every_figure_beside_its_peers_and_its_target():
    text = table(
        FIGURES,
        {"none": {}, "ours": GOOD, "other": {"share": 0.02, "ratio": "no such tool"}},
        HEADINGS,
        judged="ours",
        quick=False,
    )
    assert text.splitlines() == [
        "               no agent           pathgrade     ss  target (pathgrade)",
        "sessions seen         -             100.0 %  2.0 %  >= 100.0 %  met",
        "throughput            -  0.960 (0.90..1.10)      -  >= 0.950  met",
        "CPU                   -              0.40 s      -  <= 1.00 s  met",
        "upload                -              3.0 kB      -",
    ]


@pytest.mark.parametrize(("quick", "verdict"), [(False, "MISSED"), (True, "not judged")])
def test_the_table_says_what_is_missed_and_what_is_not_judged(quick, verdict):
    cells = {"none": {}, "ours": {"cost": 2.0}, "other": {}}
    assert table([COST], cells, HEADINGS, judged="ours", quick=quick).endswith(f"<= 1.00 s  {verdict}")


def test_why_a_peer_has_no_figures_is_said_once():
    cells = {"ours": GOOD, "other": {"share": "no headers", "cost": "no headers"}}
    assert notes(cells, HEADINGS) == ["ss: does not run here: no headers"]
