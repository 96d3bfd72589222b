"""Records as the kernel would write them, for tests of what is made of them."""

from collections.abc import Callable
from typing import Any, Literal

from ebpf.events import FORMATS, RECORD, RUN, Counters, Opener, OwnerFacts, SessionEvent, TcpState, decode

CLIENT, SERVER = "192.0.2.1", "192.0.2.2"


def packed(address: str) -> bytes:
    return bytes(10) + b"\xff\xff" + bytes(map(int, address.split(".")))


def session(**changes: Any) -> SessionEvent:
    """One end's view of an established session of getscu with the PACS at port 4242, begun at 1 ms."""
    members: dict[str, Any] = {name: b"" if code.endswith("s") else 0 for name, code in FORMATS.items()}
    members |= {
        "cookie": 7,
        "first_seen_ns": 1_000_000,
        "at_ns": 101_000_000,
        "syn_ns": 1_000_000,
        "established_ns": 21_000_000,
        "established": 1,
        "state": TcpState.ESTABLISHED,
        "opener": Opener.LOCAL,
        "owner_started_ns": 5_000_000_000,
        "pid": 4121,
        "command": b"getscu",
        "local": packed(CLIENT),
        "remote": packed(SERVER),
        "local_port": 40_001,
        "remote_port": 4242,
        "service_port": 4242,
        "netns": 9,
        "bytes_acked": 1,
        "srtt_us": 20_000,
        "min_rtt_us": 19_000,
        "congestion": b"cubic",
    }
    assert changes.keys() <= members.keys()
    (event,) = decode(RECORD.pack(*(members | changes).values()))
    return event


def closed(**changes: Any) -> SessionEvent:
    return session(**{"state": TcpState.CLOSE, "old_state": TcpState.FIN_WAIT2} | changes)


def served(**changes: Any) -> SessionEvent:
    """The PACS's view of it."""
    return session(
        **{
            "opener": Opener.REMOTE,
            "local": packed(SERVER),
            "remote": packed(CLIENT),
            "local_port": 4242,
            "remote_port": 40_001,
            "pid": 50,
            "command": b"Orthanc",
        }
        | changes
    )


def listening(port: int = 4242, **changes: Any) -> SessionEvent:
    return served(
        **{"state": TcpState.LISTEN, "opener": 0, "established": 0, "cookie": 99, "local_port": port}
        | changes
    )


def run(*events: SessionEvent) -> bytes:
    """What a source would give for these closes."""
    return b"".join(RUN.pack(*event) for event in events)


class Source:
    """Tells what a test puts into it."""

    source: Literal["ebpf", "inet_diag"] = "ebpf"

    def __init__(self, *, closes: list[bytes] | None = None) -> None:
        self.closes = closes or []
        self.open: list[SessionEvent] = []
        self.asked: Callable[[], None] = lambda: None  # called at each drain
        self.facts: dict[tuple[int, int], OwnerFacts] = {}
        self.told = Counters(seen=(0, 0), lost=(0, 0), missed=0)

    def drain(self) -> bytes:
        self.asked()
        return self.closes.pop(0) if self.closes else b""

    def snapshot(self) -> list[SessionEvent]:
        return list(self.open)

    def owner(self, pid: int, started_ns: int) -> OwnerFacts | None:
        return self.facts.get((pid, started_ns))

    def counters(self) -> Counters:
        return self.told
