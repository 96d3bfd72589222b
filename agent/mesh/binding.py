"""STUN Binding as NAT behaviour discovery uses it (RFC 5780), in aioice's codec."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from agent.mesh.ice import stun

Endpoint = tuple[str, int]

ID_BYTES: Final = 12
CHANGE_ADDRESS_FLAG: Final = 0x04
CHANGE_PORT_FLAG: Final = 0x02

_RESPONSE_PORT: Final = (0x0027, "RESPONSE-PORT", stun.pack_unsigned_short, stun.unpack_unsigned_short)
stun.ATTRIBUTES_BY_TYPE.setdefault(_RESPONSE_PORT[0], _RESPONSE_PORT)  # not among aioice's
stun.ATTRIBUTES_BY_NAME.setdefault(_RESPONSE_PORT[1], _RESPONSE_PORT)


class BindingError(ValueError):
    """A datagram that is no answer and no request of ours."""


class Change(NamedTuple):
    """From which other door of the server an answer is asked for."""

    address: bool = False
    port: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    """What a Binding message told."""

    transaction: bytes
    request: bool  # our own, come back through the NAT
    mapped: Endpoint | None = None
    other: Endpoint | None = None  # another address, or port, the server answers at


def new_id() -> bytes:
    """A transaction id nobody can guess."""
    return os.urandom(ID_BYTES)


def request(transaction: bytes, change: Change | None = None, response_port: int | None = None) -> bytes:
    """Encode a Binding request."""
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, transaction)
    if change is not None:
        flags = CHANGE_ADDRESS_FLAG * change.address | CHANGE_PORT_FLAG * change.port
        message.attributes["CHANGE-REQUEST"] = flags
    if response_port is not None:
        message.attributes["RESPONSE-PORT"] = response_port
    return bytes(message)


def read(data: bytes) -> Binding:
    """Decode what came in. Raises ``BindingError``."""
    try:
        message = stun.parse_message(data)
    except (ValueError, LookupError, struct.error) as error:
        raise BindingError(f"not STUN: {error}") from error
    if message.message_method is not stun.Method.BINDING:
        raise BindingError("not a Binding")
    if message.message_class is stun.Class.REQUEST:
        return Binding(message.transaction_id, request=True)
    mapped = message.attributes.get("XOR-MAPPED-ADDRESS")
    if message.message_class is not stun.Class.RESPONSE or mapped is None:
        raise BindingError("no mapped address")
    return Binding(message.transaction_id, False, mapped, message.attributes.get("OTHER-ADDRESS"))
