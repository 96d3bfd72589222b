"""What was found of audit chains, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analytics import words
from analytics.audit_chain import ChainResult
from server.pages import text


def lines(tenant: str, results: Sequence[ChainResult]) -> Iterator[str]:
    """Say a tenant's chains, a line or two each."""
    for result in results:
        yield f"{tenant} {result.chain}: {_found(result)}"
        if result.adopted:
            yield f"  rows up to {result.adopted} are of before there were chains: they may have been others"
        if result.signed_us is not None:
            yield f"  signed up to row {result.signed}, {text.iso(result.signed_us)}{_unsigned(result)}"
        if result.hash is not None:
            yield f"  to note: {result.chain}:{result.last}:{result.hash}"


def _found(result: ChainResult) -> str:
    if result.broken is not None:
        return f"BROKEN at row {result.broken.seq}: {result.broken.fault}; {result.broken.why}"
    if result.first is None:
        return "no rows"
    return f"intact from row {result.first} to {result.last}, {words.count(result.rows, 'row')}"


def _unsigned(result: ChainResult) -> str:
    after = (result.last or 0) - (result.signed or 0)
    return f"; {words.count(after, 'row')} since then not yet" if after > 0 else ""
