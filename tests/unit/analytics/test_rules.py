"""Rules files: what holds is taken, the rest is refused with the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics.errors import RulesError
from analytics.rules.load import BUILT_IN, load_rules


def test_the_built_in_rules_hold() -> None:
    assert list(load_rules().profiles) == ["pacs", "generic"]


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ("images = 100", "images = ", r"line 4\d"),
        ("images = 100", 'images = "many"', r"study\.images"),
        ("images = 100", "pictures = 100", "pictures"),
        ("most_ms = [5000, 10000", "most_ms = [10000, 5000", "profiles.pacs.most_ms"),
        ("most_ms = [5000, 10000, 30000, 60000]", "most_ms = [5000]", "most_ms"),
        ('kind = "study"', 'kind = "opinion"', "opinion"),
        ("rtt_p50_n = 10", "rtt_p50_n = 0", "rtt_p50_n"),
        ("retransmit_bp = [100, 200", "retransmit_bp = [200, 200", "applications.most_retransmit_bp"),
        ("rtt_p50_us = [50000, 100000", "rtt_p50_us = [50000, 50000", "applications.most_rtt_p50_us"),
        ("held_up_percent = 50", "held_up_percent = 101", "held_up_percent"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, good: str, bad: str, says: str) -> None:
    path = tmp_path / "rules.toml"
    told = BUILT_IN.read_text()
    assert good in told
    path.write_text(told.replace(good, bad))
    with pytest.raises(RulesError, match=says) as caught:
        load_rules(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="No such file"):
        load_rules(tmp_path / "none.toml")
