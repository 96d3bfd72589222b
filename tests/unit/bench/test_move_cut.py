"""The power goes while a data folder of before is moved into a folder for each tenant."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benches.powercut import Disk

from analytics.store import layout
from tests.unit.analytics.old_folder import check, unpacked


def test_a_power_cut_at_any_moment_of_the_move_is_harmless(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    disk = Disk(folder, lambda: 0)
    with disk.recording():
        shutil.copytree(unpacked(tmp_path / "packed"), folder, dirs_exist_ok=True)
        disk.during = "copy"
        for path in sorted([folder, *folder.rglob("*")], reverse=True):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        disk.during = "move"
        layout.bring(folder)
    cuts = [cut for cut in disk.cuts if cut.during == "move"]
    for number, cut in enumerate(cuts[:: max(1, len(cuts) // 8)]):
        cut.restore(tmp_path / f"cut-{number}")
        check(tmp_path / f"cut-{number}")
