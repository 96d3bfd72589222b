"""The crash bench in short: the power goes in each phase and at moments between; a mistake would show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from benches.crash import NOTHING, PHASES, chosen, cut_found, recorded

from analytics.store import ordered, seal


def test_a_power_cut_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    cuts, acknowledged, now_us = recorded(tmp_path / "data", 2)
    assert len(chosen(cuts)) == len(PHASES)
    found = [(cut.doing, cut_found(cut, acknowledged, now_us)) for cut in [*chosen(cuts), *cuts[::20]]]
    assert [(doing, one) for doing, one in found if one != NOTHING] == []


def test_a_sync_that_is_left_out_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is not synced after the rename: the spool is gone, and the Parquet file never was."""

    def careless(path: Path, write: Callable[[BinaryIO], None]) -> None:
        with path.open("wb") as file:
            write(file)

    for module in (seal, ordered):
        monkeypatch.setattr(module, "replace_durably", careless)
    cuts, acknowledged, now_us = recorded(tmp_path / "data", 1)
    assert cut_found(cuts[-1], acknowledged, now_us).lost > 0
