"""Metrics: scraped by the real Prometheus, asked for by the dashboard, pushed to a collector."""

import asyncio
import gzip
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from analytics.overview import Metric
from server.alerts.receivers.config import AlertsConfig, Webhook
from server.errors import SettingsError
from server.metrics import fleet
from server.metrics.exposition import exposition
from server.metrics.family import Family, family, labels
from server.metrics.own import READINGS, Failures
from server.metrics.push import OtlpPusher, read_headers
from tests.unit.alerts.parts import parts, worsen
from tests.unit.alerts.receivers import prometheus, until, web
from tests.unit.web.fleet import serve

DASHBOARD = Path(__file__).parents[3] / "docs" / "grafana" / "pathgrade.json"


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory):
    """A server in trouble, scraped by Debian's Prometheus: what it served, and where to ask."""
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "secret").write_text("0123456789abcdef")
    nobody = Webhook(url="http://127.0.0.1:9/", secret_file=folder / "secret")
    with parts(folder, config=AlertsConfig(receivers={"oncall": nobody}), pairs=True) as of:
        worsen(of)
        of.desk.watcher.look()
        with (
            serve(of.core, alerts=of.desk, meter=of.meter) as url,
            prometheus(folder, url.removeprefix("http://")) as at,
        ):
            text = httpx.get(f"{url}/metrics", trust_env=False)
            until(lambda: query(at, "pathgrade_info"), "it was scraped")
            # rate() wants two samples.
            until(lambda: query(at, "rate(pathgrade_server_cpu_seconds_total[1m])"), "it was scraped twice")
            yield text, at


