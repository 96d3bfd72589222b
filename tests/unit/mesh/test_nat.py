"""What a NAT does, judged from answers: against simulated NATs of every kind, and over real sockets."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.mesh import binding, nat, survey
from agent.mesh.binding import BindingError, Change, Endpoint
from agent.mesh.nat import HERE, OTHER_ADDRESS, OTHER_BOTH, OTHER_PORT, LifetimeSearch
from agent.mesh.stamps import StampingLoop
from analytics.wire import Dependence
from server.listeners import stun_responders
from server.settings import Address
from server.stun import Counters

LOCAL = ("192.168.1.10", 4000)
SERVER, OTHER = ("198.51.100.18", 3478), ("198.51.100.19", 3479)
ONE_ADDRESS = ("198.51.100.18", 3479)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        return runner.run(main)


@dataclass
class Nat:
    """A NAT by the book: a mapping per inside socket and whatever it depends on (RFC 4787 section 4.1)."""

    mapping: Dependence
    filtering: Dependence
    public: str = "203.0.113.2"
    _ports: Any = field(default_factory=lambda: itertools.count(50_000))
    _mapped: dict[tuple[object, ...], int] = field(default_factory=dict)
    _sent: set[Endpoint] = field(default_factory=set)

    def out(self, to: Endpoint) -> Endpoint:
        """How a datagram from inside is seen at ``to``."""
        self._sent.add(to)
        if self.mapping is Dependence.NONE:
            return LOCAL
        key = _part(self.mapping, to)
        if key not in self._mapped:
            self._mapped[key] = next(self._ports)
        return self.public, self._mapped[key]

    def lets_in(self, source: Endpoint) -> bool:
        known = {_part(self.filtering, to) for to in self._sent}
        return _part(self.filtering, source) in known


def _part(kind: Dependence, to: Endpoint) -> tuple[object, ...]:
    parts: dict[Dependence, tuple[object, ...]] = {
        Dependence.ADDRESS: to[:1],
        Dependence.ADDRESS_AND_PORT: to,
    }
    return parts.get(kind, ())


KINDS = [Dependence.ENDPOINT_INDEPENDENT, Dependence.ADDRESS, Dependence.ADDRESS_AND_PORT]


@pytest.mark.parametrize("mapping", [Dependence.NONE, *KINDS])
@pytest.mark.parametrize("filtering", KINDS)
def test_every_kind_of_nat_is_told_from_two_addresses(mapping: Dependence, filtering: Dependence) -> None:
    doors = nat.targets(SERVER, OTHER)
    assert doors == {
        HERE: SERVER,
        OTHER_PORT: ("198.51.100.18", 3479),
        OTHER_ADDRESS: ("198.51.100.19", 3478),
        OTHER_BOTH: OTHER,
    }
    simulated = Nat(mapping, filtering)
    assert nat.mapping(LOCAL, {change: simulated.out(door) for change, door in doors.items()}) is mapping
    simulated = Nat(mapping, filtering)
    simulated.out(SERVER)
    heard = {change: simulated.lets_in(doors[change]) for change in (HERE, OTHER_PORT, OTHER_BOTH)}
    assert nat.filtering(heard) is filtering


@pytest.mark.parametrize("kind", KINDS)
def test_one_address_with_two_ports_tells_as_much_as_it_can(kind: Dependence) -> None:
    doors = nat.targets(SERVER, ONE_ADDRESS)
    assert doors == {HERE: SERVER, OTHER_PORT: ONE_ADDRESS}
    honest = kind if kind is Dependence.ADDRESS_AND_PORT else Dependence.NOT_PORT
    simulated = Nat(kind, kind)
    assert nat.mapping(LOCAL, {change: simulated.out(door) for change, door in doors.items()}) is honest
    simulated = Nat(kind, kind)
    simulated.out(SERVER)
    assert nat.filtering({change: simulated.lets_in(door) for change, door in doors.items()}) is honest


def test_what_was_not_heard_is_unknown() -> None:
    assert nat.targets(SERVER, None) == {HERE: SERVER}
    assert nat.mapping(LOCAL, {}) is Dependence.UNKNOWN
    assert nat.mapping(LOCAL, {HERE: OTHER}) is Dependence.UNKNOWN
    assert nat.mapping(LOCAL, {HERE: OTHER, OTHER_ADDRESS: None}) is Dependence.UNKNOWN
    assert nat.filtering({HERE: True}) is Dependence.UNKNOWN
    assert nat.filtering({HERE: False, OTHER_PORT: True}) is Dependence.UNKNOWN


@pytest.mark.parametrize(
    ("addresses", "hint"),
    [
        ([], None),
        ([""], None),
        (["192.168.1.10", "203.0.113.2"], False),
        (["192.168.1.10", "100.64.3.1"], True),
        (["100.63.255.255", "100.128.0.0"], False),
    ],
)
def test_a_carriers_nat_is_told_by_its_address_block(addresses: list[str], hint: bool | None) -> None:
    assert nat.cgnat(addresses) is hint


@given(st.integers(1, 600))
def test_the_lifetime_of_a_mapping_is_found_in_few_waits_and_never_overstated(true_s: int) -> None:
    search, waits = LifetimeSearch(), []
    while (wait_s := search.next_s) is not None:
        waits.append(wait_s)
        search = search.after(wait_s, alive=wait_s < true_s)
    assert len(waits) <= 8
    assert max(waits) <= nat.LIFETIME_MOST_S
    assert search.alive_s < true_s
    assert search.alive_s == nat.LIFETIME_MOST_S or true_s - search.alive_s <= nat.LIFETIME_RESOLUTION_S


# --- messages --------------------------------------------------------------------------------------------


def test_a_request_asks_for_another_door_and_another_port() -> None:
    identity = binding.new_id()
    packet = binding.request(identity, Change(address=True, port=True), response_port=4711)
    assert bytes.fromhex("0003000400000006") in packet
    assert bytes.fromhex("0027000412670000") in packet
    assert binding.read(packet) == binding.Binding(identity, request=True)


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_else(data: bytes) -> None:
    with pytest.raises(BindingError):
        binding.read(data)


@given(st.binary(max_size=60), st.sampled_from([0x0001, 0x0101, 0x0111, 0x0003, 0x3FFF]))
def test_garbage_behind_a_good_header_raises_nothing_else(tail: bytes, kind: int) -> None:
    head = kind.to_bytes(2, "big") + len(tail).to_bytes(2, "big") + bytes.fromhex("2112a442") + bytes(12)
    try:
        assert binding.read(head + tail).transaction == bytes(12)
    except BindingError:
        return


# --- over real sockets -----------------------------------------------------------------------------------


def opened(*doors: tuple[str, int]) -> Coroutine[Any, Any, list[asyncio.DatagramTransport]]:
    return stun_responders([Address(*door) for door in doors], Counters())


def free_ports() -> tuple[int, int]:
    """Two UDP ports that nobody on this host uses, at any of its addresses."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for sock in (one, other):
            sock.bind(("", 0))
        return one.getsockname()[1], other.getsockname()[1]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
