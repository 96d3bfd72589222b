"""The search for the path MTU against paths that are one line each; and over a real loopback socket."""

from __future__ import annotations

import asyncio

import pytest

from agent.mesh.mtu import (
    FIRST_SEQUENCE,
    MAX_PACKETS,
    SIZES,
    MtuProbe,
    MtuSearch,
    PathMtu,
    is_due,
    waiting_s,
)
from agent.mesh.packet import RawKind, decode_raw
from agent.mesh.stamps import IcmpError

TOKEN = b"12345678"


def searched(mtu: int, *, says: int | None = None, v6: bool = False) -> PathMtu:
    """Search a path that takes ``mtu`` and whose router says ``says`` of what it drops (None: nothing)."""
    search = MtuSearch(v6)
    while (size := search.next()) is not None:
        if size <= mtu:
            search.acknowledged()
        elif says is not None:
            search.too_long(says)
        else:
            search.silent()
    return search.found()


def test_an_ordinary_path_costs_one_datagram() -> None:
    assert searched(1500) == PathMtu(1500, False, 1)
    assert searched(9000) == PathMtu(1500, False, 1)


def test_a_router_that_speaks_costs_two_and_is_believed_only_if_it_is_right() -> None:
    assert searched(1372, says=1372) == PathMtu(1372, False, 2)
    lied = searched(1400, says=1480)
    assert (lied.mtu, lied.black_hole) == (1400, False)
    assert searched(1400, says=68).mtu == 1400


@pytest.mark.parametrize("mtu", SIZES[1:])
def test_a_black_hole_is_found_at_the_sizes_that_links_have(mtu: int) -> None:
    found = searched(mtu)
    assert found.black_hole is True
    assert found.packets <= MAX_PACKETS
    assert found.mtu is not None
    assert mtu - 40 <= found.mtu <= mtu


def test_a_path_that_takes_nothing_says_nothing() -> None:
    assert searched(0) == PathMtu(None, None, 7)
    assert searched(1200).mtu == 1192  # by halves, as near as ten datagrams get
    assert searched(1200, v6=True).mtu is None


def test_one_lost_datagram_is_not_a_black_hole() -> None:
    search = MtuSearch(False)
    assert search.next() == 1500
    search.silent()
    assert search.next() == 1500
    search.acknowledged()
    assert search.next() is None
    assert search.found() == PathMtu(1500, False, 2)


def test_every_nth_test_the_first_and_after_a_change() -> None:
    assert [is_due(3, since, changed=False) for since in (None, 0, 1, 2)] == [True, False, False, True]
    assert is_due(3, 0, changed=True)
    assert not is_due(0, None, changed=True)


def test_the_wait_follows_the_round_trip_within_bounds() -> None:
    assert [waiting_s(rtt_us) for rtt_us in (None, 1_000, 100_000, 900_000)] == pytest.approx(
        [0.1, 0.1, 0.3, 1]
    )


def too_long(mtu: int, quoted: bytes = b"") -> IcmpError:
    return IcmpError(0, False, 3, 4, "203.0.113.1", quoted, mtu=mtu)


def test_datagrams_carry_the_size_and_answers_of_others_do_not_count() -> None:
    sizes: list[int] = []

    async def main() -> PathMtu:
        probe = MtuProbe(TOKEN, v6=False, headers=28)

        def send(data: bytes) -> bool:
            raw = decode_raw(data)
            assert (raw.kind, raw.token) == (RawKind.HOP_PROBE, TOKEN)
            sizes.append(len(data) + 28)
            assert not probe.on_reply(raw.sequence + 1)
            assert not probe.on_icmp(too_long(600, b"\xc1" + bytes(40)))
            assert not probe.on_icmp(IcmpError(0, False, 11, 0, "203.0.113.1", data))
            if len(data) + 28 > 1400:
                assert probe.on_icmp(too_long(1400, data))
            else:
                assert raw.sequence > FIRST_SEQUENCE
                assert probe.on_reply(raw.sequence)
            return True

        return await probe.search(send, wait_s=0.05)

    assert asyncio.run(main()) == PathMtu(1400, False, 2)
    assert sizes == [1500, 1400]


def test_an_answer_that_comes_late_counts_for_its_size() -> None:
    tries: list[int] = []

    async def main() -> PathMtu:
        probe = MtuProbe(TOKEN, v6=False, headers=28)

        def send(data: bytes) -> bool:
            tries.append(decode_raw(data).sequence)
            if len(tries) == 2:
                assert probe.on_reply(tries[0])
            return True

        return await probe.search(send, wait_s=0.01)

    assert asyncio.run(main()) == PathMtu(1500, False, 2)


def test_a_wire_that_sends_nothing_ends_the_search() -> None:
    async def main() -> PathMtu:
        return await MtuProbe(TOKEN, v6=False, headers=28).search(lambda _: False, wait_s=1)

    assert asyncio.run(main()).mtu is None
