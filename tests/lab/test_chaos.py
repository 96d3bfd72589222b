"""Some of ``scripts/chaos``: that its world is made and cleared away, and that its accounts are right."""

from pathlib import Path

import pytest
from benches import net
from faults.catalog import FAULTS
from faults.main import close
from faults.world import Size, world

pytestmark = pytest.mark.lab

QUICK = ("stop-server", "brute-force")


def test_a_server_that_is_stopped_under_load_loses_nothing_and_guesses_get_nowhere(tmp_path: Path) -> None:
    chosen = {fault.name: fault for fault in FAULTS}
    said: list[str] = []
    with world(tmp_path, said.append, Size(agents=0, replayed=2)) as made:
        seen = {name: chosen[name].do(made) for name in QUICK}
        assert all(one.good for one in seen.values()), seen
        (rows,) = close(made)
    assert rows.good, rows.seen
    assert not [path for path in net.NETNS.glob("pgb-*") if path.name in said]
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
