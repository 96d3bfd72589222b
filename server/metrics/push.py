"""Sends metrics to an OpenTelemetry collector, again and again: OTLP over HTTP with protobuf.

What does not arrive is not kept: the next values say more. It is counted, and said once in a while.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from analytics.clock import now_us
from analytics.errors import AnalyticsError
from server.alerts.threads import to_the_end
from server.errors import ServerError, SettingsError
from server.metrics.family import Family
from server.metrics.otlp import export_request
from server.metrics.own import Failures

log: Final = logging.getLogger("pathgrade.server.otlp")

TIMEOUT_S: Final = 10.0
MOST_HEADERS: Final = 16_384
SAY_AFTER: Final = 60
"""Failures in a row after which the log says so again."""

Collect = Callable[[], Mapping[str, Sequence[Family]]]


class OtlpPusher:
    """One collector. ``collect`` runs in a worker thread."""

    def __init__(
        self,
        url: str,
        collect: Collect,
        *,
        version: str,
        interval_s: float,
        headers: Mapping[str, str],
        failures: Failures,
        clock: Callable[[], int] = now_us,
    ) -> None:
        _check(url)
        self._url = url
        self._collect = collect
        self._version = version
        self._interval_s = interval_s
        self._headers = {**headers, "Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        self._failures = failures
        self._clock = clock
        self._started_us = clock()
        self._failing = 0

    async def run(self) -> None:
        """Send until cancelled."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            while True:
                why = await self._push(client)
                self._note(why)
                await asyncio.sleep(self._interval_s)

    async def _push(self, client: httpx.AsyncClient) -> str:
        """Send once; returns why it was not taken, or nothing."""
        try:
            body = await to_the_end(self._body)
            async with asyncio.timeout(TIMEOUT_S):
                answer = await client.post(self._url, content=body, headers=self._headers)
        except (httpx.HTTPError, OSError, AnalyticsError, ServerError) as error:
            return str(error) or type(error).__name__
        except Exception as error:  # a mistake of ours must not end the server
            log.exception("metrics not sent")
            return str(error) or type(error).__name__
        if not answer.is_success:
            return f"{answer.status_code} {answer.reason_phrase}"
        return _rejected(answer.content)

    def _body(self) -> bytes:
        request = export_request(
            self._collect(), version=self._version, started_us=self._started_us, at_us=self._clock()
        )
        return gzip.compress(request.SerializeToString(), compresslevel=1)

    def _note(self, why: str) -> None:
        if why:
            self._failures.otlp_failures += 1
            if self._failing % SAY_AFTER == 0:
                log.warning("metrics not taken url=%s why=%r", self._url, why)
            self._failing += 1
        elif self._failing:
            log.info("metrics are taken again url=%s after=%d", self._url, self._failing)
            self._failing = 0


def _rejected(body: bytes) -> str:
    """What a collector took only a part of (OTLP, partial success); nothing where it took all."""
    try:
        partial = ExportMetricsServiceResponse.FromString(body).partial_success
    except DecodeError:
        return ""  # an empty answer, or one in words: it was a 200
    if not partial.rejected_data_points:
        return ""
    return f"{partial.rejected_data_points} points rejected: {partial.error_message[:200]}"


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:  # a bracket without its other half
        good = False
    if not good:
        raise SettingsError(f"otlp_url: {url!r} is not a URL", remedy="as http://127.0.0.1:4318/v1/metrics")


def read_headers(path: Path | None) -> dict[str, str]:
    """Read ``Name: value`` lines; raises ``SettingsError``, which never holds a value."""
    if path is None:
        return {}
    try:
        with path.open() as file:
            lines = file.read(MOST_HEADERS).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise SettingsError(f"read the headers {path}: {why}", remedy="name a readable file") from error
    told = [line.partition(":") for line in lines if line.strip()]
    if not all(colon and name.strip().isascii() and value.isprintable() for name, colon, value in told):
        raise SettingsError(f"read the headers {path}: not 'Name: value' lines", remedy="one header a line")
    return {name.strip(): value.strip() for name, _, value in told}
