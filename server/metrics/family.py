"""One metric with its samples: what ``/metrics`` and OTLP are both written from. Pure data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

Kind = Literal["gauge", "counter"]
Labels = tuple[tuple[str, str], ...]

NONE: Final[Labels] = ()


class Sample(NamedTuple):
    """One value."""

    labels: Labels
    value: float


class Family(NamedTuple):
    """A metric: its name in base units, as Prometheus wants it, without ``_total``."""

    name: str
    kind: Kind
    help: str
    samples: list[Sample]


def family(
    name: str, help_: str, values: Mapping[Labels, float | None] | float | None, *, kind: Kind = "gauge"
) -> Family:
    """Put a metric together; what is None is left out."""
    told: Iterable[tuple[Labels, float | None]] = (
        values.items() if isinstance(values, Mapping) else [(NONE, values)]
    )
    return Family(name, kind, help_, [Sample(labels, float(v)) for labels, v in told if v is not None])


def labels(**values: str) -> Labels:
    """Labels in the order they are written in."""
    return tuple(values.items())
