"""Histograms: whoever merges them, in whatever order, gets the same."""

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from analytics.histogram import BUCKETS, bucket, counts_of, fault, lowest, middle, pack, quantile
from tests.property.strategies import HISTOGRAMS

VALUES = st.integers(0, 2**63 - 1)
MANY = st.lists(HISTOGRAMS, max_size=6)


@given(VALUES)
def test_a_value_is_in_its_bucket(value: int) -> None:
    number = bucket(value)
    assert 0 <= number < BUCKETS
    assert lowest(number) <= value < lowest(number + 1)
    assert bucket(lowest(number)) == bucket(middle(number)) == number


@given(VALUES)
def test_the_middle_is_at_most_a_thirtysecond_off(value: int) -> None:
    assert 32 * abs(middle(bucket(value)) - value) <= value


@given(VALUES, VALUES)
def test_buckets_rise_with_their_values(one: int, other: int) -> None:
    assert (bucket(one) <= bucket(other)) or one > other


@given(MANY, st.randoms(use_true_random=False), st.integers(0, 6))
def test_merging_knows_no_order_and_no_brackets(many, random, cut) -> None:  # type: ignore[no-untyped-def]
    whole = pack(counts_of(many))
    shuffled = random.sample(many, len(many))
    halves = [pack(counts_of(shuffled[:cut])), pack(counts_of(shuffled[cut:]))]
    assert pack(counts_of(halves)) == whole
    assert not fault(whole)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_is_in_the_bucket_of_the_sample_with_that_rank(samples: list[int], part: float) -> None:
    rank = max(1, -int(-part * len(samples) // 1))
    counts = counts_of(pack({bucket(sample): 1}) for sample in samples)
    assert quantile(counts, part) == middle(bucket(sorted(samples)[rank - 1]))


@given(MANY)
def test_sql_merges_as_python_does(many: list[tuple[int, ...]]) -> None:
    merged = duckdb.execute(
        """
        WITH pairs AS (
            SELECT h[i] AS bucket, sum(h[i + 1]) AS count
            FROM (SELECT h, unnest(range(1, len(h), 2)) AS i FROM (SELECT unnest($many::BIGINT[][]) AS h))
            GROUP BY bucket
        )
        SELECT bucket, count FROM pairs ORDER BY bucket
        """,
        {"many": [list(one) for one in many]},
    ).fetchall()
    assert tuple(part for pair in merged for part in pair) == pack(counts_of(many))
