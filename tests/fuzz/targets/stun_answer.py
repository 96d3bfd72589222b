"""STUN answers that an agent reads to learn what its NAT does (agent/mesh/binding.py, in aioice's codec)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from shaped import Taken, chosen, either

from agent.mesh import binding
from agent.mesh.binding import BindingError, Change
from server.stun import MAGIC_COOKIE, Doors, respond

ALLOWED = (BindingError,)
ID = b"transaction0"


def target(data: bytes) -> object:
    return either(data, _read, _attributes)


def _read(data: bytes) -> None:
    found = binding.read(data)
    assert len(found.transaction) == binding.ID_BYTES
    for endpoint in (found.mapped, found.other):
        assert endpoint is None or (isinstance(endpoint[0], str) and 0 <= endpoint[1] < 65_536)


def _attributes(data: bytes) -> None:
    taken = Taken(data)
    kind = taken.one_of((0x0001, 0x0101, 0x0111))
    attributes = b""
    while value := taken.some(32):
        number, body = int.from_bytes(value[:2], "big"), value[2:]
        attributes += struct.pack("!HH", number, len(body)) + body + bytes(-len(body) % 4)
    _read(struct.pack("!HHI12s", kind, len(attributes), MAGIC_COOKIE, ID) + attributes)


def seeds() -> Iterator[bytes]:
    yield chosen(0, binding.request(ID, Change(address=True, port=True), 4000))
    for source in (("192.0.2.7", 40_000), ("2001:db8::7", 40_000)):
        asked = binding.request(ID)
        yield chosen(
            0,
            respond(
                asked, source, Doors(("192.0.2.1", 3478), {Change(port=True): ("192.0.2.1", 3479)})
            ).reply,
        )
    yield chosen(1, b"\1\x0a\0\x20\0\1\x12\x34\x56\x78\x9a\xbc\6\x80\x22path")
