"""The buckets, and what is refused from outside."""

import pytest

from analytics.histogram import (
    BUCKETS,
    MOST_COUNT,
    bucket,
    counts_of,
    fault,
    lowest,
    middle,
    pack,
    quantile,
)


@pytest.mark.parametrize(
    ("value", "number"), [(0, 0), (31, 31), (32, 32), (33, 32), (34, 33), (63, 47), (64, 48), (49_000, 199)]
)
def test_sixteen_buckets_to_a_doubling(value: int, number: int) -> None:
    assert bucket(value) == number


def test_the_last_bucket_holds_the_greatest_integer_of_63_bits() -> None:
    assert bucket(2**63 - 1) == BUCKETS - 1
    assert lowest(BUCKETS) == 2**63


def test_a_median_is_the_middle_of_its_bucket() -> None:
    counts = counts_of([pack({bucket(100): 2}), pack({bucket(100): 1, bucket(900): 3})])
    assert quantile(counts, 0.5) == middle(bucket(100)) == 101
    assert quantile(counts, 1.0) == middle(bucket(900))
    assert quantile({}, 0.5) is None


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ((), ""),
        ((0, 1, BUCKETS - 1, MOST_COUNT), ""),
        ((5,), "a bucket without its count"),
        ((5, 1, 5, 1), "buckets that do not rise"),
        ((5, 1, 4, 1), "buckets that do not rise"),
        ((-1, 1), "buckets outside 0..959"),
        ((BUCKETS, 1), "buckets outside 0..959"),
        ((5, 0), "counts outside 1.."),
        ((5, MOST_COUNT + 1), "counts outside 1.."),
    ],
)
def test_what_is_no_histogram(told: tuple[int, ...], words: str) -> None:
    assert fault(told).startswith(words) if words else not fault(told)