def test_a_host_without_a_nat_says_so(addresses: list[str]) -> None:
    async def main() -> None:
        ports = free_ports()
        doors = await opened(*((host, port) for host in addresses for port in ports))
        try:
            report = await survey.survey([f"stun:127.0.0.1:{ports[0]}"])
        finally:
            for door in doors:
                door.close()
        assert (report.udp, report.mapped, report.mapping) == (True, "127.0.0.1", Dependence.NONE)
        open_to_all = Dependence.ENDPOINT_INDEPENDENT if len(addresses) == 2 else Dependence.NOT_PORT
        assert report.filtering is open_to_all
        assert (report.hairpin, report.cgnat, report.lifetime_s) == (None, False, None)

    run(main())


def test_a_server_with_one_door_leaves_it_unknown_and_a_silent_one_is_passed_over() -> None:
    async def main() -> None:
        (door,) = await opened(("127.0.0.1", 0))
        port = door.get_extra_info("sockname")[1]
        try:
            report = await survey.survey(["stun:127.0.0.1:9", f"stun:127.0.0.1:{port}"])
        finally:
            door.close()
        assert (report.udp, report.filtering) == (True, Dependence.UNKNOWN)
        assert await survey.survey(["stun:127.0.0.1:9"]) == survey.BLOCKED
        assert await survey.survey([]) == survey.BLOCKED

    run(main())


@pytest.mark.parametrize(("answers", "found"), [(True, nat.LIFETIME_MOST_S), (False, 0)])
def test_the_lifetime_is_looked_at_with_a_second_socket(answers: bool, found: int) -> None:
    async def main() -> None:
        (door,) = await opened(("127.0.0.1", 0))
        port = door.get_extra_info("sockname")[1]
        waited: list[float] = []

        async def sleep(seconds: float) -> None:
            waited.append(seconds)

        idle = survey.Asker.datagram_received
        try:
            with pytest.MonkeyPatch.context() as patch:
                if not answers:  # as if the mapping were gone: what comes after the wait does not arrive
                    patch.setattr(
                        survey.Asker,
                        "datagram_received",
                        lambda asker, data, addr: None if _late(asker, waited) else idle(asker, data, addr),
                    )
                assert await survey.mapping_lifetime(f"stun:127.0.0.1:{port}", sleep=sleep) == found
        finally:
            door.close()
        assert waited == ([30, 60, 120, 180] if answers else [30, 15, 7])

    run(main())


def _late(asker: survey.Asker, waited: list[float]) -> bool:
    """Whether this socket has waited already: from its first answer on."""
    seen = getattr(asker, "answered_at", None)
    asker.answered_at = len(waited) if seen is None else seen  # type: ignore[attr-defined]
    return seen is not None and len(waited) > seen
