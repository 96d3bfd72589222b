"""The arithmetic of scripts/bench pacs."""

from __future__ import annotations

import pytest
from benches import pacs, pacs_cells
from benches.errors import NeedsError
from benches.pacs_cells import Cell, Link, Outcome, Seen

from analytics.measurement import CapacityTrust
from analytics.predict import PathState, study_us
from analytics.rules.load import load_rules
from analytics.tcp_rates import Sender

CLEAN = Link(20, 100, 0)
LOSSY = Link(80, None, 10_000)
SEEN = Seen(PathState(20_000, 0, 100_000), 0, 300, CapacityTrust.MEASURED)


def outcome(link: Link, predicted_us: int, took_us: int) -> Outcome:
    return Outcome(Cell(link, "wado_series", Sender.CUBIC), SEEN, predicted_us, took_us)


def test_all_cells_are_there_and_words_choose_among_them() -> None:
    every = pacs_cells.cells(list(Sender), lambda _name: True)
    assert len(set(every)) == len(every) == 3 * 3 * 2 * 3 * 2
    chosen = pacs_cells.cells([Sender.CUBIC], lambda name: "80 ms, 20 Mbit/s, 1 % loss" in name)
    assert [cell.protocol for cell in chosen] == list(pacs_cells.PROTOCOLS)


def test_a_link_loses_towards_the_viewer_only_and_delays_half_of_its_round_trip() -> None:
    settings = LOSSY.settings()
    assert settings["down.loss_ppm"] == 10_000
    assert "up.loss_ppm" not in settings
    assert settings["up.delay_us"] == settings["down.delay_us"] == 40_000


@pytest.mark.parametrize(
    ("protocol", "many_us"),
    [("c_get_nagle", 1_400_000), ("wado_series", 260_000), ("wado_instances", 260_000)],
)
def test_what_is_learnt_predicts_the_fetches_that_it_was_learnt_from(protocol: str, many_us: int) -> None:
    exchange = load_rules().protocols[protocol]
    learnt = pacs_cells.learn(exchange, 525_000, [200_000] * 5, [many_us] * 5, 20)
    assert learnt is not None
    for images, took_us in ((1, 200_000), (20, many_us)):
        study = learnt.study(exchange, images, 525_000)
        assert study_us(study, pacs_cells.LOOPBACK, Sender.CUBIC) == pytest.approx(took_us, rel=0.001)


def test_too_few_fetches_teach_nothing() -> None:
    assert pacs_cells.learn(load_rules().protocols["c_get"], 525_000, [1], [1], 20) is None


def test_errors_without_and_with_loss_are_judged_apart() -> None:
    outcomes = [outcome(CLEAN, 110, 100), outcome(CLEAN, 100, 100), outcome(LOSSY, 50, 100)]
    figures = pacs_cells.figures(outcomes)
    assert figures == {
        "cells": 3,
        "clean_p50": pytest.approx(0.05),
        "clean_p90": pytest.approx(0.1),
        "lossy_p50": pytest.approx(0.5),
        "lossy_p90": pytest.approx(0.5),
    }


def test_a_table_has_a_line_a_cell() -> None:
    head, line = pacs_cells.lines([outcome(CLEAN, 1_100_000, 1_000_000)])
    assert head.startswith("link")
    assert line.split("  ")[0] == "20 ms, 100 Mbit/s, 0 % loss"
    assert line.endswith("+10 %")


def test_only_what_the_chosen_cells_can_have_is_judged() -> None:
    chosen = pacs.BENCH.chosen
    assert chosen
    assert [one.key for one in chosen("0 % loss").figures] == ["cells", "clean_p50", "clean_p90"]
    assert len(chosen("80 ms").figures) == len(pacs.BENCH.figures)
    with pytest.raises(NeedsError, match="no cell is called 'pigeon'"):
        chosen("pigeon")
