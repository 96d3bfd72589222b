"""Thousands of records at once: columns over a run, read where they lie, without a Python object a record.

A strided view of the records is summed in C at about 10 ns a value. Making a tuple of a record costs a
microsecond, which at 50,000 connections a second would make the agent the load.

Like every reader of the record, this needs a little-endian machine (``ebpf.events.RECORD``).
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Sequence, Set
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Final, NamedTuple

from ebpf.events import FORMATS, GROUP_SIZE, RECORD, RING_HEADER, RUN, Opener, SessionEvent

Columns = Callable[[str], Sequence[int]]
"""Name of a numeric field of ``SessionEvent`` after its group -> that field of each session."""

Run = bytes | memoryview
"""Records as ``SessionSource.drain`` gives them, or some of them."""

Key = tuple[int, int]
"""``SessionEvent.key``."""

RUN_PIECE: Final = 512
"""Records to look at together: they stay in the processor's cache, and copies of them stay small."""

_SIZES: Final = [struct.calcsize("<" + code) for code in FORMATS.values()]
_AT: Final = dict(zip(FORMATS, accumulate(_SIZES, initial=0), strict=False))
_HEADER: Final = struct.calcsize("<" + RING_HEADER)
_BODY: Final = _AT[
    "cookie"
]  # the first field after the group that stands at a multiple of 8, as the size does
_BODY_SIZE: Final = RECORD.size - _BODY
_SPLIT: Final = struct.Struct(f"<{RING_HEADER}{GROUP_SIZE}s{_BODY - GROUP_SIZE}x{_BODY_SIZE}s")
_KEY_AND_OPENER: Final = struct.Struct(
    f"<{RING_HEADER}{_AT['opener']}xB{_BODY - _AT['opener'] - 1}xQQ{_BODY_SIZE - 16}x"
)
_CONGESTION: Final = slice(_AT["congestion"] - _BODY, _AT["congestion"] - _BODY + 16)
_CODES: Final = ("Q", "I", "B")


def _column(code: str, at: int) -> tuple[str, slice]:
    size = struct.calcsize("<" + code)
    return code, slice((at - _BODY) // size, None, _BODY_SIZE // size)


_COLUMNS: Final = {
    name: _column(code, _AT[name]) for name, code in FORMATS.items() if code in _CODES and _AT[name] >= _BODY
}
"""Field -> the code of its words in a body, and which of these it is."""

_GROUP: Final = struct.Struct("<" + "".join(list(FORMATS.values())[: list(FORMATS).index("thread")]))


class Group(NamedTuple):
    """What all sessions of a group have in common: the first fields of ``SessionEvent``, so named."""

    owner_started_ns: int
    local: bytes
    remote: bytes
    command: bytes
    netns: int
    pid: int
    service_port: int
    opener: int
    established: int


def group(packed: bytes) -> Group:
    """Decode a group."""
    return Group._make(_GROUP.unpack(packed))


def group_of(event: SessionEvent) -> Group:
    """Tell the group of a session."""
    return Group._make(event[: len(Group._fields)])


def pieces(run: Run) -> Iterator[memoryview]:
    """Cut a run into runs of at most ``RUN_PIECE`` records, which stay where they are."""
    whole = memoryview(run)
    for at in range(0, len(run), RUN_PIECE * RUN.size):
        yield whole[at : at + RUN_PIECE * RUN.size]


def by_group(run: Run) -> dict[bytes, list[bytes]]:
    """Sort the records of a run by group; of each, the body is left: what ``columns`` reads."""
    groups: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for packed, body in _SPLIT.iter_unpack(run):
        groups[packed].append(body)
    return groups


def columns(bodies: list[bytes]) -> Columns:
    """Read the fields of many records."""
    data = memoryview(b"".join(bodies))
    words = {code: data.cast(code) for code in _CODES}

    def column(name: str) -> Sequence[int]:
        code, part = _COLUMNS[name]
        return words[code][part]

    return column


def congestion_of(body: bytes) -> bytes:
    """Read the one field of a record's body that ``columns`` does not have."""
    return body[_CONGESTION]


def columns_of(events: Sequence[SessionEvent]) -> Columns:
    """Read the fields of sessions that are decoded already."""
    return lambda name: list(map(attrgetter(name), events))


def set_apart(run: Run, sockets: Set[int], keys: Container[Key]) -> tuple[list[SessionEvent], Run]:
    """Take out of a run the sessions with one of ``keys`` or without a known opener; give them, and the rest.

    ``sockets`` are those of ``keys``. A look at them alone settles most runs; a kernel address comes back,
    though, as soon as its session has closed, so that it takes the whole key to be sure.
    """
    openers = bytes(run[_HEADER + _AT["opener"] :: RUN.size])
    all_sockets = memoryview(run).cast("Q")[(_HEADER + _BODY) // 8 :: RUN.size // 8]
    if Opener.UNKNOWN not in openers and (not sockets or sockets.isdisjoint(all_sockets)):
        return [], run
    found = [
        number
        for number, (opener, *key) in enumerate(_KEY_AND_OPENER.iter_unpack(run))
        if not opener or tuple(key) in keys
    ]
    return [_event(run, number) for number in found], _without(run, found)


def _event(run: Run, number: int) -> SessionEvent:
    return SessionEvent._make(RUN.unpack_from(run, number * RUN.size))


def _without(run: Run, numbers: list[int]) -> bytes:
    edges = pairwise([-1, *numbers, len(run) // RUN.size])
    return b"".join(run[(before + 1) * RUN.size : after * RUN.size] for before, after in edges)


def newest_first(run: bytes) -> Iterator[SessionEvent]:
    """Decode a run from its end, as far as it is asked for."""
    return (_event(run, number) for number in reversed(range(len(run) // RUN.size)))