def query(at: str, expression: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{at}/api/v1/query", params={"query": expression}, trust_env=False)
    assert answer.status_code == 200, (expression, answer.text)
    told = answer.json()
    assert told["status"] == "success"
    found: list[dict[str, Any]] = told["data"]["result"]
    return found


def test_prometheus_has_the_series_and_their_values(scraped) -> None:
    _, at = scraped
    cannot = query(at, 'pathgrade_workplaces{profile="pacs",state="cannot"}')
    assert [one["value"][1] for one in cannot] == ["1"]
    (alert,) = query(at, 'pathgrade_alerts{severity="warning",state="new"}')
    assert alert["value"][1] == "1"
    bad = query(at, 'pathgrade_site_paths{profile="pacs",site="hotel",letter="D"}')
    assert [one["value"][1] for one in bad] == ["2"]
    (rtt,) = query(at, 'pathgrade_site_rtt_seconds{src_site="hotel",dst_site="hospital"}')
    (path,) = query(at, 'pathgrade_path_rtt_seconds{src="radiologist",dst="pacs",stat="p50"}')
    assert rtt["value"][1] == path["value"][1]
    assert 0.2 < float(rtt["value"][1]) < 0.3
    assert query(at, 'pathgrade_path_grade{src="pacs",dst="radiologist"}')[0]["value"][1] == "3"
    assert query(at, 'pathgrade_notices_waiting{receiver="oncall"}')[0]["value"][1] == "1"
    assert query(at, "up")[0]["value"][1] == "1"


def test_every_reading_of_the_server_is_there(scraped) -> None:
    answer, _ = scraped
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = set(re.findall(r"^# TYPE (\S+)", answer.text, re.MULTILINE))
    for name, reading in READINGS.items():
        plain = f"pathgrade_server_{re.sub('_s$', '_seconds', name)}"
        assert (f"{plain}_total" if reading.kind == "counter" else plain) in names


def test_every_query_of_the_dashboard_is_answered_by_what_is_served(scraped) -> None:
    answer, at = scraped
    served = set(re.findall(r"^# TYPE (\S+)", answer.text, re.MULTILINE))
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = [one["definition"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    assert len(expressions) > 20
    for expression in expressions:
        assert set(re.findall(r"pathgrade_\w+", expression)) <= served, expression
        assert query(at, expression.replace("$profile", ".*").replace("$site", ".*")), expression
    for definition in asked:
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", definition).groups()
        assert all(label in one["metric"] for one in query(at, metric)), definition


def test_without_asking_there_is_nothing_path_by_path(tmp_path: Path) -> None:
    with parts(tmp_path) as of:
        of.desk.watcher.look()
        names = {one.name for one in of.meter.families()}
    assert not {name for name in names if name.startswith("pathgrade_path_")}
    assert "pathgrade_site_paths" in names


def test_the_number_of_series_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for limit in ("MOST_SITES", "MOST_SITE_PAIRS", "MOST_PATHS"):
        monkeypatch.setattr(fleet, limit, 2)
    with parts(tmp_path, pairs=True) as of:
        of.desk.watcher.look()
        told = {one.name: one for one in of.meter.families()}
    assert len(told["pathgrade_site_rtt_seconds"].samples) == 2
    assert len(told["pathgrade_agents"].samples) == 4
    assert told["pathgrade_site_pairs_left_out"].samples[0].value > 0
    assert told["pathgrade_paths_left_out"].samples[0].value == 28
    assert len({dict(one.labels)["site"] for one in told["pathgrade_site_paths"].samples}) == 2


def test_loss_is_the_mean_of_what_was_measured(tmp_path: Path) -> None:
    with parts(tmp_path) as of:
        made = fleet.site_losses(of.core.matrix("pacs", Metric.LOSS))
    told = {dict(one.labels)["site"]: one.value for one in made.samples}
    assert told["hotel"] == pytest.approx(0.0033)  # one of 300, in basis points
    assert told["home"] == 0


def test_labels_are_escaped_and_what_is_not_known_is_left_out() -> None:
    odd = family("a", "what\nit is", {labels(site='x"\\\n'): 1.5, labels(site="none"): None}, kind="counter")
    assert (
        exposition([odd])
        == '# HELP a_total what\\nit is\n# TYPE a_total counter\na_total{site="x\\"\\\\\\n"} 1.5\n'
    )


# --- OTLP ---------------------------------------------------------------------------------------------------


async def pushed(
    collector, *families: Family, times: int = 1, headers: dict[str, str] | None = None
) -> Failures:
    failures = Failures()
    pusher = OtlpPusher(
        f"{collector.url}/v1/metrics",
        lambda: {"default": families},
        version="0.1.0",
        interval_s=0.01,
        headers=headers or {},
        failures=failures,
    )
    running = asyncio.create_task(pusher.run())
    await asyncio.to_thread(collector.wait, times)
    running.cancel()
    await asyncio.wait([running])
    return failures


def request_of(taken) -> ExportMetricsServiceRequest:
    return ExportMetricsServiceRequest.FromString(gzip.decompress(taken.body))


def test_a_collector_reads_what_is_pushed(tmp_path: Path) -> None:
    with parts(tmp_path) as of, web() as collector:
        collector.body = b""
        of.desk.watcher.look()
        families = of.meter.families()
        asyncio.run(pushed(collector, *families, headers={"X-Scope-OrgID": "us"}))
        taken = collector.taken[0]
    assert taken.path == "/v1/metrics"
    assert taken.headers["content-type"] == "application/x-protobuf"
    assert taken.headers["x-scope-orgid"] == "us"
    (resource,) = request_of(taken).resource_metrics
    attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert attributes == {
        "service.name": "pathgrade",
        "service.version": "0.1.0",
        "pathgrade.tenant": "default",
    }
    metrics = {one.name: one for one in resource.scope_metrics[0].metrics}
    assert set(metrics) == {one.name for one in families if one.samples}
    cpu = metrics["pathgrade_server_cpu_seconds"]
    assert cpu.sum.is_monotonic
    assert cpu.unit == "s"
    assert cpu.sum.data_points[0].as_double > 0
    assert cpu.sum.data_points[0].start_time_unix_nano <= cpu.sum.data_points[0].time_unix_nano
    states = {
        point.attributes[1].value.string_value: point.as_double
        for point in metrics["pathgrade_workplaces"].gauge.data_points
        if point.attributes[0].value.string_value == "pacs"
    }
    assert states["can"] == 4


def test_what_a_collector_does_not_take_is_counted_and_the_next_one_is_sent() -> None:
    one = family("a", "b", 1.0)
    with web() as collector:
        collector.answers = [(503, {}), (400, {})]
        collector.body = ExportMetricsServiceResponse(
            partial_success=ExportMetricsPartialSuccess(rejected_data_points=1, error_message="no")
        ).SerializeToString()
        failures = asyncio.run(pushed(collector, one, times=4))
    assert failures.otlp_failures >= 3
    assert len(collector.taken) >= 4


def test_settings_of_otlp_that_do_not_hold_are_one_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not a URL"):
        OtlpPusher("localhost", dict, version="", interval_s=1, headers={}, failures=Failures())
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer x\n\nX-Scope-OrgID: us\n")
    assert read_headers(file) == {"Authorization": "Bearer x", "X-Scope-OrgID": "us"}
    file.write_text("nonsense-secret")
    with pytest.raises(SettingsError) as caught:
        read_headers(file)
    assert "secret" not in str(caught.value)
