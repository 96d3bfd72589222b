"""The commands in docs/accounts.md do what it says, one after the other."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pathgrade
from server.settings import Settings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "accounts.md").read_text()
COMMANDS = re.findall(r"^# pathgrade (.+)$", TEXT, flags=re.MULTILINE)
SAID = {"account add ada": "ada: admin of all tenants\n", "access-token": "pga-"}


def test_each_command_of_the_document_works(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("four words and nothing else\n")
    app, runner = pathgrade.command_line(), CliRunner()
    assert len(COMMANDS) > 8
    for command in COMMANDS:
        words = command.replace("/var/lib/pathgrade", str(tmp_path / "data")).split()
        if "account add" in command:
            words += ["--password-file", str(secret)]
        done = runner.invoke(app, words)
        assert done.exit_code == 0, (command, done.output, done.exception)
        for part, said in SAID.items():
            if part in command:
                assert done.output.startswith(said), command
    tokens = runner.invoke(app, ["server", "access-token", "--list", "--data", str(tmp_path / "data")])
    assert "noc" in tokens.output


def test_each_setting_of_the_document_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "oidc-secret"
    secret.write_text("a-long-enough-secret")
    given = re.findall(r"^PATHGRADE_(\w+)=(.+)$", TEXT, flags=re.MULTILINE)
    assert len(given) > 8
    for name, value in given:
        monkeypatch.setenv(f"PATHGRADE_{name}", value.replace("/etc/pathgrade/oidc-secret", str(secret)))
    loaded = Settings.load(data=tmp_path)
    client = loaded.oidc_client()
    assert client is not None
    assert client.redirect_uri in TEXT
    assert [grant.home for grant in client.grants] == ["default", "default", "*"]
    for name in re.findall(r"`([a-z]+_[a-z_]+)`", TEXT):
        assert name in Settings.model_fields, name
