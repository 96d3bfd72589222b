"""However a session's life falls into snapshots and windows, its bytes are counted once."""

from hypothesis import given
from hypothesis import strategies as st

from agent.passive.sessions import FlowTable
from ebpf.events import FORMATS, RECORD, Opener, SessionEvent, TcpState, decode

LIVES = st.lists(
    st.lists(st.tuples(st.integers(0, 10_000), st.booleans()), min_size=1, max_size=8), min_size=1, max_size=4
)
"""For each session: bytes that come in between two snapshots, and whether a window ends there."""


def told(number: int, received: int, state: TcpState) -> SessionEvent:
    members = {name: b"" if code.endswith("s") else 0 for name, code in FORMATS.items()}
    members |= {
        "socket": number,
        "first_seen_ns": 1,
        "established_ns": 2,
        "opener": Opener.REMOTE,
        "state": state,
        "bytes_received": received,
    }
    (event,) = decode(RECORD.pack(*members.values()))
    return event


@given(LIVES)
def test_bytes_are_counted_once(lives: list[list[tuple[int, bool]]]) -> None:
    table = FlowTable(agent="a", tenant="default")
    rows = []
    for number, life in enumerate(lives):
        received = 0
        for more, window_ends in life:
            received += more
            table.take_open([told(number, received, TcpState.ESTABLISHED)])
            if window_ends:
                rows += table.flows(window_us=0, window_length_us=1)
        table.take_closed([told(number, received, TcpState.CLOSE)])
    rows += table.flows(window_us=0, window_length_us=1)

    assert sum(row.bytes_received for row in rows) == sum(more for life in lives for more, _ in life)
    assert sum(row.opened for row in rows) == sum(row.closed for row in rows) == len(lives)
