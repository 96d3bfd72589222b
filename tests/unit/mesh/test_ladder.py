from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import SignallingError
from agent.mesh.ladder import Candidate, Ladder, parse_candidate, possible, require_possible, unfit, usable
from analytics.measurement import Rung

HOST_A = Candidate("host", "192.168.1.10", 4000)
HOST_B = Candidate("host", "192.168.1.20", 4000)
PUBLIC_A = Candidate("srflx", "203.0.113.2", 4000, "192.168.1.10")
PUBLIC_B = Candidate("srflx", "203.0.113.6", 4000, "192.168.1.20")
OPEN_A = Candidate("srflx", "192.168.1.10", 4000, "192.168.1.10")
OPEN_B = Candidate("srflx", "192.168.1.20", 4000, "192.168.1.20")
WORLD_A = Candidate("srflx", "203.0.113.2", 4000, "203.0.113.2")
WORLD_B = Candidate("srflx", "203.0.113.6", 4000, "203.0.113.6")
GLOBAL_6 = Candidate("host", "2001:db8::1", 4000)
ULA_1 = Candidate("host", "fd00:0:1::1", 4000)
ULA_1_TOO = Candidate("host", "fd00:0:1:5::9", 4000)
ULA_2 = Candidate("host", "fd00:0:2::1", 4000)
RELAY = Candidate("relay", "198.51.100.18", 50000)


@pytest.mark.parametrize(
    ("rung", "mine", "theirs", "why"),
    [
        (Rung.LAN, [HOST_A, PUBLIC_A], [HOST_B, PUBLIC_A], ""),
        (Rung.LAN, [HOST_A, PUBLIC_A], [HOST_B, PUBLIC_B], "other network"),
        (Rung.LAN, [HOST_A], [HOST_B, PUBLIC_B], ""),  # no STUN: only trying tells
        (Rung.LAN, [HOST_A, OPEN_A], [HOST_B, OPEN_B], ""),  # routed without a NAT
        (Rung.LAN, [HOST_A, OPEN_A], [HOST_B, PUBLIC_B], "no NAT"),
        (Rung.LAN, [HOST_A, WORLD_A], [HOST_B, WORLD_B], "no NAT here, no NAT at the peer"),
        (Rung.LAN, [HOST_A], [GLOBAL_6], "no IPv4 address at the peer"),
        (Rung.IPV6, [HOST_A], [GLOBAL_6], "none here"),
        (Rung.IPV6, [GLOBAL_6], [HOST_B], "none at the peer"),
        (Rung.IPV6, [GLOBAL_6], [GLOBAL_6], ""),
        (Rung.IPV6, [ULA_1], [ULA_2], "unique local"),
        (Rung.IPV6, [ULA_1], [ULA_1_TOO], ""),
        (Rung.IPV6, [ULA_1, GLOBAL_6], [ULA_2], "unique local"),
        (Rung.SRFLX, [HOST_A, PUBLIC_A], [HOST_B, PUBLIC_B], ""),
        (Rung.SRFLX, [HOST_A], [HOST_B, PUBLIC_B], "STUN server here"),
        (Rung.RELAY_UDP, [RELAY], [], "TURN server over UDP at the peer"),
        (Rung.RELAY_TCP, [RELAY], [RELAY], ""),
    ],
)
def test_a_rung_that_cannot_work_is_passed_over_at_both_ends(
    rung: Rung, mine: list[Candidate], theirs: list[Candidate], why: str
) -> None:
    assert why in unfit(rung, mine, theirs)
    assert bool(unfit(rung, mine, theirs)) == bool(why)
    assert bool(unfit(rung, theirs, mine)) == bool(why)


def test_private_addresses_of_another_site_are_never_probed() -> None:
    assert usable(Rung.SRFLX, [HOST_B, PUBLIC_B, GLOBAL_6]) == [PUBLIC_B]


