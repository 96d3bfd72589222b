import pytest
from benches.truth import End, Seen, Shares, Truth, shares, wrong

CLIENT = End("127.0.0.1", 40000, "127.0.0.1", 80)
SERVER = End("127.0.0.1", 80, "127.0.0.1", 40000)
TRUTHS = [Truth(CLIENT, 10, 100, 2000), Truth(SERVER, 20, 2000, 100)]


def test_all_that_is_told_rightly_counts():
    seen = [Seen(CLIENT, 10, 100, 2000), Seen(SERVER, 20, 2000, 100)]
    assert shares(TRUTHS, seen) == Shares(ends=2, seen=2, right=2)
    assert wrong(TRUTHS, seen, most=5) == []


def test_the_two_ends_of_a_session_count_each():
    assert shares(TRUTHS, [Seen(CLIENT, 10, 100, 2000)]).seen_share == 0.5


@pytest.mark.parametrize("seen", [(20, 100, 2000), (10, 101, 2000), (10, 100, 1999), (0, 100, 2000)])
def test_a_wrong_process_or_a_byte_too_many_is_seen_but_not_right(seen):
    assert shares(TRUTHS, [Seen(CLIENT, *seen)]) == Shares(ends=2, seen=1, right=0)


def test_an_end_told_twice_is_right_if_the_later_view_is():
    assert shares(TRUTHS, [Seen(CLIENT, 10, 1, 2), Seen(CLIENT, 10, 100, 2000)]).right == 1


def test_sessions_of_others_count_for_nothing():
    other = End("127.0.0.1", 5, "127.0.0.1", 6)
    assert shares(TRUTHS, [Seen(other, 10, 100, 2000)]) == Shares(ends=2, seen=0, right=0)


def test_a_tool_is_right_as_far_as_it_can_tell():
    kilobytes = Seen(SERVER, 20, 1024, 0, give=(0, 1023))
    assert shares(TRUTHS, [kilobytes]).right == 1
    assert shares(TRUTHS, [kilobytes._replace(sent=0)]).right == 0


def test_what_is_not_right_is_named_beside_what_was_told():
    first, second = wrong(TRUTHS, [Seen(CLIENT, 99, 100, 2000)], most=5)
    assert first.endswith("pid 10 up 100 down 2000, told: 127.0.0.1:40000 > 80 pid 99 up 100 down 2000")
    assert second.endswith("told: nothing")
    assert len(wrong(TRUTHS, [], most=1)) == 1
