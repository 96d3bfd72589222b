"""As ``analytics/evidence.py``, over columns: a path's own reading is ``a_*``, the other direction's ``b_*``.

What comes of it, for every kind: ``p50_*``, ``m95_*`` (the median where as many samples are asked for as
for a 95th percentile), ``p95_*``, ``p99_*`` with ``_value``, ``_low`` and ``_high`` in us; ``_value`` is
NULL with too few samples, and then the other two mean nothing; ``a_loss_*``, ``b_loss_*``, ``w_loss_*``
(own, other, worse direction) as shares; ``*_lost`` and ``*_sent``.
"""

from __future__ import annotations

from typing import Final

from analytics.evidence import Z_90
from analytics.grade import FAILED, STALE, UNREACHABLE
from analytics.measurement import Rung
from analytics.rules.load import Rules, Samples
from analytics.sql.text import Layer, as_real, case, real, text

PARTS: Final = ("value", "low", "high")
NO_BACK: Final = "(b_sent IS NULL OR b_sent = 0)"
"""What is lost on the way back is not known."""

_Z2: Final = Z_90**2
_PERCENTILES: Final = {
    # name -> (samples needed, low, value, high)
    "p50": ("rtt_p50_n", "rtt_p25_us", "rtt_p50_us", "rtt_p75_us"),
    "m95": ("rtt_p95_n", "rtt_p25_us", "rtt_p50_us", "rtt_p75_us"),
    "p95": ("rtt_p95_n", "rtt_p90_us", "rtt_p95_us", "rtt_p99_us"),
    "p99": ("rtt_p99_n", "rtt_p95_us", "rtt_p99_us", "rtt_p99_us"),
}


def evidence_layers(rules: Rules, at_us: int | str) -> list[Layer]:
    """What all kinds of profiles grade by; ``none_rule`` names the rule where no number means anything.

    ``at_us`` is the moment, or the column of ``pairs`` that has it.
    """
    return [
        {**_raw(rules.samples), **_lost(), "ended_or_begun_us": _measured_at(at_us)},
        {**_estimates(), **_shares(), "none_rule": _without_numbers(rules, at_us)},
        {**_wilson("a"), **_wilson("b"), "worse_is_b": _WORSE_IS_B},
        {**_interval("a"), **_interval("b")},
        _worse(),
        {f"likely_{part}": _likely(part, rules.samples) for part in PARTS},
    ]


def _measured_at(at_us: int | str) -> str:
    """As ``grade.measured_at_us``."""
    begin = "a_cycle * 1000000"
    took = "greatest(0, a_ended_us - a_started_us)"
    own = f"{begin} <= a_ended_us AND a_ended_us <= {at_us}"
    return case((own, "a_ended_us"), other=f"least({at_us}, {begin} + {took})")


def _without_numbers(rules: Rules, at_us: int | str) -> str:
    stale = f"{at_us} - ended_or_begun_us > {rules.stale_after_s * 1_000_000}"
    return case(
        (stale, text(STALE)),
        ("a_error <> ''", text(FAILED)),
        (f"a_rung = {text(Rung.NONE.value)}", text(UNREACHABLE)),
        other="CAST(NULL AS VARCHAR(64))",
    )


def _raw(samples: Samples) -> Layer:
    """Percentiles of the first end that has samples enough: the round trip is the same from either."""
    found = {}
    for name, (needed, *columns) in _PERCENTILES.items():
        least = getattr(samples, needed)
        for part, column in zip(("low", "value", "high"), columns, strict=True):
            found[f"{name}_{part}_raw"] = case(
                (f"a_rtt_n >= {least}", f"a_{column}"), (f"b_rtt_n >= {least}", f"b_{column}")
            )
    return found


def _estimates() -> Layer:
    found = {}
    for name in _PERCENTILES:
        value = f"{name}_value_raw"
        found[f"{name}_value"] = value
        found[f"{name}_low"] = f"least({value}, {name}_low_raw)"  # NULL is left out
        found[f"{name}_high"] = f"greatest({value}, {name}_high_raw)"
    return found


def _lost() -> Layer:
    return {f"{end}_lost": f"greatest(0, {end}_sent - {end}_received)" for end in ("a", "b")}


def _shares() -> Layer:
    return {
        f"{end}_loss_value": case(
            (f"{end}_sent > 0", f"{as_real(f'{end}_lost')} / {end}_sent"), other=real(0)
        )
        for end in ("a", "b")
    }


def _wilson(end: str) -> Layer:
    """Middle and half of the interval; written in the order that Python computes in."""
    n, p, z2 = as_real(f"{end}_sent"), f"{end}_loss_value", real(_Z2)
    below = f"(1 + {z2} / {n})"
    middle = f"({p} + {z2} / (2 * {n})) / {below}"
    half = f"{real(Z_90)} / {below} * sqrt({p} * (1 - {p}) / {n} + {z2} / (4 * {n} * {n}))"
    sent, nothing = f"{end}_sent > 0", "CAST(NULL AS DOUBLE)"
    return {
        f"{end}_middle": case((sent, middle), other=nothing),
        f"{end}_half": case((sent, half), other=nothing),
    }


_WORSE_IS_B: Final = "coalesce(b_sent > 0 AND (a_sent = 0 OR b_loss_value > a_loss_value), FALSE)"


def _interval(end: str) -> Layer:
    none, all_of_it = real(0), real(1)
    return {
        f"{end}_loss_low": case(
            (f"{end}_lost > 0 AND {end}_sent > 0", f"greatest({none}, {end}_middle - {end}_half)"), other=none
        ),
        f"{end}_loss_high": case(
            (f"{end}_sent > 0", f"least({all_of_it}, {end}_middle + {end}_half)"), other=all_of_it
        ),
    }


def _worse() -> Layer:
    columns = ("lost", "sent", *(f"loss_{part}" for part in PARTS))
    return {f"w_{column}": case(("worse_is_b", f"b_{column}"), other=f"a_{column}") for column in columns}


def _likely(part: str, samples: Samples) -> str:
    return case(
        ("w_lost > 0", f"w_loss_{part}"),
        (f"w_sent >= {samples.loss_n}", real(0)),
        other="CAST(NULL AS DOUBLE)",
    )
