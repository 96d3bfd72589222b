"""Log-linear histograms that can be merged: of latencies, over sessions, windows, hours and agents.

Buckets are numbered; 16 to each doubling, so that a value is known within 1/16 (the middle of a bucket is at
most 3.2 % off). Up to 31 a bucket is one value. A histogram is sparse: ``(bucket, count, bucket, count ..)``,
buckets rising. The scheme is that of HdrHistogram (Tene), with integers only, so that every engine agrees.

Where more is asked, 64 buckets go to a doubling (``FINE_BITS``): each is at most 1/64 wide, so its middle is
at most 0.8 % off, and the ratio of neighbours is below 1.02. A column's definition says which of both it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final

SUB_BITS: Final = 4
_SUBS: Final = 1 << SUB_BITS
FINE_BITS: Final = 6
BUCKETS: Final = (63 - SUB_BITS) * _SUBS + _SUBS
"""Buckets for values below 2^63."""

MOST_COUNT: Final = 2**40
"""Of one bucket: so that no sum over a day of a large fleet leaves 63 bits, in any engine."""

Histogram = tuple[int, ...]


def bucket(value: int, sub_bits: int = SUB_BITS) -> int:
    """Number of the bucket that a value >= 0 falls in."""
    shift = max(0, value.bit_length() - 1 - sub_bits)
    return (shift << sub_bits) + (value >> shift)


def lowest(number: int, sub_bits: int = SUB_BITS) -> int:
    """Least value of a bucket."""
    shift = max(0, (number >> sub_bits) - 1)
    return (number - (shift << sub_bits)) << shift


def bounds(number: int, sub_bits: int = SUB_BITS) -> tuple[int, int]:
    """Least and greatest value of a bucket."""
    return lowest(number, sub_bits), lowest(number + 1, sub_bits) - 1


def middle(number: int, sub_bits: int = SUB_BITS) -> int:
    """Middle of a bucket: what a value in it is taken for."""
    return sum(bounds(number, sub_bits)) // 2


def pack(counts: Mapping[int, int]) -> Histogram:
    """Write counts by bucket as a histogram."""
    return tuple(part for pair in sorted(counts.items()) for part in pair)


def counts_of(histograms: Iterable[Histogram]) -> Counter[int]:
    """Merge histograms into counts by bucket."""
    merged: Counter[int] = Counter()
    for one in histograms:
        for number, count in zip(one[::2], one[1::2], strict=True):
            merged[number] += count
    return merged


def quantile(counts: Mapping[int, int], part: float) -> int | None:
    """Value below which that part of the samples lies, 0 < part <= 1, lower rank; None without samples."""
    total = sum(counts.values())
    return middle(ranked(counts, max(1, -int(-part * total // 1)))) if total else None


def ranked(counts: Mapping[int, int], rank: int) -> int:
    """Find the bucket of the sample with a rank, 1 for the least. Raises ``ValueError`` beyond the last."""
    seen = 0
    for number in sorted(counts):
        seen += counts[number]
        if seen >= rank:
            return number
    raise ValueError(f"rank {rank} of {seen} samples")


def fault(one: Histogram) -> str:
    """Say why something from outside is no histogram; empty if it is one."""
    numbers, counts = one[::2], one[1::2]
    if len(numbers) != len(counts):
        return "a bucket without its count"
    if any(after <= before for before, after in pairwise(numbers)):
        return "buckets that do not rise"
    if numbers and not 0 <= numbers[0] <= numbers[-1] < BUCKETS:
        return f"buckets outside 0..{BUCKETS - 1}"
    if any(not 1 <= count <= MOST_COUNT for count in counts):
        return f"counts outside 1..{MOST_COUNT}"
    return ""
