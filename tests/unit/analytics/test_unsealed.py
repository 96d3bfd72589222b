"""Rows in memory that are not sealed yet: wrapped once asked for, and counted by what they take."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from analytics.batch import check_batch
from analytics.store.known import BatchKey
from analytics.store.unsealed import Arrived, Unsealed
from tests.unit.analytics.facts import AT_US, body, reading


def test_who_asks_at_once_gets_the_same_rows_and_their_size_is_known_before() -> None:
    sent = body("pacs", 1, readings=[reading(dst=f"host-{n}") for n in range(2_000)])
    batch = check_batch(sent)
    arrived, unsealed = Arrived(batch, "default", AT_US), Unsealed()
    unsealed.add(arrived, len(sent), BatchKey("default", "pacs", batch.boot, 1))
    with ThreadPoolExecutor(4) as threads:
        found = [job.result()["readings"] for job in [threads.submit(arrived.tables) for _ in range(8)]]
    assert all(table.equals(found[0]) for table in found)
    assert (unsealed.rows, found[0].num_rows) == (2_000, 2_000)
    assert abs(unsealed.size - found[0].nbytes) < found[0].nbytes / 50
