"""The file that receipts are handed on in, and whether they hold: offline, with no server to believe.

JSON lines. First what the file is (``Header``), then one line a reading (``Line``)::

    {"format":"pathgrade.receipts.v1","tenant":"default","made_us":...,"since_us":...,"until_us":...}
    {"reading":"AAP...","src_key":"ed25519:...","src_signature":"...","dst_key":...,"dst_signature":...}

``reading`` is what was signed (``analytics/receipts.py``), in base64. Of everything else in the file nothing
is believed: the numbers come from the signed bytes, and a key counts as an agent's only if it is in the
anchors.

READ FIRST: ``check``. Pure: lines in, ``Findings`` out.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import chain, islice, pairwise
from typing import Annotated, Final

import msgspec

from analytics import receipts
from analytics.errors import UNREADABLE, SealError
from analytics.measurement import Reading, Receipt, named
from analytics.receipts import signature_bytes
from analytics.trust import key_bytes

FORMAT: Final = "pathgrade.receipts.v1"
MOST_LINE: Final = 16_384
"""Bytes: a reading as long as they come takes half of it."""
MOST_ANCHORS: Final = 4 * 2**20

AT_ONCE: Final = 200
"""Lines of a file that are written in one piece."""

Anchors = Mapping[str, frozenset[bytes]]
"""Name -> the identity keys it is known to have had."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself; nothing of it is proven."""

    format: str
    tenant: str = ""
    made_us: int = 0
    since_us: int = 0
    until_us: int = 0
    of: str = ""  # what was asked for, in words


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One reading, and what was signed of it. Empty where there is nothing."""

    reading: bytes
    src_key: str = ""
    src_signature: str = ""
    dst_key: str = ""
    dst_signature: str = ""
    why_not: str = ""


def line_of(reading: Reading, receipt: Receipt | None) -> Line:
    """Put a stored reading beside its receipt. Raises ``SealError`` where it cannot be laid out."""
    if receipt is None:
        return Line(reading=receipts.encode(reading), why_not="no receipt")
    return Line(
        reading=receipts.encode(reading, receipt.layout),
        src_key=receipt.src_key,
        src_signature=receipt.src_signature,
        dst_key=receipt.dst_key,
        dst_signature=receipt.dst_signature,
        why_not=receipt.why_not,
    )


def written(header: Header, lines: Iterable[Line]) -> Iterator[bytes]:
    """Write a file, some lines at once."""
    told = chain([header], lines)
    while some := list(islice(told, AT_ONCE)):
        yield b"".join(msgspec.json.encode(one) + b"\n" for one in some)


# --- checking -----------------------------------------------------------------------------------------------


class False_(StrEnum):  # noqa: N801  # "False" is Python's
    """Why a line is false: somebody made it up, or changed it. What such lines are counted by."""

    MALFORMED = "malformed"
    SRC_SIGNATURE = "signature of src"
    DST_SIGNATURE = "signature of dst"
    SRC_KEY = "key of src is not the anchored one"
    DST_KEY = "key of dst is not the anchored one"
    SAME_KEY = "one key for both ends"
    TENANT = "another tenant than the file's first reading"
    TWICE = "told twice"


class PathSum(msgspec.Struct, kw_only=True):
    """What both ends signed of one direction, summed: to hold a report against."""

    src: str
    dst: str
    readings: int = 0  # signed by both ends; all that follows is of these
    sent: int = 0
    received: int = 0
    rtt_min_us: int | None = None  # least of all round trips
    rtt_p50_least_us: int | None = None  # of the readings' medians
    rtt_p50_most_us: int | None = None
    rtt_p95_most_us: int | None = None
    first_cycle: int | None = None
    last_cycle: int | None = None
    longest_gap_s: int = 0  # without a reading that both ends signed
    loss_bp: int | None = None  # of all their probes together
    one_end: int = 0  # readings that only src signed
    unsigned: int = 0


class Findings(msgspec.Struct, kw_only=True):
    """What a file proves."""

    header: Header
    lines: int = 0
    both: int = 0  # signed by both ends
    one_end: int = 0  # by src only
    unsigned: int = 0
    why_one_end: dict[str, int] = {}  # by what src says of it
    false: dict[str, int] = {}  # lines that do not hold, by why
    false_lines: list[tuple[int, str]] = []  # line number in the file and why, of the first
    anchored: list[str] = []  # agents whose keys are in the anchors
    from_file: list[str] = []  # agents whose keys only the file tells: whoever wrote it may have made them up
    several_keys: dict[str, int] = {}  # agents that have more than one key in the file, and how many
    paths: list[PathSum] = []
    proven: bool = False  # every line is signed by both ends, by anchored keys, and there is at least one


MOST_FALSE_LINES: Final = 100


def read_anchors(text: bytes) -> Anchors:
    """Read anchors: TOML, ``name = "ed25519:..."``, or a list of keys of an agent that was reinstalled.

    The same file as the agents' ``identity_anchors``. Raises ``SealError``.
    """
    try:
        told = msgspec.convert(
            tomllib.loads(text.decode()), dict[Annotated[str, named("agent")], str | list[str]]
        )
    except (ValueError, RecursionError) as error:
        raise SealError(
            f"not a file of anchors: {error}", remedy='each line is: name = "ed25519:..."'
        ) from error
    return {
        name: frozenset(map(key_bytes, [keys] if isinstance(keys, str) else keys))
        for name, keys in told.items()
    }


def check(lines: Iterable[bytes], anchors: Anchors) -> Findings:
    """Check a file, line by line without the newlines. Raises ``SealError`` where it is no such file."""
    numbered = enumerate(lines, 1)
    header = _header(next(numbered, (1, b""))[1])
    checking = _Checking(header, anchors)
    for number, line in numbered:
        if line.strip():
            checking.take(number, line)
    return checking.findings()


def _header(line: bytes) -> Header:
    try:
        header = msgspec.json.decode(line[: MOST_LINE + 1], type=Header)
    except UNREADABLE as error:
        raise SealError(
            f"not a file of receipts: {error}", remedy="pathgrade receipt export writes one"
        ) from error
    if header.format != FORMAT:
        raise SealError(
            f"a file of the format {header.format[:80]!r}; this build knows {FORMAT!r}",
            remedy="use the release of pathgrade that wrote it, or a later one",
        )
    return header


class _Checking:
    """One file."""

    def __init__(self, header: Header, anchors: Anchors) -> None:
        self._found = Findings(header=header, false_lines=[])
        self._anchors = anchors
        self._false = Counter[str]()
        self._why_one_end = Counter[str]()
        self._keys: dict[str, set[bytes]] = {}
        self._paths: dict[tuple[str, str], PathSum] = {}
        self._cycles: dict[tuple[str, str], list[int]] = {}
        self._seen: set[bytes] = set()  # tests and directions
        self._tenant: str | None = None

    def take(self, number: int, line: bytes) -> None:
        """Check one line."""
        found = self._found
        found.lines += 1
        try:
            told, reading = _read(line)
            signed = self._signed_by(told, reading)
            self._check_new(reading)
        except _FalseError as error:
            self._false[error.why] += 1
            if len(found.false_lines) < MOST_FALSE_LINES:
                found.false_lines.append((number, error.why))
            return
        path = self._paths.setdefault((reading.src, reading.dst), PathSum(src=reading.src, dst=reading.dst))
        if signed == 2:  # ends
            found.both += 1
            _add(path, reading)
            self._cycles.setdefault((reading.src, reading.dst), []).append(reading.cycle)
        elif signed == 1:
            found.one_end += 1
            path.one_end += 1
            self._why_one_end[told.why_not[:40] or "not said"] += 1
        else:
            found.unsigned += 1
            path.unsigned += 1

    def findings(self) -> Findings:
        """Sum up."""
        found = self._found
        found.false = dict(self._false.most_common())
        found.why_one_end = dict(self._why_one_end.most_common())
        names = sorted(self._keys)
        found.anchored = [name for name in names if name in self._anchors]
        found.from_file = [name for name in names if name not in self._anchors]
        found.several_keys = {name: len(self._keys[name]) for name in names if len(self._keys[name]) > 1}
        for key, cycles in self._cycles.items():
            cycles.sort()
            gaps = (late - early for early, late in pairwise(cycles))
            self._paths[key].longest_gap_s = max(gaps, default=0)
        found.paths = [path for _, path in sorted(self._paths.items())]
        for path in found.paths:
            path.loss_bp = 10_000 * (path.sent - path.received) // path.sent if path.sent else None
        found.proven = 0 < found.both == found.lines and not found.from_file
        return found

    def _check_new(self, reading: Reading) -> None:
        self._tenant = self._tenant if self._tenant is not None else reading.tenant
        if reading.tenant != self._tenant:
            raise _FalseError(False_.TENANT)
        test = "\0".join((str(reading.cycle), reading.test, reading.src, reading.dst))
        name = hashlib.sha256(test.encode()).digest()[:16]
        if name in self._seen:
            raise _FalseError(False_.TWICE)
        self._seen.add(name)

    def _signed_by(self, told: Line, reading: Reading) -> int:
        """Count the ends that signed: 2, 1 (src) or 0. Raises ``_FalseError``."""
        if not told.src_signature and not told.dst_signature:
            return 0
        try:
            src_key = key_bytes(told.src_key)
            receipts.check_sent(told.reading, signature_bytes(told.src_signature), src_key)
        except SealError as error:
            raise _FalseError(False_.SRC_SIGNATURE) from error
        self._check_anchor(reading.src, src_key, False_.SRC_KEY)
        if not told.dst_signature:
            self._keys.setdefault(reading.src, set()).add(src_key)
            return 1
        try:
            dst_key = key_bytes(told.dst_key)
            receipts.check_seen(told.reading, signature_bytes(told.dst_signature), dst_key)
        except SealError as error:
            raise _FalseError(False_.DST_SIGNATURE) from error
        self._check_anchor(reading.dst, dst_key, False_.DST_KEY)
        if src_key == dst_key:
            raise _FalseError(False_.SAME_KEY)
        self._keys.setdefault(reading.src, set()).add(src_key)
        self._keys.setdefault(reading.dst, set()).add(dst_key)
        return 2

    def _check_anchor(self, name: str, key: bytes, why: False_) -> None:
        if name in self._anchors and key not in self._anchors[name]:
            raise _FalseError(why)


def _read(line: bytes) -> tuple[Line, Reading]:
    if len(line) > MOST_LINE:
        raise _FalseError(False_.MALFORMED)
    try:
        told = msgspec.json.decode(line, type=Line)
        return told, receipts.decode(told.reading)[0]
    except (*UNREADABLE, SealError) as error:
        raise _FalseError(False_.MALFORMED) from error


class _FalseError(Exception):
    """A line that does not hold. Never leaves this module."""

    def __init__(self, why: False_) -> None:
        super().__init__(why)
        self.why = why


def _add(path: PathSum, reading: Reading) -> None:
    path.readings += 1
    path.sent += reading.sent
    path.received += reading.received
    path.rtt_min_us = _least(path.rtt_min_us, reading.rtt_min_us)
    path.rtt_p50_least_us = _least(path.rtt_p50_least_us, reading.rtt_p50_us)
    path.rtt_p50_most_us = _most(path.rtt_p50_most_us, reading.rtt_p50_us)
    path.rtt_p95_most_us = _most(path.rtt_p95_most_us, reading.rtt_p95_us)
    path.first_cycle = _least(path.first_cycle, reading.cycle)
    path.last_cycle = _most(path.last_cycle, reading.cycle)


def _least(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)


def _most(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)
