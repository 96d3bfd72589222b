"""The STUN responder, against RFC 8489, RFC 5769's test vectors, aioice's codec and a real socket."""

import asyncio
import struct
from ipaddress import ip_address

import aioice.stun
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.listeners import stun_responders
from server.settings import Address
from server.stun import MAX_GROWTH, Change, Counters, Doors, NotStunError, doors_from, respond, xor_address

ID = bytes(range(12))
BARE = struct.pack("!HHI", 0x0001, 0, 0x2112A442) + ID
SOURCE = ("192.0.2.7", 4242)


def request(*attributes: tuple[int, bytes]) -> bytes:
    body = b"".join(
        struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4) for kind, value in attributes
    )
    return struct.pack("!HHI", 0x0001, len(body), 0x2112A442) + ID + body


@pytest.mark.parametrize("source", [SOURCE, ("2001:db8::7", 65_535)])
def test_a_binding_request_is_told_where_it_came_from(source: tuple[str, int]) -> None:
    reply, success, *_ = respond(BARE, source)
    message = aioice.stun.parse_message(reply)  # checks the FINGERPRINT
    assert success
    assert message.transaction_id == ID
    assert message.attributes["XOR-MAPPED-ADDRESS"] == source
    assert message.attributes["SOFTWARE"] == "pathgrade"


def test_the_address_is_hidden_as_in_rfc_5769() -> None:
    transaction = bytes.fromhex("b7e7a701bc34d686fa87dfae")
    assert xor_address(("192.0.2.1", 32853), transaction).hex() == "0001a147e112a643"
    expected = "0002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    assert xor_address(("2001:db8:1234:5678:11:2233:4455:6677", 32853), transaction).hex() == expected


def test_ipv4_on_a_socket_for_both_families_is_told_as_ipv4() -> None:
    reply, *_ = respond(BARE, ("::ffff:192.0.2.7", 4242))
    assert aioice.stun.parse_message(reply).attributes["XOR-MAPPED-ADDRESS"] == SOURCE


def test_unknown_required_attributes_are_refused_by_number() -> None:
    reply, success, *_ = respond(request((0x0003, b"\0\0\0\6"), (0x7FFF, b""), (0xC001, b"x")), SOURCE)
    message = aioice.stun.parse_message(reply)
    assert not success
    assert message.attributes["ERROR-CODE"] == (420, "Unknown Attribute")
    assert struct.pack("!HHHH", 0x000A, 4, 0x0003, 0x7FFF) in reply


def test_a_request_of_a_real_client_is_answered() -> None:
    asked = aioice.stun.Message(aioice.stun.Method.BINDING, aioice.stun.Class.REQUEST)
    asked.attributes["USERNAME"] = "a:b"
    asked.add_message_integrity(b"k" * 20)
    _, success, *_ = respond(bytes(asked), SOURCE)
    assert success


FOUR = [(host, port) for host in ("198.51.100.18", "198.51.100.19") for port in (3478, 3479)]
DOORS = doors_from(FOUR[0], FOUR)


@pytest.mark.parametrize(
    ("flags", "change", "origin"),
    [(0, Change(), 0), (2, Change(port=True), 1), (4, Change(address=True), 2), (6, Change(True, True), 3)],
)
def test_an_answer_leaves_by_the_door_that_was_asked_for(flags: int, change: Change, origin: int) -> None:
    answer = respond(request((0x0003, bytes([0, 0, 0, flags]))), SOURCE, DOORS)
    message = aioice.stun.parse_message(answer.reply)
    assert (answer.success, answer.change, answer.port) == (True, change, SOURCE[1])
    assert message.attributes["RESPONSE-ORIGIN"] == FOUR[origin]
    assert message.attributes["OTHER-ADDRESS"] == FOUR[3]


def test_one_address_with_two_ports_names_its_other_port_and_refuses_what_it_has_not() -> None:
    doors = doors_from(FOUR[0], FOUR[:2])
    message = aioice.stun.parse_message(respond(BARE, SOURCE, doors).reply)
    assert message.attributes["OTHER-ADDRESS"] == FOUR[1]
    assert respond(request((0x0003, b"\0\0\0\2")), SOURCE, doors).success
    assert not respond(request((0x0003, b"\0\0\0\6")), SOURCE, doors).success
    alone = aioice.stun.parse_message(respond(BARE, SOURCE, Doors(FOUR[0])).reply)
    assert "OTHER-ADDRESS" not in alone.attributes


