"""Files of alerts and metrics: receivers, rules of one's own, secrets, headers of OTLP."""

from __future__ import annotations

from collections.abc import Iterator

from shaped import chosen, either, file_of

from server.alerts.receivers.config import load_receivers, read_secret
from server.alerts.rules import OwnAlertRules, _checked, read_toml
from server.errors import SettingsError
from server.metrics.push import read_headers

ALLOWED = (SettingsError,)
SHORT_RUNS = 100


def target(data: bytes) -> object:
    return either(
        data,
        lambda body: load_receivers(file_of(body, "receivers.toml")),
        _rules,
        lambda body: read_secret(file_of(body, "secret")),
        lambda body: read_headers(file_of(body, "headers")),
    )


def _rules(data: bytes) -> None:
    """As ``load_alert_rules`` does, but without the built-in ones."""
    path = file_of(data, "alert-rules.toml")
    _checked(path, read_toml(path, OwnAlertRules), {"x": None})


def seeds() -> Iterator[bytes]:
    yield chosen(
        0,
        b'link = "https://pathgrade.example.org"\n[receivers.oncall]\nkind = "webhook"\n'
        b'url = "https://oncall.example.org/x"\nsecret_file = "/dev/null"\n',
    )
    yield chosen(
        0, b'[receivers.a]\nkind = "alertmanager"\nurl = "http://[::1]:9093"\nlabels = { a = "b" }\n'
    )
    yield chosen(0, b'[receivers.m]\nkind = "email"\nhost = "localhost"\nsender = "a@b"\nto = ["c@d"]\n')
    yield chosen(
        1,
        b'version = "own"\n[rules.x]\nwatches = "own"\nrule = "r"\ntitle = "t"\nhold_s = 1\nquiet_s = 1\n'
        b'reading = "x"\nseverity = "warning"\nabove = 3\n',
    )
    yield chosen(2, b"a-secret-of-sixteen-letters\n")
    yield chosen(3, b"Authorization: Basic abc\nX-Scope: 1\n")
