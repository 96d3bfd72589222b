"""Commands beside a packaged server are set as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from analytics.errors import LakeError
from analytics.store.store import Store
from server import doctor
from server.commands.server import commands
from server.env_file import MOST_BYTES, read_env, take_env
from server.errors import SettingsError
from server.grants import Signer
from server.state import State
from tests.unit.analytics.facts import body, put, reading
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


UNSET: Final = {"PATHGRADE_DATA": None, "PATHGRADE_MEMORY_MB": None}


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Every command, with the names of what it is given."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from leaves(one, (*path, name))
        else:
            yield " ".join((*path, name)), {option.name for option in one.params}


def test_every_command_beside_the_server_takes_its_settings_from_the_same_places() -> None:
    known = dict(leaves(typer.main.get_command(commands)))
    assert len(known) > 12
    lacking = {command for command, options in known.items() if not options >= {"data", "env"}}
    assert lacking == {"restore"}  # it makes a folder that no server has


@pytest.mark.parametrize(
    "command",
    ["token", "agent list", "account list", "tenant list", "access-token --list", "audit-check", "rebuild"],
)
def test_the_settings_file_names_the_data_folder(tmp_path: Path, command: str) -> None:
    data, env = tmp_path / "data", tmp_path / "env"
    State.open(data).close()
    Store.open(data).close()
    Signer.open(data)
    env.write_text(f"PATHGRADE_DATA={data}\n")
    done = CliRunner(env=UNSET).invoke(commands, [*command.split(), "--env", str(env)])
    assert done.exit_code == 0, (done.output, done.exception)
    env.write_text("")
    none = CliRunner(env=UNSET).invoke(commands, [*command.split(), "--env", str(env)])
    assert (none.exit_code, "data" in f"{none.output} {none.exception}") != (0, True)


def test_a_rebuild_is_set_as_its_server_is(tmp_path: Path) -> None:
    data, env = tmp_path / "data", tmp_path / "env"
    with closing(Store.open(data)) as store:
        put(store, body("pacs", 1, readings=[reading()]))
    asked = ["rebuild", "--data", str(data), "--env", str(env)]
    env.write_text("PATHGRADE_MEMORY_MB=1\n")
    done = CliRunner(env=UNSET).invoke(commands, asked)
    assert isinstance(done.exception, SettingsError)
    assert "memory_mb" in str(done.exception)
    # Over a lake that is away what waits must stay where it waits, and not be sealed into the folder.
    catalog = "postgres:host=127.0.0.1 port=1 dbname=x connect_timeout=1"
    env.write_text(f"PATHGRADE_LAKE_CATALOG={catalog}\nPATHGRADE_LAKE_DATA={tmp_path}/lake\n")
    lake = {"PATHGRADE_LAKE_CATALOG": None, "PATHGRADE_LAKE_DATA": None}
    done = CliRunner(env=UNSET | lake).invoke(commands, asked)
    assert isinstance(done.exception, LakeError)
    assert len([*(data / "spool").glob("*.spool")]) == 1
    assert [*(data / "parquet").rglob("*.parquet")] == []


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
