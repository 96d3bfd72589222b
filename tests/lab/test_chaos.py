"""Some of ``scripts/chaos``: that its world is made and cleared away, and that its accounts are right."""

from pathlib import Path

import pytest
from benches import net
from faults.catalog import FAULTS
from faults.main import close
from faults.world import Size, world

pytestmark = pytest.mark.lab


def test_a_server_that_is_stopped_under_load_loses_nothing(tmp_path: Path) -> None:
    (stop,) = (fault for fault in FAULTS if fault.name == "stop-server")
    with world(tmp_path, print, Size(agents=0, replayed=2)) as made:
        seen = stop.do(made)
        assert seen.good, seen.words
        (rows,) = close(made)
    assert rows.good, rows.seen
    left = [made.router, made.stranger]
    assert not [name for name in left if (net.NETNS / name).exists()]
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
