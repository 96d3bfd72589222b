"""Packets of a test that are not taken, by kind. Every one is dropped; none is silent."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum


class Refusal(StrEnum):
    """Why a packet is not taken."""

    FORGED = "forged"
    """Not by the peer (DTLS, token), or damaged."""
    REPLAYED = "replayed"
    """Seen before. Copies of probes are told apart, and counted as the network's duplicates."""
    UNSOLICITED = "unsolicited"
    """Of no kind, or an answer to nothing that was asked."""
    LATE = "late"
    """So far behind that DTLS can no longer tell it from a replay (RFC 6347 section 4.1.2.6)."""


Refusals = Counter[Refusal]
