"""Arbitrary values that several property tests draw."""

from hypothesis import strategies as st

from analytics.histogram import BUCKETS, pack

HISTOGRAMS = st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 10**6), max_size=8).map(pack)
