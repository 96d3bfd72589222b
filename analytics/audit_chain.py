"""Chains of audit rows, and how one is checked. Pure.

A tenant has two: of its tests, and of all else that was done. In each, rows are numbered from 1, and a row's
hash is SHA-256 over::

    32  hash of the row before; zeroes before the first
     8  "PGarow" 0 1
     8  number of the row, big-endian, unsigned
     8  when, us since 1970
     T  tenant, chain, actor, action, subject, detail: each as four bytes of length and UTF-8

So a row cannot be changed, taken out, put in or moved without every hash after it being another. What stands
at the end is signed now and then (``analytics.trust.AuditMark``): whoever has no key of the server cannot
write hashes that fit. Rows that were kept for long enough are let go of; the mark of the last one that is
gone is where the rest goes on from.

What no chain can tell: that all of it, marks and all, was put back to an earlier state. For that, note the
number and the hash of a row elsewhere, and hold the chain against it (``noted``).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from analytics.trust import HASH_BYTES, AuditMark

START: Final = bytes(HASH_BYTES)
"""Stands for the hash of a row before the first."""
TESTS: Final = "tests"
ACTS: Final = "acts"
TEST_ACTIONS: Final = frozenset({"test", "tested"})
_MAGIC: Final = b"PGarow\0\1"
_HEAD: Final = struct.Struct(f"!{HASH_BYTES}s8sQq")
_LENGTH: Final = struct.Struct("!I")


def chain_of(action: str) -> str:
    """Say which chain a row belongs to: rows of tests are many, and kept for less long."""
    return TESTS if action in TEST_ACTIONS else ACTS


Hashed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A number as it is hashed: eight bytes."""


class ChainRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row in its chain."""

    seq: Hashed
    at_us: Hashed
    actor: str
    action: str
    subject: str
    detail: str
    hash: bytes


def hash_of(before: bytes, seq: int, at_us: int, *texts: str) -> bytes:
    """Hash a row; ``texts``: tenant, chain, actor, action, subject, detail."""
    digest = hashlib.sha256(_HEAD.pack(before, _MAGIC, seq, at_us))
    for text in texts:
        encoded = text.encode()
        digest.update(_LENGTH.pack(len(encoded)) + encoded)
    return digest.digest()


class Fault(StrEnum):
    """What can be wrong with a chain."""

    CHANGED = "changed"
    MISSING = "missing"
    OUT_OF_ORDER = "out of order"
    CUT = "cut at the end"
    HASHED_AGAIN = "hashed again"
    UNSIGNED = "unsigned"
    NOT_TO_TELL = "not to tell"


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """The first thing that is wrong."""

    seq: int  # of the row
    fault: Fault
    why: str


class ChainResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one chain."""

    chain: str
    rows: int
    first: int | None  # numbers of the first and last row; None: there is none
    last: int | None
    hash: str | None  # of the last, to be noted
    adopted: int  # rows up to this number are of before there were chains: how they were before, nobody knows
    signed: int | None  # number of the last row under a signature
    signed_us: int | None  # when that was signed
    broken: Broken | None = None


