"""The leg that added time, from the hops of both ends; silence where they do not tell."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from analytics.added import Place, Silence
from analytics.attribution import Attribution, Facts, OneWay, Trace, attribute
from analytics.measurement import LegKind
from tests.unit.analytics.facts import trace

NO_CLOCKS = OneWay(None, None)
LINKS_MS = (1, 4, 7, 6, 20, 4, 1)
ROUTERS = ("192.168.7.1", "203.0.113.1", "198.51.100.9", "198.51.100.17", "198.51.100.66", "10.20.0.1", "end")


def seen(
    links_ms: Sequence[float], silent: Sequence[str] = (), *, back: bool = False
) -> list[tuple[str, int | None]]:
    routers = [*reversed(ROUTERS[:-1]), "end"] if back else list(ROUTERS)
    links = list(reversed(links_ms)) if back else list(links_ms)
    told: list[tuple[str, int | None]] = []
    for at, router in enumerate(routers, start=1):
        rtt_us = round(1_000 * sum(links[:at]))
        told.append(("", None) if router in silent else ("192.0.2.9" if router == "end" else router, rtt_us))
    return told


def usual(told: list[tuple[str, int | None]]) -> dict[Place, int]:
    return {(ttl, address): rtt for ttl, (address, rtt) in enumerate(told, start=1) if rtt is not None}


def slower(
    link: int, *, silent: Sequence[str] = (), way: OneWay = NO_CLOCKS, by_ms: float = 30
) -> Attribution | Silence:
    links = [ms + (by_ms if at == link else 0) for at, ms in enumerate(LINKS_MS)]
    ends = [
        Trace(trace(*seen(links, silent, back=back)), usual(seen(LINKS_MS, silent, back=back)))
        for back in (False, True)
    ]
    now = Facts(round(1_000 * sum(links)), way)
    before = Facts(1_000 * sum(LINKS_MS), OneWay(21_500, 21_500, 1_000))
    return attribute(now, before, from_src=ends[0], from_dst=ends[1])


@pytest.mark.parametrize(
    ("link", "leg"),
    [
        (0, LegKind.SOURCE_HOST),
        (1, LegKind.SOURCE_ACCESS),
        (2, LegKind.TRANSIT),
        (3, LegKind.TRANSIT),
        (4, LegKind.TRANSIT),
        (5, LegKind.DESTINATION_ACCESS),
        (6, LegKind.DESTINATION_HOST),
    ],
)
def test_each_leg_is_found(link: int, leg: LegKind) -> None:
    assert slower(link) == Attribution(leg, 30_000, 30_000)


@pytest.mark.parametrize("silent", ["203.0.113.1", "198.51.100.66"])
def test_where_one_provider_is_silent_the_other_end_tells(silent: str) -> None:
    assert slower(1, silent=[silent]) == Attribution(LegKind.SOURCE_ACCESS, 30_000, 30_000)
    assert slower(5, silent=[silent]) == Attribution(LegKind.DESTINATION_ACCESS, 30_000, 30_000)


@pytest.mark.parametrize(
    ("forward_ms", "back_ms", "bound_ms", "direction"),
    [(51.5, 21.5, 1, "forward"), (21.5, 51.5, 1, "back"), (36.5, 36.5, 1, None), (51.5, 21.5, 20, None)],
)
def test_the_direction_is_that_of_the_one_way_delay_that_grew(
    forward_ms: float, back_ms: float, bound_ms: float, direction: str | None
) -> None:
    way = OneWay(round(1_000 * forward_ms), round(1_000 * back_ms), 1_000 * round(bound_ms))
    found = slower(1, way=way)
    assert isinstance(found, Attribution)
    assert found.direction == direction


def test_a_path_that_is_no_slower_has_no_leg() -> None:
    assert slower(1, by_ms=0) == Silence("the path is no slower than usual")


def test_ends_that_contradict_each_other_name_nothing() -> None:
    links = [ms + (30 if at == 1 else 0) for at, ms in enumerate(LINKS_MS)]
    lies = [ms + (30 if at == 5 else 0) for at, ms in enumerate(LINKS_MS)]
    found = attribute(
        Facts(1_000 * sum(links)),
        Facts(1_000 * sum(LINKS_MS)),
        from_src=Trace(trace(*seen(links)), usual(seen(LINKS_MS))),
        from_dst=Trace(trace(*seen(lies, back=True)), usual(seen(LINKS_MS, back=True))),
    )
    assert found == Silence("the two ends see it at different places")
