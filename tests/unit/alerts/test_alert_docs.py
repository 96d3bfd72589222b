"""docs/alerts.md, example by example: what is written there is run here."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server.alerts.receivers.config import AlertsConfig, Webhook, load_receivers
from server.alerts.receivers.signature import signature
from server.alerts.rules import AgentsRule, load_alert_rules
from server.metrics.own import READINGS
from server.settings import Settings
from tests.unit.alerts.parts import parts, worsen
from tests.unit.alerts.receivers import web
from tests.unit.web.fleet import serve

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "alerts.md").read_text()
SECRET = "0123456789abcdef0123456789abcdef"


def blocks(mark: str) -> list[str]:
    """The code that follows a comment of this kind."""
    return re.findall(rf"<!-- {mark} -->\n```\w*\n(.*?)```", TEXT, re.DOTALL)


def file(name: str, folder: Path) -> Path:
    (text,) = blocks(f"file: {name}")
    made = folder / f"{name}.toml"
    made.write_text(text.replace("/etc/pathgrade/", f"{folder}/"))
    return made


def test_the_receivers_file_holds(tmp_path: Path) -> None:
    for name, secret in (
        ("webhook-secret", SECRET),
        ("mail-password", "x"),
        ("slack-url", "https://hooks.example.org/x"),
    ):
        (tmp_path / name).write_text(secret)
    config = load_receivers(file("receivers", tmp_path))
    assert list(config.receivers) == ["oncall", "alertmanager", "mail", "chat"]


def test_the_rules_file_holds_and_does_what_is_said(tmp_path: Path) -> None:
    rules = load_alert_rules(file("rules", tmp_path), readings=READINGS)
    assert rules.version.endswith("+clinic-1")
    assert rules.rules["cause"].rule == "clinic.cause.v1"
    assert "disk_soon" in rules.enabled
    assert "agents" not in rules.enabled
    assert isinstance(rules.rules["agents"], AgentsRule)


def test_the_example_of_a_webhook_tells_ours_from_others() -> None:
    (code,) = blocks("python: verify")
    told: dict[str, object] = {}
    exec(code, told)
    is_ours = told["is_ours"]
    now_s, body = int(time.time()), b'{"event":"opened"}'
    assert is_ours(SECRET, signature(SECRET, body, now_s), body)
    assert not is_ours(SECRET, signature(SECRET, body, now_s - 301), body)
    assert not is_ours(SECRET, signature("another", body, now_s), body)
    assert not is_ours(SECRET, signature(SECRET, body, now_s), body + b" ")


def test_the_scrape_configuration_is_one_that_promtool_takes(tmp_path: Path) -> None:
    (tmp_path / "metrics-token").write_text("pga-x")
    config = file("prometheus", tmp_path)
    done = subprocess.run(
        ["promtool", "check", "config", config], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_and_key_that_is_named_is_there(tmp_path: Path) -> None:
    with parts(tmp_path, pairs=True) as of:
        of.desk.watcher.look()
        served = {f"{one.name}_total" if one.kind == "counter" else one.name for one in of.meter.families()}
    named = set(re.findall(r"`(pathgrade_\w+)[{`]", TEXT)) - {"pathgrade_server_"}
    assert named <= served, named - served
    for setting in (
        "alerts",
        "alert_rules",
        "metrics_pairs",
        "otlp_url",
        "otlp_interval_s",
        "otlp_headers_file",
    ):
        assert setting in Settings.model_fields
        assert setting in TEXT


def test_the_settings_of_the_last_example_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = blocks("run: settings")
    given = [
        word.split("=", 1) for word in shlex.split(line.removeprefix("$ ")) if word.startswith("PATHGRADE_")
    ]
    for name, value in given:
        monkeypatch.setenv(name, value)
    settings = Settings.load(data=tmp_path)
    assert (settings.otlp_url, settings.metrics_pairs) == ("http://127.0.0.1:4318/v1/metrics", True)


def test_every_command_runs(tmp_path: Path) -> None:
    """In one server with one open alert; ``pathgrade`` is this one."""
    commands = [line[2:] for block in blocks("run") for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) == 8
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "pathgrade").write_text(f'#!/bin/sh\nexec {sys.executable} -m pathgrade "$@"\n')
    (tmp_path / "pathgrade").chmod(0o755)
    with web() as hook:
        config = AlertsConfig(receivers={"oncall": Webhook(url=hook.url, secret_file=tmp_path / "secret")})
        with parts(tmp_path, config=config) as of:
            worsen(of)
            of.desk.watcher.look()
            (alert,) = of.desk.alerts(None, 10).open
            with serve(of.core, alerts=of.desk) as url:
                script = "\n".join(commands).replace("http://127.0.0.1:8080", url).replace("ALERT", alert.id)
                environment = {**os.environ, "PATHGRADE_URL": url, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
                done = subprocess.run(
                    ["bash", "-e", "-o", "pipefail", "-c", script],
                    cwd=DOCS.parent,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=120,
                    check=False,
                )
            assert done.returncode == 0, done.stdout + done.stderr
            assert "warning The" in done.stdout
            assert "delivered to oncall" in done.stdout
            assert of.desk.alerts(None, 10).open[0].ack_note == "provider called"
            assert len(of.desk.silences()) == 2


def test_the_json_of_a_notice_is_json() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert json.loads(text)["event"] == "opened"