@dataclass(slots=True)
class Chain:
    """Checks one chain as its rows come, in order. ``noted``: hashes that somebody wrote down, by number."""

    tenant: str
    name: str
    marks: Iterable[AuditMark]  # their signatures hold; those of other chains are left out
    noted: Mapping[int, bytes] = field(default_factory=dict)
    before: AuditMark | None = None  # go on from here, and not from the first row
    rows: int = 0
    first: int | None = None
    last: int = 0
    hash: bytes = START
    broken: Broken | None = None
    _gone: dict[int, AuditMark] = field(init=False)
    _heads: dict[int, AuditMark] = field(init=False)

    def __post_init__(self) -> None:
        """Sort the marks by what they say."""
        own = [mark for mark in self.marks if (mark.tenant, mark.chain) == (self.tenant, self.name)]
        self._gone = {mark.seq: mark for mark in own if mark.gone_from}
        self._heads = {mark.seq: mark for mark in own if not mark.gone_from}
        if self.before is not None:
            self.last, self.hash = self.before.seq, self.before.hash

    def take(self, row: ChainRow) -> None:
        """Check the next row; after the first fault, only whether a missing one comes later."""
        self.rows += 1
        if self.broken is not None:
            if self.broken.fault is Fault.MISSING and row.seq == self.last + 1:
                self._fail(row.seq, Fault.OUT_OF_ORDER, f"it comes after row {self.broken.seq}")
            return
        if self._is_next(row):
            self._check(row)

    def _is_next(self, row: ChainRow) -> bool:
        if row.seq == self.last + 1:
            return True
        gone = self._gone.get(row.seq - 1)
        if gone is not None and gone.gone_from <= self.last + 1 < row.seq:
            self.last, self.hash = gone.seq, gone.hash
            return True
        if row.seq <= self.last:
            self._fail(row.seq, Fault.OUT_OF_ORDER, f"it comes after row {self.last}")
        else:
            gap = f"rows {self.last + 1} to {row.seq - 1}"
            why = f"{gap} are not there, and no signature says that they were let go of"
            self._fail(row.seq, Fault.MISSING, why)
        return False

    def _check(self, row: ChainRow) -> None:
        told = (self.tenant, self.name, row.actor, row.action, row.subject, row.detail)
        made = hash_of(self.hash, row.seq, row.at_us, *told)
        mark = self._heads.get(row.seq)
        if made != row.hash:
            self._fail(row.seq, Fault.CHANGED, "its hash is of other words, or of another row before it")
        elif mark is not None and mark.hash != made:
            why = "the hashes fit each other, and not the one that the server signed"
            self._fail(row.seq, Fault.HASHED_AGAIN, why)
        elif self.noted.get(row.seq, made) != made:
            self._fail(row.seq, Fault.HASHED_AGAIN, "its hash is not the one that was noted")
        else:
            self.first = row.seq if self.first is None else self.first
            self.last, self.hash = row.seq, made

    def skip_gone(self) -> None:
        """Go on behind the rows that were let go of after the last one here."""
        after = [mark for mark in self._gone.values() if mark.gone_from <= self.last + 1 <= mark.seq]
        for mark in after:
            self.last, self.hash = mark.seq, mark.hash

    def end(self, *, whole: bool) -> ChainResult:
        """Say what was found. ``whole``: every row must be under a signature, as in an export."""
        newest = max(self._heads.values(), key=lambda mark: mark.seq, default=None)
        if self.broken is None:
            self.skip_gone()
            self._check_end(newest, whole=whole)
        fine = self.broken is None and self.first is not None
        marks = [*self._heads.values(), *self._gone.values()]
        return ChainResult(
            chain=self.name,
            rows=self.rows,
            first=self.first,
            last=self.last if self.first is not None else None,
            hash=self.hash.hex() if fine else None,
            adopted=max((mark.adopted for mark in marks), default=0),
            signed=newest.seq if newest is not None else None,
            signed_us=newest.at_us if newest is not None else None,
            broken=self.broken,
        )

    def _check_end(self, newest: AuditMark | None, *, whole: bool) -> None:
        last = self.last
        signed = max(newest.seq if newest is not None else 0, max(self._gone, default=0))
        known = [seq for seq in self.noted if seq > last]
        if signed > last:
            self._fail(last + 1, Fault.CUT, f"row {signed} was signed; the last one here is row {last}")
        elif known:
            self._fail(last + 1, Fault.CUT, f"row {max(known)} was noted; the last one here is row {last}")
        elif whole and self.rows and signed < last:
            self._fail(signed + 1, Fault.UNSIGNED, f"no signature covers rows {signed + 1} to {last}")
        elif early := [seq for seq in self.noted if self.first is None or seq < self.first]:
            self._fail(min(early), Fault.NOT_TO_TELL, "it was noted, and let go of since")

    def _fail(self, seq: int, fault: Fault, why: str) -> None:
        self.broken = Broken(seq=seq, fault=fault, why=why)
