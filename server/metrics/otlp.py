"""Metrics as OpenTelemetry's protocol has them (OTLP 1.x, metrics, protobuf). Pure.

https://opentelemetry.io/docs/specs/otlp/ . One resource a tenant; a gauge is a Gauge, a counter a monotonic
cumulative Sum since the server started.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    Gauge,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from server.metrics.family import Family

SCOPE: Final = "pathgrade"
_NS: Final = 1_000
"""Nanoseconds to a microsecond."""


def export_request(
    tenants: Mapping[str, Sequence[Family]], *, version: str, started_us: int, at_us: int
) -> ExportMetricsServiceRequest:
    """Put the metrics of each tenant together; a family without a sample is left out."""
    return ExportMetricsServiceRequest(
        resource_metrics=[
            ResourceMetrics(
                resource=Resource(attributes=_attributes(_resource(tenant, version))),
                scope_metrics=[
                    ScopeMetrics(
                        scope=InstrumentationScope(name=SCOPE, version=version),
                        metrics=[_metric(one, started_us, at_us) for one in families if one.samples],
                    )
                ],
            )
            for tenant, families in tenants.items()
        ]
    )


def _resource(tenant: str, version: str) -> list[tuple[str, str]]:
    return [("service.name", "pathgrade"), ("service.version", version), ("pathgrade.tenant", tenant)]


def _metric(family: Family, started_us: int, at_us: int) -> Metric:
    points = [
        NumberDataPoint(
            attributes=_attributes(sample.labels),
            start_time_unix_nano=started_us * _NS if family.kind == "counter" else 0,
            time_unix_nano=at_us * _NS,
            as_double=sample.value,
        )
        for sample in family.samples
    ]
    metric = Metric(name=family.name, description=family.help, unit=_unit(family.name))
    if family.kind == "gauge":
        metric.gauge.CopyFrom(Gauge(data_points=points))
    else:
        metric.sum.CopyFrom(
            Sum(
                data_points=points,
                aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE,
                is_monotonic=True,
            )
        )
    return metric


def _unit(name: str) -> str:
    """UCUM, by how the name ends."""
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "1")


_UNITS: Final = {"_seconds": "s", "_bytes": "By", "_percent": "%"}


def _attributes(pairs: Iterable[tuple[str, str]]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in pairs]