def test_an_answer_goes_to_the_port_that_was_asked_for() -> None:
    answer = respond(request((0x0027, b"\x10\x00\0\0")), SOURCE, DOORS)
    assert (answer.success, answer.port) == (True, 4096)


@pytest.mark.parametrize("bad", [(0x0027, b"\0\0\0\0"), (0x0027, b"abc"), (0x0003, b"\6")])
def test_a_change_or_port_that_does_not_read_gets_no_answer(bad: tuple[int, bytes]) -> None:
    with pytest.raises(NotStunError):
        respond(request(bad), SOURCE, DOORS)


@pytest.mark.parametrize(
    ("what", "packet"),
    [
        ("empty", b""),
        ("cut short", BARE[:19]),
        ("odd length", BARE + b"\0"),
        ("length field too small", BARE + b"\0\0\0\0"),
        ("no magic cookie (RFC 3489)", BARE[:4] + b"\0\0\0\0" + BARE[8:]),
        ("a response", struct.pack("!HHI", 0x0101, 0, 0x2112A442) + ID),
        ("an indication", struct.pack("!HHI", 0x0011, 0, 0x2112A442) + ID),
        ("an Allocate request", struct.pack("!HHI", 0x0003, 0, 0x2112A442) + ID),
        ("DTLS", b"\x16\xfe\xfd" + bytes(21)),
        (
            "an attribute past the end",
            request((0x8022, b"abcd"))[:-8] + struct.pack("!HH", 0x8022, 64) + b"abcd",
        ),
        ("a wrong FINGERPRINT", request((0x8028, b"\0\0\0\0"))),
        ("a FINGERPRINT that is not last", request((0x8028, b"\0\0\0\0"), (0x8022, b"abcd"))),
        ("far too long", request((0x8022, bytes(4000)))),
    ],
)
def test_what_is_not_a_binding_request_gets_no_answer(what: str, packet: bytes) -> None:
    with pytest.raises(NotStunError):
        respond(packet, SOURCE)


@given(st.binary(max_size=120))
def test_garbage_raises_nothing_else_and_never_grows(tail: bytes) -> None:
    padded = tail + bytes(-len(tail) % 4)
    packet = struct.pack("!HHI", 0x0001, len(padded), 0x2112A442) + ID + padded
    doors = doors_from(("2001:db8::8", 3478), [("2001:db8::9", 3479)])
    try:
        reply, *_ = respond(packet, ("2001:db8::1", 1), doors)
    except NotStunError:
        return
    assert len(reply) <= len(packet) + MAX_GROWTH


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_over_a_real_socket(host: str) -> None:
    async def ask() -> None:
        counters = Counters()
        (server,) = await stun_responders([Address(host, 0)], counters)
        arrived: asyncio.Queue[bytes] = asyncio.Queue()

        class Client(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: object) -> None:
                arrived.put_nowait(data)

        where = server.get_extra_info("sockname")[:2]
        client, _ = await asyncio.get_running_loop().create_datagram_endpoint(Client, remote_addr=where)
        client.sendto(b"not stun")
        client.sendto(BARE)
        reply = aioice.stun.parse_message(await asyncio.wait_for(arrived.get(), 30))
        seen, port = client.get_extra_info("sockname")[:2]
        assert ip_address(reply.attributes["XOR-MAPPED-ADDRESS"][0]) == ip_address(seen)
        assert reply.attributes["XOR-MAPPED-ADDRESS"][1] == port
        assert (counters.answered, counters.dropped) == (1, 1)
        client.close()
        server.close()

    asyncio.run(ask())


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_another_door_answers_over_real_sockets(host: str) -> None:
    async def ask() -> None:
        servers = await stun_responders([Address(host, 0), Address(host, 0)], Counters())
        here, other = (server.get_extra_info("sockname")[1] for server in servers)
        arrived: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()

        class Client(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                arrived.put_nowait((data, addr))

        loop = asyncio.get_running_loop()
        client, _ = await loop.create_datagram_endpoint(Client, local_addr=("127.0.0.1", 0))
        client.sendto(request((0x0003, b"\0\0\0\2")), ("127.0.0.1", here))
        data, source = await asyncio.wait_for(arrived.get(), 30)
        attributes = aioice.stun.parse_message(data).attributes
        assert source == attributes["RESPONSE-ORIGIN"] == attributes["OTHER-ADDRESS"] == ("127.0.0.1", other)
        client.close()
        for server in servers:
            server.close()

    asyncio.run(ask())
