"""What agents say is switched on their own hosts: one audit row a change, and no flood of them."""

from __future__ import annotations

from typing import Any

import msgspec

from analytics.wire import Health, Hello, LocalOff
from server.own_switches import APART_S, OwnSwitches

OFF = LocalOff(since_us=1, by="ada")


class Noted:
    """An audit log that keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, LocalOff | None]] = []

    def own_switch(self, agent: str, switch: str, off: LocalOff | None) -> None:
        self.rows.append((agent, switch, off))


def test_one_row_a_change_and_none_for_what_was_always_on() -> None:
    now_s, noted = [0.0], Noted()
    switches = OwnSwitches(noted, clock=lambda: now_s[0])  # type: ignore[arg-type]  # all that is asked of one
    on, off = Health(cpu_us=1, rss_kb=1), Health(cpu_us=1, rss_kb=1, passive_off=OFF)
    hello: Any = Hello(version="1", boot="b", passive_off=OFF)
    for said in (on, off, hello, off, on, on):
        switches.take("a", said)
        now_s[0] += APART_S
    assert noted.rows == [("a", "passive", OFF), ("a", "passive", None)]
    switches.take("b", msgspec.structs.replace(off, local_off=OFF))
    assert noted.rows[2:] == [("b", "mesh", OFF), ("b", "passive", OFF)]


def test_who_switches_all_the_time_fills_no_log_and_the_last_word_is_noted() -> None:
    now_s, noted = [0.0], Noted()
    switches = OwnSwitches(noted, clock=lambda: now_s[0])  # type: ignore[arg-type]  # likewise
    said = [Health(cpu_us=1, rss_kb=1, local_off=off) for off in (OFF, None)] * 500
    for one in said:
        switches.take("a", one)
        now_s[0] += 0.01
    assert len(noted.rows) <= len(said) * 0.01 / APART_S + 1
    now_s[0] += APART_S
    switches.take("a", said[-1])
    assert noted.rows[-1] == ("a", "mesh", None)
