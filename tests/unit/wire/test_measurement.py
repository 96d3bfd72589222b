"""The vocabulary: what the columns of a fact table are derived to be."""

import msgspec
import pytest

from analytics.measurement import FACTS, OWNER, SORT_KEYS, Flow, Hop, Reading, Rung, columns


@pytest.mark.parametrize("table", FACTS.values(), ids=FACTS)
def test_every_column_says_what_it_is(table: type[msgspec.Struct]) -> None:
    assert [c.name for c in columns(table) if not c.description] == []


@pytest.mark.parametrize("table", FACTS.values(), ids=FACTS)
def test_a_name_that_ends_in_a_unit_has_that_unit(table: type[msgspec.Struct]) -> None:
    suffixes = {"_us": ("us", "us since 1970"), "_kbps": ("kbit/s",), "_bp": ("bp",)}
    for column in columns(table):
        for suffix, units in suffixes.items():
            if column.name.endswith(suffix):
                assert column.unit in units, column.name


@pytest.mark.parametrize("name", FACTS)
def test_sort_keys_and_owner_are_columns(name: str) -> None:
    known = {c.name for c in columns(FACTS[name])}
    assert {*SORT_KEYS[name], OWNER[name]} <= known


def test_a_column_carries_bounds_choices_and_nullability() -> None:
    by_name = {c.name: c for c in columns(Reading)}
    assert by_name["rtt_p50_us"].nullable
    assert (by_name["rtt_p50_us"].ge, by_name["rtt_p50_us"].le) == (0, 3_600_000_000)
    assert by_name["rung"].choices == tuple(rung.value for rung in Rung)
    assert not by_name["src"].nullable
    assert {c.name: c for c in columns(Hop)}["ttl"].le == 255
    assert {c.name: c for c in columns(Flow)}["service_port"].le == 65535


def test_only_relay_rungs_are_relayed() -> None:
    assert [rung for rung in Rung if rung.relayed] == [Rung.RELAY_UDP, Rung.RELAY_TCP, Rung.RELAY_TLS]
