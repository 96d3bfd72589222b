"""A disk that fills up during the upkeep: what is there stays right, and all is made good afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FULL = """
import asyncio, shutil, sys
from contextlib import closing, suppress
from pathlib import Path
from analytics.errors import StoreError
from analytics.rollup import Level
from analytics.store.query import Limits
from analytics.store.store import Store
from analytics.store.upkeep import Upkeep
from tests.unit.analytics.facts import AT_US, body, flow, hop, put, reading

DAY_US = 86_400_000_000
folder = Path(sys.argv[1])
data = folder / "data"
data.mkdir()
now = [AT_US]

def fill():
    # Not the last bytes: opening a file for writing must be what fails, in the middle of it.
    ballast = folder / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with ballast.open("r+b") as file:
        file.truncate(max(0, ballast.stat().st_size - LEFT))

def opened():
    return closing(Store.open(data, clock_us=lambda: now[0], limits=Limits(memory_mb=256)))

def rows(store):
    return (store.counts(), store.readings_latest("default"), len(store.flows("default", limit=10_000)))

LEFT = int(sys.argv[2])
with opened() as store:
    for n in range(3):
        put(store, body("pacs", n,
            readings=[reading(dst=f"d{i}", test=f"{n}.{i}", cycle=n, error=f"{n}{i}" * 99) for i in range(9)],
            flows=[flow(window_us=n * 1000 + i, process=f"{n}-{i}" * 5) for i in range(300)]))
        store.seal()
    before = rows(store)
    now[0] += 2 * DAY_US
    store._state.refresh(now[0])
    fill()
    store.upkeep()
    failed = store.health().upkeep_failures
    assert rows(store) == before
    assert not list(data.rglob("*.tmp")), list(data.rglob("*.tmp"))
(data / "state.duckdb").unlink()
fill()
with opened() as store:  # and opened while it is still full, without its state
    assert rows(store) == before
    store.upkeep()
    assert rows(store) == before
(folder / "ballast").unlink()
with opened() as store:
    store.upkeep()
    store.upkeep()
    assert rows(store) == before
    assert put(store, body("pacs", 1, readings=[])) == [False]
    made = {level: len(store._upkeep.rollups.of("default").files(level)) for level in Level}
    assert made == {"readings_5m": 1, "readings_1h": 1, "readings_1d": 1}, made
    parquet = data / "parquet/tenant=default"
    assert [len(list((parquet / t).rglob("*.parquet"))) for t in ("readings", "flows")] == [1, 1]
print("failed", failed)
"""


def test_upkeep_on_a_full_disk_harms_nothing_and_is_made_good(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=24m tmpfs "$1" && exec "$2" -c "$3" "$1" "$4"'
    failures = []
    for left in (0, 8_192, 40_000):  # so that another step meets it
        place = tmp_path / str(left)
        place.mkdir()
        done = subprocess.run(
            [
                *["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"],
                *[mount, "sh", place, sys.executable, FULL, str(left)],
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        failures.append(int(done.stdout.split()[-1]))
    assert all(failures), failures
