"""Rows in memory that are not sealed yet: wrapped once asked for, and counted by what they take."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.batch import check_batch
from analytics.store.columns import tables_of
from analytics.store.known import BatchKey
from analytics.store.shelf import Warm
from analytics.store.unsealed import APART_MOST, PIECE_ROWS, SHARES, Arrived, Unsealed, share_of
from tests.unit.analytics.facts import AT_US, body, reading

DAY_US = 86_400_000_000


def put(unsealed: Unsealed, sent: bytes, *, tenant: str = "default", at_us: int = AT_US) -> None:
    batch = check_batch(sent)
    key = BatchKey(tenant, batch.agent, batch.boot, batch.batch)
    unsealed.add(Arrived(batch, tenant, at_us), len(sent), key)


def of(agent: str, number: int, rows: int = 1) -> bytes:
    told = [reading(src=agent, dst=f"host-{n}", rtt_us=number) for n in range(rows)]
    return body(agent, number, readings=told)


def held(unsealed: Unsealed, tenant: str, agents: set[str] | None = None) -> list[pa.Table]:
    found = unsealed.having("readings", tenant, agents)
    return [piece for gathered in found for piece in gathered.tables("readings")]


def test_who_asks_at_once_gets_the_same_rows_and_their_size_is_known_before() -> None:
    sent, unsealed = of("pacs", 1, 2_000), Unsealed()
    put(unsealed, sent)
    (gathered,) = unsealed.having("readings", "default")
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(gathered.tables, "readings") for _ in range(8)]
        found = [pa.concat_tables(job.result()) for job in asked]
    assert all(table.equals(found[0]) for table in found)
    assert (unsealed.rows, found[0].num_rows) == (2_000, 2_000)
    assert abs(unsealed.size - found[0].nbytes) < found[0].nbytes / 50


def test_many_small_batches_take_what_is_in_them_once_they_were_asked_for() -> None:
    """Two thousand of one reading each took 196 MB as Arrow, and were counted as seven."""
    unsealed = Unsealed()
    for number in range(500):
        put(unsealed, of("pacs", number))
        if number % 3 == 0:
            held(unsealed, "default")
    pieces = held(unsealed, "default")
    assert len(pieces) <= APART_MOST
    assert sorted(pa.concat_tables(pieces)["rtt_p50_us"].to_pylist()) == list(range(500))
    (warm,) = Warm.of(unsealed, "default").by_share[share_of("pacs")]
    assert (warm.num_rows, warm["rtt_p50_us"].num_chunks) == (500, 1)


def test_a_full_piece_is_not_copied_again() -> None:
    unsealed = Unsealed()
    put(unsealed, of("pacs", 0, PIECE_ROWS))
    (full,) = held(unsealed, "default")
    for number in range(1, 3 * APART_MOST):
        put(unsealed, of("pacs", number))
        pieces = held(unsealed, "default")
    assert pieces[0] is full


def test_what_could_not_be_wrapped_is_wrapped_later_and_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unsealed, asked = Unsealed(), iter([False, False, True, *[False] * 9])

    def scarce(*args: Any, **named: Any) -> dict[str, pa.Table]:
        if next(asked):
            raise MemoryError
        return tables_of(*args, **named)

    monkeypatch.setattr("analytics.store.unsealed.tables_of", scarce)
    for number in range(6):
        put(unsealed, of("pacs", number))
    with pytest.raises(MemoryError):
        held(unsealed, "default")
    rows = [number for piece in held(unsealed, "default") for number in piece["rtt_p50_us"].to_pylist()]
    assert sorted(rows) == list(range(6))


BATCHES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]), st.sampled_from(["t1", "t2"]), st.integers(0, 1), st.booleans()
    ),
    max_size=40,
)


@settings(max_examples=40)
@given(BATCHES)
def test_each_row_is_there_once_whoever_asked_meanwhile(
    batches: list[tuple[str, str, int, bool]],
) -> None:
    unsealed = Unsealed()
    for number, (agent, tenant, day, ask) in enumerate(batches):
        put(unsealed, of(agent, number), tenant=tenant, at_us=AT_US + day * DAY_US)
        if ask:
            held(unsealed, tenant)
    for tenant in ("t1", "t2"):
        sent = {number for number, (_, of_tenant, *_) in enumerate(batches) if of_tenant == tenant}
        rows = [number for piece in held(unsealed, tenant) for number in piece["rtt_p50_us"].to_pylist()]
        assert Counter(rows) == Counter(sent)
        assert {name for name, _ in unsealed.counts(tenant)} == ({"readings"} if sent else set())
        for agent in "abc":
            of_agent = {number for number in sent if batches[number][0] == agent}
            asked = {
                number
                for piece in held(unsealed, tenant, {agent})
                for number in piece["rtt_p50_us"].to_pylist()
            }
            assert of_agent <= asked
    tables = unsealed.tables()
    assert sum(piece.num_rows for pieces in tables.values() for piece in pieces) == len(batches)
    assert {day for _, _, day in tables} == {
        "2026-11-23" if day == 0 else "2026-11-24" for _, _, day, _ in batches
    }


def test_agents_are_dealt_evenly() -> None:
    shares = Counter(share_of(f"agent-{number:04d}") for number in range(1_000))
    assert len(shares) == SHARES
    assert max(shares.values()) < 40
