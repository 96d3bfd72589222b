"""What each tool says of every round trip, beside what the network took for that very packet. Pure.

A tool's requests and replies are found in what passed by the numbers in them (ping, irtt, sockperf). The
product's are encrypted: its records are taken in the order in which its ends say they sent them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import pvariance
from typing import Any, Final, NamedTuple

import msgspec

from benches.errors import PartError
from benches.told import EndTold, Trip
from benches.wire_truth import ICMP, UDP, Passed, Ways

_PING_LINE: Final = re.compile(r"icmp_seq=(\d+) .*time=([\d.]+) ms")
_PING_REQUEST: Final = 8
_PING_REPLY: Final = 0
_IRTT_MAGIC: Final = bytes.fromhex("14a75b")
_IRTT_REPLY: Final = 2
_SOCKPERF_BYTES: Final = 14
_SOCKPERF_PING: Final = 3
_SOCKPERF_PONG: Final = 2
_SOCKPERF_LOG: Final = "packet, txTime"
DTLS_DATA: Final = 23  # RFC 6347: content type application_data


class Compared(NamedTuple):
    """One round trip as a tool told it, and as it was."""

    told_ns: int
    true_ns: int

    @property
    def error_ns(self) -> int:
        """How far it is off, either way."""
        return abs(self.told_ns - self.true_ns)


class Met(NamedTuple):
    """What a tool said of its requests."""

    compared: list[Compared]
    sent: int

    @property
    def used_share(self) -> float:
        """Of its requests, those that it has a round trip of."""
        return len(self.compared) / self.sent if self.sent else 0.0


class OneWay(NamedTuple):
    """Requests of one direction and how many of them a tool calls lost."""

    sent: int
    lost: int


Number = Callable[[Passed], int | None]
"""The sequence number in a packet; None if it is no such packet."""


def ping(printed: str, passed: Ways) -> Met:
    """Read what ``ping`` printed."""
    told = {int(number): round(float(ms) * 1e6) for number, ms in _PING_LINE.findall(printed)}
    true = _round_trips(passed, _icmp(_PING_REQUEST), _icmp(_PING_REPLY))
    return _met(told, true)


def irtt(printed: str, passed: Ways) -> Met:
    """Read the JSON of ``irtt client -o -``."""
    told = {
        int(trip["seqno"]): int(trip["delay"]["rtt"])
        for trip in msgspec.json.decode(printed)["round_trips"]
        if trip["lost"] == "false"
    }
    return _met(told, _round_trips(passed, _irtt(0), _irtt(_IRTT_REPLY)))


def irtt_losses(printed: str) -> tuple[OneWay, OneWay]:
    """Read its losses, to the server and back: of the replies, those to requests that the server got."""
    stats: dict[str, Any] = msgspec.json.decode(printed)["stats"]
    sent, there, back = (
        int(stats[key]) for key in ("packets_sent", "server_packets_received", "packets_received")
    )
    return OneWay(sent, sent - there), OneWay(there, there - back)


def sockperf(log: str, passed: Ways) -> Met:
    """Read the file of ``sockperf --full-rtt --full-log``.

    It counts from 0 after a warm-up of unknown length; which packet that was is where its send times fit
    those on the network best.
    """
    rows = [line.split(",") for line in log.partition(_SOCKPERF_LOG)[2].splitlines() if line[:1].isdigit()]
    sent_ns = [round(float(sent_s) * 1e9) for _, sent_s, _, _ in rows]
    true = _round_trips(passed, _sockperf(_SOCKPERF_PING), _sockperf(_SOCKPERF_PONG))
    entered = _numbered(passed.up, _sockperf(_SOCKPERF_PING))
    first = _best_shift(sent_ns, {number: one.entered_ns for number, one in entered.items()})
    told = {first + index: round(float(us) * 1e3) for index, (_, _, _, us) in enumerate(rows)}
    return _met(told, true)


def _best_shift(sent_ns: Sequence[int], entered_ns: dict[int, int]) -> int:
    shifts = [first for first in entered_ns if first + len(sent_ns) - 1 in entered_ns]
    if len(sent_ns) < 2 or not shifts:
        raise PartError("sockperf's packets are not those on the network", remedy="run the bench again")

    def spread(first: int) -> float:
        return pvariance([entered_ns[first + index] - at_ns for index, at_ns in enumerate(sent_ns)])

    return min(shifts, key=spread)


def pathgrade(own: EndTold, peer: EndTold, out: Sequence[Passed], back: Sequence[Passed]) -> Met:
    """Read what one end told; ``out`` is what passed on the way from it to its peer."""
    sent = _in_order(own, peer, out)
    returned = _in_order(peer, own, back)
    used = {
        number for number, trip in enumerate(own.trips) if trip.rtt_ns is not None and _is_used(own, trip)
    }
    if len(used) != own.reading.rtt_n:
        raise PartError(
            f"a reading is made of {own.reading.rtt_n} round trips, not of these {len(used)}",
            remedy="benches/meters.py and Requester.summary differ: mend the bench",
        )
    told = {number: own.trips[number].rtt_ns or 0 for number in used}
    true = {
        number: sent["request", number] + returned["reply", number]
        for number in used
        if ("request", number) in sent and ("reply", number) in returned
    }
    return Met(_met(told, true).compared, own.reading.sent)


def _is_used(told: EndTold, trip: Trip) -> bool:
    """As ``Requester.summary``: by the kernel's stamps, if the reading says so."""
    by_kernel = told.reading.stamps == "kernel"
    return not trip.spoiled and (trip.rtt_ns or 0) >= 0 and (trip.kernel or not by_kernel)


