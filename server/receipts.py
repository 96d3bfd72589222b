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


class Unsigned(StrEnum):
    """Why there is no receipt of a test, as far as the server knows."""

    OFF = "off"
    LARGE = "large-fleet"
    NOT_HERE = "not-here"  # it was asked for, by today's settings


class Fleet(NamedTuple):
    """What decides: how many agents a tenant has, and which have a service on their host."""

    agents: int
    serving: frozenset[str]


def why_unsigned(setting: Receipts, fleet: Fleet, pair: Pair) -> Unsigned:
    """Say why a test has no receipt, where it has none; by what is set now."""
    if wants_receipt(setting, fleet, pair):
        return Unsigned.NOT_HERE
    return Unsigned.OFF if setting is Receipts.OFF else Unsigned.LARGE


def wants_receipt(setting: Receipts, fleet: Fleet, pair: Pair) -> bool:
    """Say whether both ends of a test are told to sign."""
    if setting is not Receipts.AUTO:
        return setting is Receipts.ALL
    return fleet.agents <= SMALL_FLEET or not fleet.serving.isdisjoint(pair)