def test_the_ladder_goes_down_and_tells_why() -> None:
    ladder = Ladder([Rung.LAN, Rung.IPV6, Rung.SRFLX])
    assert ladder.current is Rung.LAN
    ladder.fail(Rung.LAN, "other network")
    ladder.fail(Rung.IPV6, "none here")
    assert ladder.current is Rung.SRFLX
    assert ladder.failed_text == "lan: other network; ipv6: none here"
    ladder.fail(Rung.SRFLX, "x" * 5000)
    assert ladder.current is None
    assert len(ladder.failed_text) <= 1000


def test_what_worked_last_time_is_tried_first_and_told() -> None:
    ladder = Ladder([Rung.LAN, Rung.IPV6, Rung.SRFLX, Rung.RELAY_UDP], first=Rung.SRFLX)
    assert ladder.current is Rung.SRFLX
    assert ladder.failed_text == (
        "lan: not tried: srflx worked last time; ipv6: not tried: srflx worked last time"
    )
    ladder.fail(Rung.SRFLX, "no answer")
    assert ladder.current is Rung.LAN
    ladder.fail(Rung.LAN, "other network")
    ladder.fail(Rung.IPV6, "none here")
    assert ladder.current is Rung.RELAY_UDP
    assert ladder.failed_text == "lan: other network; ipv6: none here; srflx: no answer"


@given(st.lists(st.sampled_from(list(Rung)), unique=True), st.none() | st.sampled_from(list(Rung)))
def test_every_rung_is_tried_once_whatever_comes_first(rungs: list[Rung], first: Rung | None) -> None:
    ladder, tried = Ladder(rungs, first), []
    while (rung := ladder.current) is not None:
        tried.append(rung)
        ladder.fail(rung, "no answer")
    assert sorted(tried) == sorted(rungs)
    assert [rung for rung in tried if rung is not first] == [rung for rung in rungs if rung is not first]
    assert first not in rungs or tried[0] is first


def test_a_candidate_line_reads() -> None:
    line = "abc 1 udp 1694498815 203.0.113.2 4000 typ srflx raddr 192.168.1.10 rport 4000"
    assert parse_candidate(line) == Candidate("srflx", "203.0.113.2", 4000, "192.168.1.10", line)


@pytest.mark.parametrize(
    ("address", "port", "local"),
    [
        ("192.0.2.1", 53, None),
        ("127.0.0.1", 4000, None),
        ("127.0.0.1", 4000, ["192.0.2.9"]),
        ("::ffff:127.0.0.1", 4000, None),
        ("::1", 4000, None),
        ("0.0.0.0", 4000, None),
        ("::", 4000, None),
        ("224.0.0.251", 5353, None),
        ("ff02::fb", 5353, None),
        ("255.255.255.255", 4000, None),
    ],
)
def test_where_no_agent_can_be_nothing_is_sent(address: str, port: int, local: list[str] | None) -> None:
    good = [Candidate("host", where, 1024) for where in ("192.0.2.1", "10.0.0.1", "fd00::1", "169.254.7.7")]
    require_possible(good, local=local)
    with pytest.raises(SignallingError, match="what no agent has"):
        require_possible([*good, Candidate("srflx", address, port)], local=local)
    assert possible([*good, Candidate("srflx", address, port)], local=local) == good
    require_possible([Candidate("host", "127.0.0.1", 4000)], local=["127.0.0.2"])  # as it was told to


@pytest.mark.parametrize(
    "line",
    [
        "",
        "abc 1 udp 1 host.local 4000 typ host",
        "abc 1 tcp 1 192.0.2.1 4000 typ host",
        "abc 1 udp 1 192.0.2.1 70000 typ host",
        "abc 1 udp 1 192.0.2.1 4000 typ strange",
        "abc 1 udp 1 192.0.2.1 x typ host",
    ],
)
def test_a_candidate_line_that_does_not_read_is_refused(line: str) -> None:
    with pytest.raises(SignallingError, match="candidate"):
        parse_candidate(line)
