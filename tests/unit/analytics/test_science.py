"""The published tables: what the formulas of the field must give."""

from __future__ import annotations

import pytest

from analytics import qoo
from analytics.aim import Class, Use, bufferbloat, classify
from analytics.emodel import (
    G711,
    Codec,
    Talk,
    effective_impairment,
    good_or_better,
    mos,
    poor_or_worse,
    rating,
)
from analytics.qoo import Measured, Requirement
from analytics.tcp_rates import cubic_window, mathis_window, reno_window, slow_start_s, tfrc_bytes_per_s

# --- ITU-T G.107 -------------------------------------------------------------------------------------------


def test_g107_defaults() -> None:
    assert rating(Talk()) == pytest.approx(93.2, abs=0.05)
    assert mos(rating(Talk())) == pytest.approx(4.41, abs=0.005)


@pytest.mark.parametrize(
    ("r", "score", "good", "poor"),
    [(90, 4.34, 97, 0), (80, 4.03, 89, 1), (70, 3.60, 73, 6), (60, 3.10, 50, 17), (50, 2.58, 27, 38)],
)
def test_g107_annex_b_table(r: int, score: float, good: int, poor: int) -> None:
    assert mos(r) == pytest.approx(score, abs=0.011)
    assert round(100 * good_or_better(r)) == good
    assert round(100 * poor_or_worse(r)) == poor


def test_scores_end_where_the_scale_does() -> None:
    assert (mos(-5), mos(0), mos(100), mos(120)) == (1.0, 1.0, 4.5, 4.5)


@pytest.mark.parametrize(
    ("delay_ms", "r"), [(50, 91.76), (100, 90.66), (200, 85.80), (300, 72.67), (400, 62.25), (500, 54.80)]
)
def test_delay_is_counted_in_full_also_above_300_ms(delay_ms: int, r: float) -> None:
    """Cole and Rosenbluth's shortcut gives 59.1 and 45.7 for the last two."""
    assert rating(Talk(delay_ms=delay_ms)) == pytest.approx(r, abs=0.01)


@pytest.mark.parametrize(
    ("codec", "loss_percent", "published"),
    [
        (Codec(impairment=11, robustness=19.0), 0, 11),
        (Codec(impairment=11, robustness=19.0), 1, 15),
        (Codec(impairment=11, robustness=19.0), 2, 19),
        (Codec(impairment=11, robustness=19.0), 8, 36),
        (Codec(impairment=15, robustness=16.1), 4, 32),
        (Codec(), 5, 55),
        (G711, 2, 7),
        (G711, 10, 25),
        (G711, 20, 45),
    ],
)
def test_g113_appendix_i_loss_of_codecs(codec: Codec, loss_percent: float, published: int) -> None:
    """Random loss; the tables are measured, the equation is fitted to them within 4 points."""
    found = effective_impairment(Talk(loss_percent=loss_percent, codec=codec))
    assert found == pytest.approx(published, abs=4.1)


def test_bursts_are_worse_than_the_same_loss_at_random() -> None:
    alone = Talk(loss_percent=3, codec=G711)
    assert rating(Talk(loss_percent=3, codec=G711, burst_ratio=2)) < rating(alone)


# --- TCP ---------------------------------------------------------------------------------------------------

RFC_9438_TABLE_1 = {  # p: Reno, CUBIC with C = 0.04, 0.4 and 4; RTT 0.1 s
    1e-2: (12, 12, 12, 12),
    1e-3: (38, 38, 38, 59),
    1e-4: (120, 120, 187, 333),
    1e-5: (379, 593, 1054, 1874),
    1e-6: (1200, 3332, 5926, 10538),
    1e-7: (3795, 18740, 33325, 59261),
    1e-8: (12000, 105383, 187400, 333250),
}
RFC_9438_TABLE_2 = {  # RTT 0.01 s
    1e-2: (12, 12, 12, 12),
    1e-3: (38, 38, 38, 38),
    1e-4: (120, 120, 120, 120),
    1e-5: (379, 379, 379, 379),
    1e-6: (1200, 1200, 1200, 1874),
    1e-7: (3795, 3795, 5926, 10538),
    1e-8: (12000, 18740, 33325, 59261),
}


