"""Metrics as Prometheus reads them: the text format, version 0.0.4. Pure.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from server.metrics.family import Family, Labels

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_LABEL: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


def exposition(families: Iterable[Family]) -> str:
    """Write families; one without a sample keeps its lines of help and type."""
    return "".join(line for one in families for line in _lines(one))


def name_of(family: Family) -> str:
    """A counter's name ends in ``_total``."""
    return f"{family.name}_total" if family.kind == "counter" else family.name


def _lines(family: Family) -> Iterator[str]:
    name = name_of(family)
    yield f"# HELP {name} {family.help.translate(_HELP)}\n# TYPE {name} {family.kind}\n"
    for sample in family.samples:
        yield f"{name}{_braced(sample.labels)} {_number(sample.value)}\n"


def _braced(labels: Labels) -> str:
    told = ",".join(f'{name}="{value.translate(_LABEL)}"' for name, value in labels)
    return f"{{{told}}}" if told else ""


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
