"""Audit rows older than they are kept go, those of all tenants; a clock that jumped takes none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.clock import DAY_US
from server import audit_age
from server.api.audits import AuditAsk, AuditRow
from server.audit_age import Ages
from server.grants import Signer
from server.state import State

TODAY_US = 20_000 * DAY_US + DAY_US // 2
KEEP = 400
SIGNER = Signer(Ed25519PrivateKey.generate())


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with closing(State.open(tmp_path)) as opened:
        yield opened


def write(state: State, days: list[int], tenant: str = "default", *, action: str = "test") -> None:
    """Rows so many days ago, in that order."""
    rows = [
        AuditRow(at_us=TODAY_US - day * DAY_US, actor="server", action=action, subject="a", detail=f"{day}")
        for day in days
    ]
    state.add_audit(tenant, rows)


def left(state: State, tenant: str = "default") -> list[int]:
    told = state.audits.look(tenant, AuditAsk(limit=500, tests=True))
    return [int(row.detail) for row in reversed(told)]


def prune(state: State, keep_days: int = KEEP, keep_test_days: int = KEEP) -> int:
    return state.prune_audit(Ages(keep_days, keep_test_days), now_us=TODAY_US, sealer=SIGNER)


def test_rows_go_when_they_are_older_than_kept_whoever_they_are_of(state: State) -> None:
    write(state, [900, 401])
    write(state, [900, 402, 399], "other")
    write(state, [400, 30, 2, 1, 0])
    assert prune(state) == 4
    assert left(state) == [400, 30, 2, 1, 0]
    assert left(state, "other") == [399]
    assert prune(state) == 0
    assert prune(state, keep_days=30) == 2
    assert left(state) == [30, 2, 1, 0]


@pytest.mark.parametrize("newest", [[], [900], [500, 0], [500, 2, 0], [500, 1, 0], [500, 3, 1, 0]])
def test_nothing_goes_where_rows_were_not_written_on_both_of_the_days_before(
    state: State, newest: list[int]
) -> None:
    write(state, newest)
    assert prune(state) == 0
    assert left(state) == newest


def test_many_go_a_piece_at_a_time(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_age, "AT_ONCE", 10)
    write(state, [500] * 95 + [2, 1])
    assert prune(state) == 95
    assert left(state) == [2, 1]


def test_rows_of_tests_go_before_what_people_did(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_age, "AT_ONCE", 2)
    for day in (500, 40, 31, 30, 2, 1):
        write(state, [day, day, day])
        write(state, [day], action="switch")
    assert prune(state, keep_test_days=30) == 4 + 3 + 3
    assert left(state) == [40, 31, 30, 30, 30, 30, 2, 2, 2, 2, 1, 1, 1, 1]
    assert prune(state, keep_test_days=30) == 0
    assert prune(state, keep_days=10, keep_test_days=30) == 2 + 4  # never longer than the others


def test_after_an_upgrade_many_go_in_many_calls(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_age, "MOST", 30)
    monkeypatch.setattr(audit_age, "AT_ONCE", 20)
    write(state, [500] * 5 + [50] * 60 + [2, 1])
    assert [prune(state, keep_test_days=30) for _ in range(4)] == [30, 30, 5, 0]
    assert left(state) == [2, 1]


def test_whoever_writes_has_its_turn_between_the_pieces(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_age, "AT_ONCE", 50)
    write(state, [50] * 5_000 + [2, 1])
    pruning = threading.Thread(target=prune, args=(state, KEEP, 30))
    pruning.start()
    seen = []
    while pruning.is_alive():
        write(state, [0], action="switch")
        seen.append(len(left(state)))
    pruning.join()
    assert len(seen) > 5
    assert left(state) == [2, 1, *[0] * len(seen)][:500]


@settings(max_examples=15, deadline=None)  # each opens a state of its own
@given(days=st.lists(st.integers(-3, 900), max_size=30), keep_test_days=st.integers(1, 900))
def test_of_clocks_that_went_back_and_forth_no_young_row_goes(
    days: list[int], keep_test_days: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with closing(State.open(tmp_path_factory.mktemp("state"))) as state:
        write(state, [*days, 2, 1])
        gone = prune(state, keep_test_days=keep_test_days)
        kept = left(state)
        assert [day for day in kept if day <= min(KEEP, keep_test_days)] == [
            day for day in [*days, 2, 1] if day <= min(KEEP, keep_test_days)
        ]
        assert gone == len(days) + 2 - len(kept)
        if days == sorted(days, reverse=True) and not {day for day in days if day < 2}:
            assert max(kept) <= min(KEEP, keep_test_days)