@pytest.mark.parametrize(("rtt_s", "table"), [(0.1, RFC_9438_TABLE_1), (0.01, RFC_9438_TABLE_2)])
def test_rfc_9438_tables(rtt_s: float, table: dict[float, tuple[int, ...]]) -> None:
    for p, (reno, *cubics) in table.items():
        assert reno_window(p) == pytest.approx(reno, abs=0.51)
        for c, cubic in zip((0.04, 0.4, 4), cubics, strict=True):
            # The tables were made with the factor rounded to three places.
            assert cubic_window(p, rtt_s, c=c) == pytest.approx(cubic, rel=5e-4, abs=0.51)


def test_mathis_constant() -> None:
    assert mathis_window(0.01) == pytest.approx(12.2)


def test_rfc_5348_equation() -> None:
    """Section 3.1 with b = 1 and t_RTO = 4 R, written out by hand for one case."""
    by_hand = 1460 / (
        0.1 * (2 * 0.01 / 3) ** 0.5 + 0.4 * 3 * (3 * 0.01 / 8) ** 0.5 * 0.01 * (1 + 32 * 0.01**2)
    )
    assert tfrc_bytes_per_s(1460, 0.1, 0.01) == pytest.approx(by_hand)
    assert tfrc_bytes_per_s(1460, 0.1, 0.01) == pytest.approx(163_900, rel=0.002)


@pytest.mark.parametrize(
    ("rate_bps", "published_s", "within"),
    # The two fast rows are printed up to 8 % above what the book's own formula gives.
    [(28e3, 28.9, 0.005), (100e3, 8.4, 0.01), (1e6, 1.5, 0.08), (10e6, 0.98, 0.08)],
)
def test_kurose_ross_slow_start_rows(rate_bps: float, published_s: float, within: float) -> None:
    """S = 536 bytes, RTT = 100 ms, O = 100 kB."""
    found_s = slow_start_s(100_000, 0.1, rate_bps, segment_bytes=536)
    assert found_s == pytest.approx(published_s, rel=within)


# --- QoO, AIM, bufferbloat ---------------------------------------------------------------------------------


def test_the_worked_example_of_the_qoo_draft() -> None:
    need = Requirement(latency={990: (200, 500), 999: (300, 600)}, loss=(0.01, 0.05), throughput=4)
    seen = Measured(latency={990: 350, 999: 375}, loss=0.02, throughput=28)
    assert qoo.score(need, seen) == pytest.approx(50)
    assert qoo.score(Requirement(latency={}, loss=(0.01, 0.05)), seen) == pytest.approx(75)
    assert qoo.score(Requirement(latency={999: (300, 600)}), seen) == pytest.approx(75)
    assert qoo.score(Requirement(latency={}, throughput=4), seen) == 100
    assert qoo.score(Requirement(latency={}, throughput=40), seen) == 0


@pytest.mark.parametrize(
    ("changes", "streaming", "gaming", "calls"),
    [
        ({}, Class.GREAT, Class.GREAT, Class.GREAT),
        ({"latency_ms": 60.0, "loaded_increase_ms": 120.0}, Class.AVERAGE, Class.BAD, Class.POOR),
        ({"loss": 0.03}, Class.GREAT, Class.GREAT, Class.GREAT),
        ({"download_bps": 5e6}, Class.GOOD, Class.GREAT, Class.GREAT),
        ({"jitter_ms": 600.0}, Class.GREAT, Class.GREAT, Class.GOOD),
    ],
)
def test_aim_classes(changes: dict[str, float], streaming: Class, gaming: Class, calls: Class) -> None:
    line: dict[str, float | None] = {
        "loss": 0.0,
        "latency_ms": 5.0,
        "loaded_increase_ms": 4.0,
        "jitter_ms": 1.0,
        "download_bps": 2e8,
        "upload_bps": 2e8,
    }
    line.update(changes)
    assert [classify(use, line) for use in Use] == [streaming, gaming, calls]


def test_a_loss_that_was_not_measured_gives_no_class() -> None:
    assert classify(Use.GAMING, {"latency_ms": 5.0, "loaded_increase_ms": 4.0, "loss": None}) is None


@pytest.mark.parametrize(
    ("down", "up", "letter"),
    [
        (4, 4, "A+"),
        (5, 5, "A"),
        (29, 30, "A"),
        (30, 30, "B"),
        (60, 60, "C"),
        (300, 150, "D"),
        (400, 400, "F"),
    ],
)
def test_bufferbloat_letters(down: int, up: int, letter: str) -> None:
    assert bufferbloat(down, up) == letter
