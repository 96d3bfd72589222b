"""What the other tools print, as sessions: ``ss -tinpH`` (iproute2) and ``tcplife-bpfcc -s`` (bcc)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from benches.truth import End, Seen

_KB: Final = 1024
_PID: Final = re.compile(r"pid=(\d+)")
_COUNTER: Final = re.compile(r"\b(bytes_sent|bytes_retrans|bytes_received):(\d+)")

FIN_GIVE: Final = (-1, 0)
"""``ss`` counts a FIN that came in as a byte received."""
KB_GIVE: Final = (0, _KB - 1)
"""``tcplife`` tells whole kilobytes."""


def ss_sessions(printed: str) -> Iterator[Seen]:
    """Read what ``ss -tinpH`` printed, two lines a session; gives one for each process that has it."""
    lines = printed.splitlines()
    for head, details in pairwise(lines):
        if details[:1] != "\t" or head[:1] == "\t":
            continue
        for pid in _PID.findall(head):
            yield _ss_session(head.split(), int(pid), dict(_COUNTER.findall(details)))


def _ss_session(words: list[str], pid: int, counters: dict[str, str]) -> Seen:
    local, local_port = _endpoint(words[3])
    remote, remote_port = _endpoint(words[4])
    sent = int(counters.get("bytes_sent", 0)) - int(counters.get("bytes_retrans", 0))
    received = int(counters.get("bytes_received", 0))
    return Seen(End(local, local_port, remote, remote_port), pid, sent, received, FIN_GIVE)


def _endpoint(word: str) -> tuple[str, int]:
    address, _, port = word.rpartition(":")
    return address.strip("[]"), int(port)


def tcplife_sessions(printed: str) -> Iterator[Seen]:
    """Read what ``tcplife-bpfcc -s`` printed: PID,COMM,IP,LADDR,LPORT,RADDR,RPORT,TX_KB,RX_KB,MS."""
    for line in printed.splitlines()[1:]:
        # From the end: a command's name may have commas.
        pid, rest = line.split(",", 1)
        local, local_port, remote, remote_port, sent, received, _ = rest.rsplit(",", 7)[1:]
        end = End(local, int(local_port), remote, int(remote_port))
        yield Seen(end, int(pid), int(sent) * _KB, int(received) * _KB, KB_GIVE)


def refusal(stderr: str) -> str:
    """Find the reason in what a tool said before it gave up: its last line before a trace."""
    before = stderr.partition("Traceback")[0] or stderr
    told = [line.strip() for line in before.splitlines() if line.strip()]
    return told[-1].partition(". ")[0] if told else "it ended without a word"
