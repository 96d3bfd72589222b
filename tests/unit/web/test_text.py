"""Numbers as people read them."""

from collections.abc import Callable

import pytest

from analytics.measurement import Flow, Letter, Rung
from server.pages import text


@pytest.mark.parametrize(
    ("write", "value", "read"),
    [
        (text.ms, 310, "0.31 ms"),
        (text.ms, 8_440, "8.4 ms"),
        (text.ms, 260_400, "260 ms"),
        (text.ms, None, text.NOTHING),
        (text.tenths, 213_940, "213.9"),
        (text.duration, 850_000, "850 ms"),
        (text.duration, 4_100_000, "4.1 s"),
        (text.duration, 41_200_000, "41 s"),
        (text.duration, 180_000_000, "3 min"),
        (text.loss, 0, "0 %"),
        (text.loss, 33, "0.33 %"),
        (text.loss, 250, "2.5 %"),
        (text.loss, None, text.NOTHING),
        (text.rate, 850, "850 kbit/s"),
        (text.rate, 1_200, "1.2 Mbit/s"),
        (text.rate, 94_300, "94 Mbit/s"),
        (text.rate, 1_200_000, "1.2 Gbit/s"),
        (text.size, 812, "812 B"),
        (text.size, 52_600_000, "52.6 MB"),
        (text.size, 999_999, "1000 kB"),
        (text.age, 12, "12 s"),
        (text.age, 240, "4 min"),
        (text.age, 10_800, "3 h"),
        (text.age, 200_000, "2 d"),
        (text.age, -3, "0 s"),
        (text.iso, 1_795_464_000_000_000, "2026-11-23T20:00:00Z"),
        (text.clock, 1_795_464_000_000_000, "2026-11-23 20:00:00 UTC"),
    ],
)
def test_writing(write: Callable[[object], str], value: object, read: str) -> None:
    assert write(value).replace(text.NBSP, " ") == read


@pytest.mark.parametrize(
    ("low", "high", "read"),
    [
        (38, 44, "38 s to 44 s"),
        (None, 44, "at most 44 s"),
        (38, None, "at least 38 s"),
        (None, None, ""),
        (9, 9, ""),
    ],
)
def test_an_interval(low: int | None, high: int | None, read: str) -> None:
    assert text.interval(low, high, "s").replace(text.NBSP, " ") == read


def test_a_capacity_seen_in_bunches_is_a_lower_bound() -> None:
    assert text.capacity(18_000, "at-least").replace(text.NBSP, " ") == "≥ 18 Mbit/s"
    assert text.capacity(None, "none") == text.NOTHING


def test_outcomes_in_other_units_keep_them() -> None:
    assert text.outcome(87, "R").replace(text.NBSP, " ") == "87 R"
    assert text.outcome(87, "") == "87"


def test_why_rungs_failed_reads_back() -> None:
    told = "lan: other network; ipv6: no address: none at all"
    assert text.rungs_failed(told) == [("LAN", "other network"), ("IPv6", "no address: none at all")]
    assert text.rungs_failed("") == []


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ({}, text.NOTHING),
        ({"busy_us": 100}, text.NOTHING),
        ({"busy_us": 100, "rwnd_limited_us": 68, "sndbuf_limited_us": 2}, "receiver 68 %"),
        ({"busy_us": 100, "sndbuf_limited_us": 100}, "sender 100 %"),
        ({"busy_us": 100, "rwnd_limited_us": 120}, "receiver 100 %"),
        ({"busy_us": 0, "rwnd_limited_us": 120}, text.NOTHING),
    ],
)
def test_who_held_a_flow_up(told: dict[str, int], read: str) -> None:
    flow = Flow(tenant="default", agent="pacs", window_us=0, window_length_us=1, **told)  # type: ignore[arg-type]
    assert text.limited(flow).replace(text.NBSP, " ") == read


def test_a_share_of_nothing_is_not_known() -> None:
    assert text.share(0, 0) is None
    assert text.share(0, 5) == 0
    assert text.share(1, 300) == 33


def test_a_timeline_in_words() -> None:
    assert text.hours([Letter.A, None, Letter.A, Letter.UNKNOWN]) == "2 h A, 1 h ?, 1 h no session"
    assert text.hours([Letter.F]) == "1 h F"


def test_every_rung_and_letter_has_words() -> None:
    assert set(text.RUNG_SHORT) == set(text.RUNG_LONG) == set(Rung)
    assert set(text.LETTER_MEANING) == set(Letter)
    assert all(("relay" in text.RUNG_SHORT[rung]) is rung.relayed for rung in Rung)
    assert not any("direct" in text.RUNG_SHORT[rung] for rung in Rung if rung.relayed)
