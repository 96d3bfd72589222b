"""Of which tests both ends sign their readings, and the file in which receipts leave the server."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from server.schedule import Pair

SMALL_FLEET: Final = 100
"""Agents of a tenant up to which every test is signed: it costs 150 bytes a reading on the disk."""


class Receipts(StrEnum):
    """What the operator set."""

    AUTO = "auto"
    ALL = "all"
    OFF = "off"


class Fleet(NamedTuple):
    """What decides: how many agents a tenant has, and which have a service on their host."""

    agents: int
    serving: frozenset[str]


def wants_receipt(setting: Receipts, fleet: Fleet, pair: Pair) -> bool:
    """Say whether both ends of a test are told to sign."""
    if setting is not Receipts.AUTO:
        return setting is Receipts.ALL
    return fleet.agents <= SMALL_FLEET or not fleet.serving.isdisjoint(pair)
