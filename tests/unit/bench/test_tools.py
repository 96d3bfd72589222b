import pytest
from benches.tools import refusal, ss_sessions, tcplife_sessions
from benches.truth import End, Truth

SS = """\
ESTAB      0      0      127.0.0.1:60782 127.0.0.1:41421 users:(("python3",pid=15207,fd=4))
\t bbr wscale:10,10 rto:204 rtt:0.025/0.013 cwnd:11 bytes_sent:1500 bytes_retrans:500 bytes_acked:1001 \
bytes_received:3001 segs_out:5
FIN-WAIT-2 0      0      127.0.0.1:41421 127.0.0.1:60782
\t
ESTAB      0      0          [::1]:46325     [::1]:59424 users:(("a b",pid=7,fd=8),("c",pid=8,fd=8))
\t bbr wscale:10,10 rto:204 rtt:0.016/0.008 mss:32768 segs_in:2
"""
"""As iproute2 6.1 prints it; the sockets are those of a test."""

TCPLIFE = """\
PID,COMM,IP,LADDR,LPORT,RADDR,RPORT,TX_KB,RX_KB,MS
311,curl,4,127.0.0.1,40000,127.0.0.1,80,0,12,3.52
312,a,b,6,::1,80,::1,40001,1,0,0.10
"""
"""The columns of bcc 0.26's tcplife.py."""


def test_ss_tells_each_process_that_has_a_socket():
    assert [(seen.end, seen.pid) for seen in ss_sessions(SS)] == [
        (End("127.0.0.1", 60782, "127.0.0.1", 41421), 15207),
        (End("::1", 46325, "::1", 59424), 7),
        (End("::1", 46325, "::1", 59424), 8),
    ]


def test_ss_counts_repeats_as_sent_and_a_fin_as_received_which_is_allowed_for():
    seen = next(ss_sessions(SS))
    assert (seen.sent, seen.received) == (1000, 3001)
    assert seen.tells(Truth(seen.end, 15207, 1000, 3000))
    assert not seen.tells(Truth(seen.end, 15207, 1000, 2999))


def test_ss_that_has_nothing_to_say_says_nothing():
    assert list(ss_sessions("")) == []


def test_tcplife_tells_whole_kilobytes_and_commands_may_have_commas():
    first, second = tcplife_sessions(TCPLIFE)
    assert (first.end, first.pid) == (End("127.0.0.1", 40000, "127.0.0.1", 80), 311)
    assert first.tells(Truth(first.end, 311, 700, 12 * 1024 + 1))
    assert not first.tells(Truth(first.end, 311, 700, 13 * 1024))
    assert (second.end, second.pid) == (End("::1", 80, "::1", 40001), 312)


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        (
            "modprobe: FATAL: Module kheaders not found\n"
            "Unable to find kernel headers. Try rebuilding kernel with CONFIG_IKHEADERS=m\n"
            "Traceback (most recent call last):\n  File x\nException: Failed to compile BPF module <text>\n",
            "Unable to find kernel headers",
        ),
        ("setpriv: failed to execute tcplife-bpfcc: No such file\n", None),
        ("", "it ended without a word"),
    ],
)
def test_the_reason_of_a_tool_that_gives_up_is_its_last_word_before_the_trace(stderr, reason):
    assert refusal(stderr) == (reason or stderr.strip())
