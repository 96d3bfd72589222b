from __future__ import annotations

from typing import Any

from agent.mesh.hops import HopTracer, PeerTarget
from agent.mesh.icmp import QuotedDatagram
from agent.mesh.stamps import Arrival, IcmpError

TOKEN = b"12345678"
MS = 1_000_000


def exceeded(router: str, at_ns: int, quoted: bytes, *, kind: int = 11) -> IcmpError:
    return IcmpError(at_ns, False, kind, 0, router, quoted)


def tracer() -> HopTracer:
    return HopTracer(PeerTarget("192.168.2.10", TOKEN), max_ttl=8)


def test_routers_and_the_end_by_their_kernel_stamps() -> None:
    trace = tracer()
    for ttl, router in ((1, "192.168.1.1"), (2, "203.0.113.1")):
        data, on_sent = trace.probe(ttl, now_ns=0)
        on_sent(10 * MS)
        trace.on_icmp(exceeded(router, (10 + ttl) * MS, data))
    trace.probe(3, now_ns=0)
    assert trace.on_end(3, Arrival(9 * MS, True), reflecting_ns=2 * MS)
    assert trace.limit == 3
    assert [(h.ttl, h.address, h.min_us, h.is_end) for h in trace.summary()] == [
        (1, "192.168.1.1", 1000, False),
        (2, "203.0.113.1", 2000, False),
        (3, "192.168.2.10", 7000, True),
    ]


def test_a_silent_router_is_a_row_without_an_answer() -> None:
    trace = tracer()
    trace.probe(1, 0)
    data, _ = trace.probe(2, 0)
    trace.on_icmp(exceeded("203.0.113.1", MS, data))
    silent, heard = trace.summary()
    assert (silent.address, silent.sent, silent.answered, silent.min_us) == ("", 1, 0, None)
    assert heard.answered == 1


def test_answers_of_the_end_to_greater_ttls_find_the_least() -> None:
    trace = tracer()
    for ttl in (1, 2, 3, 4):
        trace.probe(ttl, 0)
    for sequence in (4, 3, 2):
        trace.on_end(sequence, Arrival(MS, True))
    assert trace.limit == 2
    assert [hop.is_end for hop in trace.summary()] == [False, True]


def test_strangers_duplicates_and_nonsense_do_not_count() -> None:
    trace = tracer()
    data, _ = trace.probe(1, 0)
    trace.on_icmp(exceeded("198.51.100.1", MS, b"\xc1" + bytes(40)))  # another token
    trace.on_icmp(exceeded("198.51.100.1", MS, data, kind=3))  # unreachable, not exceeded
    trace.on_icmp(exceeded("192.168.1.1", MS, data))
    trace.on_icmp(exceeded("192.168.1.1", 2 * MS, data))
    assert not trace.on_end(99, Arrival(MS, True))
    assert not trace.on_end(1, Arrival(MS, True), reflecting_ns=-5)
    (hop,) = trace.summary()
    assert (hop.answered, hop.min_us) == (1, 1000)
    assert trace.unmatched == 2


def test_a_bare_quote_counts_only_if_one_probe_can_be_meant() -> None:
    trace = tracer()
    trace.probe(1, 0)
    trace.on_icmp(exceeded("192.168.1.1", MS, b""))
    trace.probe(2, 2 * MS)
    trace.probe(3, 2 * MS)
    trace.on_icmp(exceeded("203.0.113.1", 3 * MS, b""))
    assert [(h.ttl, h.answered) for h in trace.summary()] == [(1, 1)]
    assert trace.unmatched == 1


def answered(trace: HopTracer, ttl: int, router: str, **told: Any) -> None:
    data, _ = trace.probe(ttl, 0)
    trace.on_icmp(IcmpError(MS, False, 11, 0, router, data, **told))


def test_seldom_answers_are_a_limit_only_if_a_later_hop_always_answered() -> None:
    trace = tracer()
    trace.probe(1, 0)
    answered(trace, 1, "192.168.1.1")
    for _ in range(2):
        answered(trace, 2, "203.0.113.1")
    trace.probe(3, 0)
    answered(trace, 3, "203.0.113.6")
    trace.probe(4, 0)
    assert [hop.rate_limited for hop in trace.summary()] == [True, False, False]


def test_all_who_answered_at_one_ttl_are_told() -> None:
    trace = tracer()
    for router in ("203.0.113.1", "203.0.113.9", "203.0.113.1", "203.0.113.5"):
        answered(trace, 1, router)
    (hop,) = trace.summary()
    assert (hop.address, hop.others) == ("203.0.113.1", ("203.0.113.5", "203.0.113.9"))


def test_what_a_router_quotes_is_compared_with_what_was_sent() -> None:
    trace = HopTracer(PeerTarget("192.168.2.10", TOKEN), 8, ("203.0.113.6", 4000))
    answered(trace, 1, "192.168.1.1", destination=("203.0.113.6", 4000))
    answered(trace, 2, "203.0.113.1", destination=("192.0.2.7", 4001))
    assert [hop.rewritten for hop in trace.summary()] == ["", "192.0.2.7 4001"]


def test_a_broken_extension_is_counted_and_the_answer_stands() -> None:
    trace = tracer()
    data, _ = trace.probe(1, 0)
    broken = data.ljust(100, b"\0") + b"\x20\0\0\0\0\x09\1\1"
    trace.on_icmp(IcmpError(MS, False, 11, 0, "203.0.113.1", broken, extension_at=100))
    (hop,) = trace.summary()
    assert (hop.answered, hop.mpls, trace.malformed) == (1, "", 1)


def test_a_quoted_header_counts_for_its_own_probe_only() -> None:
    trace = tracer()
    data, _ = trace.probe(1, 0)
    trace.on_icmp(exceeded("192.168.1.1", MS, data))
    for payload, traffic_class in ((data, 2), (b"\xc1" + bytes(40), 40), (b"", 40)):
        trace.on_quoted(QuotedDatagram("192.168.1.1", traffic_class, "192.0.2.1", 9, payload))
    assert [hop.traffic_class for hop in trace.summary()] == [2]
