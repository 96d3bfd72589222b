"""The audit chains of a tenant as a file that is checked without a server.

One JSON object a line: a ``header``, each ``row`` of both chains, the signed ``mark`` of how far each has
come and of what is gone, an ``end``. The marks come last, as rows may be let go of while they are written:
the file is read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from analytics.audit_chain import Chain, ChainResult, ChainRow
from analytics.errors import UNREADABLE, ExportError, SealError
from analytics.trust import AuditMark, key_text
from server.audit_seal import CHAINS, Sealer, marks_of, read_mark
from server.ledger import rows_of
from server.state import State

FORMAT: Final = "pathgrade-audit 1"
MOST_LINE: Final = 64 * 1024
"""Bytes of a line: a row has some hundred."""
PIECE_ROWS: Final = 1_000

Noted = Mapping[str, Mapping[int, bytes]]
"""Hashes that somebody wrote down: chain -> number -> hash."""


class Header(msgspec.Struct, frozen=True, kw_only=True, tag="header", forbid_unknown_fields=True):
    """Whose rows they are."""

    format: str
    tenant: str
    key: str  # what the marks are signed with; who checks takes the key from elsewhere
    made_us: int


class Row(ChainRow, frozen=True, kw_only=True, tag="row", forbid_unknown_fields=True):
    """A row."""

    chain: str


class Mark(msgspec.Struct, frozen=True, kw_only=True, tag="mark", forbid_unknown_fields=True):
    """``analytics.trust.AuditMark``, signed."""

    sealed: bytes


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end", forbid_unknown_fields=True):
    """Nothing comes behind it."""

    rows: int


Line = Header | Row | Mark | End
_encode: Final[Callable[[Line], bytes]] = msgspec.json.Encoder().encode
_DECODER: Final[msgspec.json.Decoder[Line]] = msgspec.json.Decoder(Line)


def written(state: State, tenant: str, sealer: Sealer, *, now_us: int) -> Iterator[bytes]:
    """Sign how far the chains have come, and give the file in pieces of whole lines.

    Raises ``AuditBrokenError``, ``SealError`` and ``StateError``; the first before anything is given.
    """
    state.sign_audit(sealer, now_us=now_us, only=tenant)
    with state.transaction(write=False) as connection:
        first = marks_of(connection, tenant)
    heads = [read_mark(sealed, sealer.public_key) for sealed in first]
    last = {chain: max((m.seq for m in heads if m.chain == chain), default=0) for chain in CHAINS}
    key = key_text(sealer.public_key)
    yield _encode(Header(format=FORMAT, tenant=tenant, key=key, made_us=now_us)) + b"\n"
    count = 0
    for chain in CHAINS:
        for rows in _pieces(state, tenant, chain, last[chain]):
            count += len(rows)
            yield b"".join(_encode(row) + b"\n" for row in rows)
    with state.transaction(write=False) as connection:
        now = marks_of(connection, tenant)
    # A signature of meanwhile takes the place of the day's earlier one, and is of rows that are not in the
    # file. Of what is gone the later mark counts: it says the same of more rows.
    marks = [one for one in dict.fromkeys([*first, *now]) if _fits(read_mark(one, sealer.public_key), last)]
    yield b"".join(_encode(Mark(sealed=one)) + b"\n" for one in marks) + _encode(End(rows=count)) + b"\n"


def _fits(mark: AuditMark, last: Mapping[str, int]) -> bool:
    """Whether a mark is of rows in the file: others may have come since."""
    return mark.seq <= last.get(mark.chain, 0)


def _pieces(state: State, tenant: str, chain: str, upto: int) -> Iterator[list[Row]]:
    """Read a piece at a time: a reader that is slow must not hold up what the database tidies."""
    after = -1
    while True:
        with state.transaction(write=False) as connection:
            found = rows_of(connection, tenant, chain, after_id=after, at_once=PIECE_ROWS)
            rows = [one for _, one in zip(range(PIECE_ROWS), found, strict=False)]
        told = [Row(chain=chain, **msgspec.structs.asdict(row)) for _, row in rows if row.seq <= upto]
        if told:
            yield told
        if len(told) < PIECE_ROWS:
            return
        after = rows[-1][0]


def verified(path: Path, key: bytes, noted: Noted | None = None) -> tuple[Header, list[ChainResult]]:
    """Check a file by the server's public key; what is wrong with a chain is in its result.

    Raises ``ExportError`` where it cannot be read, ``SealError`` where it is no such file, is cut short, or
    has a mark by another key.
    """
    marks = [read_mark(line.sealed, key) for line in _lines(path) if isinstance(line, Mark)]
    lines = _lines(path)
    header = next(lines, None)
    if not isinstance(header, Header) or header.format != FORMAT:
        raise SealError(f"{path} is no {FORMAT} file", remedy="pathgrade audit export FILE writes one")
    chains = {name: Chain(header.tenant, name, marks, (noted or {}).get(name, {})) for name in CHAINS}
    end: Line | None = None
    for line in lines:
        if isinstance(line, Row) and line.chain in chains:
            chains[line.chain].take(line)
        end = line
    if not isinstance(end, End):
        raise SealError(f"{path} is cut short: its last line is not there", remedy="export it again")
    return header, [chain.end(whole=True) for chain in chains.values()]


def _lines(path: Path) -> Iterator[Line]:
    try:
        with path.open("rb") as file:
            while line := file.readline(MOST_LINE + 1):
                yield _line(path, line)
    except OSError as error:
        raise ExportError(f"read {path}: {error.strerror}", remedy="name a file that is there") from error


def _line(path: Path, line: bytes) -> Line:
    try:
        if len(line) > MOST_LINE:
            raise SealError(f"{path} has a line of more than {MOST_LINE} bytes")
        return _DECODER.decode(line)
    except UNREADABLE as error:
        raise SealError(f"{path} is no {FORMAT} file: {error}") from error
