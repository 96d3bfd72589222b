"""Commands beside a packaged server are set as it is."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import doctor
from server.env_file import MOST_BYTES, read_env, take_env
from server.errors import SettingsError
from server.state import State
from tests.unit.cli.test_cli import pathgrade

NOBODY = "http://127.0.0.1:9"


def test_lines_are_read_as_systemd_reads_them() -> None:
    body = b"""# comment

; another
A=1
 B_2="two words"
C='{"x": 1}'
D=postgres:host=db dbname=lake
E=
F=it's
A=3
"""
    told = {"B_2": "two words", "C": '{"x": 1}', "D": "postgres:host=db dbname=lake", "E": "", "F": "it's"}
    assert read_env(body, "f") == {"A": "3", **told}


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"A",
            b"=1",
            b"1A=1",
            b"export A=1",
            b"A = 1",
            b'A="1',
            b"A='1'2",
            b"A=a\\nb",
            b"A=\x00",
            b"A=\xff",
        ),
        b"#" * (MOST_BYTES + 1),
    ],
)
def test_what_is_not_such_a_file_is_one_error_with_a_remedy(body: bytes) -> None:
    with pytest.raises(SettingsError, match=r"^f ") as caught:
        read_env(body, "f")
    assert caught.value.remedy


@given(st.binary(max_size=60))
def test_no_bytes_are_another_error(body: bytes) -> None:
    with suppress(SettingsError):
        read_env(body, "f")


def test_what_the_environment_has_stays_and_only_the_packages_own_may_be_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "env").write_text("A=1\nB=2\n")
    environ = {"A": "mine"}
    take_env(tmp_path / "env", environ)
    assert environ == {"A": "mine", "B": "2"}
    monkeypatch.setattr("server.env_file.SERVER_ENV", tmp_path / "none")
    take_env(None, environ)
    with pytest.raises(SettingsError, match="No such file"):
        take_env(tmp_path / "none", environ)
    monkeypatch.setattr("server.env_file.SERVER_ENV", tmp_path / "env")
    del environ["B"]
    take_env(None, environ)
    assert environ["B"] == "2"


def test_a_backup_names_what_the_servers_settings_name(tmp_path: Path) -> None:
    data, env = tmp_path / "data", tmp_path / "env"
    State.open(data).close()
    env.write_text(
        f"PATHGRADE_ALERTS={tmp_path}/alerts.toml\n"
        "PATHGRADE_LAKE_CATALOG=postgres:host=db dbname=lake\nPATHGRADE_LAKE_DATA=s3://bucket/prefix\n"
    )
    asked = ("server", "backup", str(tmp_path / "b.tar"), "--data", str(data), "--env", str(env))
    done = pathgrade(*asked, url=NOBODY)
    assert (done.returncode, "NOT in it: the lake" in done.stderr) == (0, True), done.stderr
    assert "alerts.toml: named by a setting" in done.stderr


def test_a_checkup_asks_where_the_servers_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATHGRADE_AGENTS", "taken back at the end of the test")
    monkeypatch.delenv("PATHGRADE_AGENTS")
    (found,) = doctor.checks(tmp_path, tmp_path / "none")
    assert "No such file" in found.seen
    (tmp_path / "env").write_text("PATHGRADE_AGENTS=nowhere\n")
    (found,) = doctor.checks(tmp_path, tmp_path / "env")
    assert "'nowhere' is not HOST:PORT" in found.seen