def _in_order(sender: EndTold, peer: EndTold, passed: Sequence[Passed]) -> dict[tuple[str, int], int]:
    """What each request and reply of a sender took: (kind, number of the request) -> ns.

    Requests and replies are of one size, which no other record has. Nothing may be lost here.
    """
    sendings = [(trip.t1_ns, ("request", number)) for number, trip in enumerate(sender.trips)]
    sendings += [(trip.t3_ns, ("reply", number)) for number, trip in enumerate(peer.trips) if trip.t3_ns]
    records = _probe_records(passed)
    if len(records) != len(sendings):
        raise PartError(
            f"an end sent {len(sendings)} probes, {len(records)} passed", remedy="run the bench again"
        )
    order = [key for _, key in sorted(sendings)]
    return {key: record.took_ns for key, record in zip(order, records, strict=True)}


def _probe_records(passed: Iterable[Passed]) -> list[Passed]:
    records = [one for one in passed if one.protocol == UDP and one.data[:1] == bytes([DTLS_DATA])]
    sizes = Counter(len(one.data) for one in records)
    size = max(sizes, key=lambda one: sizes[one], default=0)
    return [one for one in records if len(one.data) == size]


# --- by number ----------------------------------------------------------------------------------------------


def _met(told_ns: dict[int, int], true_ns: dict[int, int]) -> Met:
    compared = [Compared(told_ns[number], true_ns[number]) for number in told_ns if number in true_ns]
    return Met(compared, max(len(true_ns), len(told_ns)))


def _round_trips(passed: Ways, request: Number, reply: Number) -> dict[int, int]:
    """What the network took for each request and its reply, in ns."""
    there, back = _numbered(passed.up, request), _numbered(passed.down, reply)
    return {number: there[number].took_ns + back[number].took_ns for number in there if number in back}


def _numbered(passed: Iterable[Passed], number: Number) -> dict[int, Passed]:
    found: dict[int, Passed] = {}
    for one in passed:
        if (its := number(one)) is not None:
            found.setdefault(its, one)
    return found


def _icmp(kind: int) -> Number:
    def number(one: Passed) -> int | None:
        is_it = one.protocol == ICMP and one.data[0] == kind
        return int.from_bytes(one.data[6:8], "big") if is_it else None

    return number


def _irtt(flags: int) -> Number:
    def number(one: Passed) -> int | None:
        is_it = one.protocol == UDP and one.data[:4] == _IRTT_MAGIC + bytes([flags])
        return int.from_bytes(one.data[12:16], "little") if is_it else None

    return number


def _sockperf(kind: int) -> Number:
    def number(one: Passed) -> int | None:
        is_it = len(one.data) == _SOCKPERF_BYTES and one.data[8:10] == kind.to_bytes(2, "big")
        return int.from_bytes(one.data[:8], "big") if is_it else None

    return number
