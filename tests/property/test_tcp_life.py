"""Whatever the kernel tells of a session: one verdict, shares that sum to 100, silence below the minimum."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from analytics.measurement import Direction, Session
from analytics.tcp_life import TcpLife, life
from analytics.tcp_limits import FIRST, HELD, LAST, Verdict
from analytics.tcp_seen import AT, Seen, percents, time_of
from tests.unit.analytics.tcp_sessions import PLAIN, session

US = st.integers(0, 200_000_000_000)
U32 = st.integers(0, 2**32 - 1)
ERRORS = ["", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "EPIPE"]
BY_KIND: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(["duration_us", "busy_us", "rwnd_limited_us", "sndbuf_limited_us"], US),
    **dict.fromkeys(["bytes_sent", "bytes_received"], st.integers(0, 2**50)),
    **dict.fromkeys(["segments_sent", "segments_retransmitted", "dsack_duplicates", "reordering_seen"], U32),
    **dict.fromkeys(["mss", "cwnd", "peer_window", "srtt_us", "min_rtt_us", "connect_us"], U32),
    **dict.fromkeys(["open", "established", "resets_sent", "resets_received", "guessed"], st.booleans()),
    **dict.fromkeys(["process", "executable", "unit", "container"], st.text(max_size=20)),
    "error": st.sampled_from(ERRORS),
    "congestion": st.sampled_from(["cubic", "reno", "bbr", ""]),
    "direction": st.sampled_from(Direction),
    "source": st.sampled_from(["ebpf", "inet_diag"]),
    "pid": st.none() | U32,
    "delivery_kbps": st.none() | st.integers(0, 2**40),
}
NULLABLE = ("duration_us", "srtt_us", "min_rtt_us", "connect_us")
SESSIONS = st.fixed_dictionaries(
    {name: st.none() | kind if name in NULLABLE else kind for name, kind in BY_KIND.items()}
).map(lambda changes: session(**changes))
RULES = {rule.id: rule.verdict for rule in (*FIRST, *HELD, *LAST)}


@given(SESSIONS)
def test_every_session_gets_one_verdict_by_a_known_rule(one: Session) -> None:
    told = life(one)

    assert told.verdict is RULES[told.rule]
    assert told.headline.endswith(".")
    assert msgspec.json.decode(msgspec.json.encode(told), type=TcpLife) == told


@given(SESSIONS)
def test_shares_sum_to_the_whole(one: Session) -> None:
    time, shares = time_of(one), life(one).shares
    assert time.life_us is None or time.idle_us == time.life_us - time.busy_us >= 0
    if shares is None:
        assert time.busy_us == 0
        return
    assert shares.waiting + shares.peer_window + shares.send_buffer == 100
    assert (shares.idle is None) == (shares.busy is None) == (one.duration_us is None)
    assert shares.idle is None or shares.busy is None or shares.idle + shares.busy == 100


@given(st.lists(st.integers(0, 2**60), min_size=1, max_size=6).filter(any))
def test_percents_are_off_by_less_than_one(parts: list[int]) -> None:
    rounded = percents(parts)

    assert sum(rounded) == 100
    assert all(
        abs(one * sum(parts) - 100 * part) < sum(parts) for one, part in zip(rounded, parts, strict=True)
    )


@given(SESSIONS, st.integers(0, AT.segments - 1), st.integers(0, AT.lost_segments - 1))
def test_below_the_minimum_nothing_is_blamed(one: Session, sent: int, again: int) -> None:
    few = msgspec.structs.replace(
        one,
        established=True,
        error="",
        segments_sent=sent,
        segments_retransmitted=again,
        bytes_sent=sent * 1_448,
        rwnd_limited_us=0,
        sndbuf_limited_us=0,
    )

    assert life(few).verdict is Verdict.TOO_LITTLE_SEEN


@given(SESSIONS)
def test_a_verdict_rests_on_time_that_was_spent_so(one: Session) -> None:
    told, time = life(one), time_of(one)
    spent = {rule.id: rule.held_us(Seen(one)) for rule in HELD}

    assert told.rule not in spent or spent[told.rule] == max(
        held for rule, held in spent.items() if rule == told.rule or _holds(rule, one)
    )
    # A sender is named for its send buffer, or for a trickle: that rests on the time spent waiting.
    held = {"tcp.send-buffer.v1": time.send_buffer_us, "tcp.trickle.v1": time.waiting_us}
    assert told.verdict is not Verdict.SENDER or held[told.rule] >= AT.busy_us


def _holds(rule: str, one: Session) -> bool:
    return next(known.holds(Seen(one)) for known in HELD if known.id == rule)


@given(SESSIONS, st.integers(1, 1_000_000))
def test_more_loss_never_clears_the_network(one: Session, more: int) -> None:
    sender = msgspec.structs.replace(
        one, established=True, error="", segments_sent=10**6, dsack_duplicates=0, segments_retransmitted=0
    )
    worse = msgspec.structs.replace(sender, segments_retransmitted=more)

    if life(sender).verdict is Verdict.NETWORK:
        assert life(worse).verdict is Verdict.NETWORK


def test_the_plain_session_has_every_field() -> None:
    assert set(PLAIN) | {"source"} == set(Session.__struct_fields__)
