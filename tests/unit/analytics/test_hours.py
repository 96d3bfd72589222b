"""Sealing and rolling up keep out of each other's way only where they are at the same hour."""

from __future__ import annotations

import threading
from pathlib import Path

from analytics.store.hours import Hours
from analytics.store.seal import Sealed
from analytics.store.state import still_taken


def test_only_the_same_hour_is_waited_for() -> None:
    hours, order = Hours(), list[str]()
    rolling, go = threading.Event(), threading.Event()

    def roll() -> None:
        with hours.rolling((7,)):
            rolling.set()
            go.wait(10)
            order.append("rolled")

    roller = threading.Thread(target=roll)
    roller.start()
    rolling.wait(10)
    with hours.sealing({8}):
        order.append("sealed another")
    threading.Timer(0.05, go.set).start()
    with hours.sealing({6, 7}):
        order.append("sealed the same")
    roller.join()
    assert order == ["sealed another", "rolled", "sealed the same"]


def sealed(number: int, *parts: int) -> Sealed:
    path = Path(f"/data/parquet/tenant=default/readings/date=2026-11-23/{number:010d}.parquet")
    return Sealed(path, "default", "readings", "2026-11-23", number, 1, replaces=frozenset(parts))


def test_what_was_merged_since_is_taken_where_all_of_it_was() -> None:
    names = {sealed(n).path for n in (1, 2, 3, 4)}
    files = [sealed(4), sealed(6, 1, 2), sealed(7, 3, 5), sealed(8)]
    taken, gone = still_taken(names, files)
    assert [file.segment for file in taken] == [4, 6]
    assert gone == set()
    assert still_taken({sealed(9).path}, files) == ([], {sealed(9).path})
