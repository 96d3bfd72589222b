"""``pathgrade agent enrol``: the files of a host, and that what is right already stays."""

import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import credential
from agent.config import Config, load
from agent.credential import Credential
from agent.errors import ConfigError, JoinError
from agent.joining import (
    Wish,
    edited,
    forget_another,
    host_name,
    is_enrolled,
    planned,
    wait_enrolled,
    written,
)
from analytics.channel import EnrolToken
from server.authority import Authority, create

SERVER = "https://192.0.2.10:8440"
KEPT = """# by hand
server = "https://old:1"
label = "the PACS"
token = "abc"

[[services]]
name = "PACS"
port = 4242
"""


def plan(before: str | None, folder: Path, wish: Wish | None = None):
    return planned(
        before, wish or Wish(SERVER), config=folder / "agent.toml", token="pgt1.a.b", host="PACS.local"
    )


def test_a_new_host(tmp_path: Path) -> None:
    made = plan(None, tmp_path)
    assert written(made, "nobody-such") == [f"wrote {tmp_path / 'agent.toml'}", f"wrote {tmp_path / 'token'}"]
    config = load(tmp_path / "agent.toml")
    assert (config.server, config.name, config.site) == (SERVER, "pacs", "default")
    assert config.enrolment_token() == "pgt1.a.b"
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "agent.toml").stat().st_mode) == 0o640


def test_the_same_again_writes_nothing(tmp_path: Path) -> None:
    written(plan(None, tmp_path), "nobody-such")
    again = plan((tmp_path / "agent.toml").read_text(), tmp_path)
    assert not again.changes
    assert written(again, "nobody-such") == []


def test_what_else_stands_in_the_file_stays(tmp_path: Path) -> None:
    made = plan(KEPT, tmp_path, Wish(SERVER, site="hospital"))
    told = tomllib.loads(made.text)
    assert made.text.startswith(f'# by hand\nserver = "{SERVER}"\nlabel = "the PACS"\n')
    assert told["services"] == [{"name": "PACS", "port": 4242}]
    assert "token" not in told  # token_file has it now
    assert told["site"] == "hospital"


def test_a_file_that_lines_do_not_tell_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not one key each"):
        plan('label = """\nserver = "x"\n"""\n', tmp_path)
    with pytest.raises(ConfigError, match="read"):
        plan("server = \n", tmp_path)


def test_a_configuration_that_does_not_hold_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(KEPT)
    with pytest.raises(ConfigError):
        written(plan(KEPT, tmp_path, Wish("ftp://x")), "nobody-such")
    assert (tmp_path / "agent.toml").read_text() == KEPT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.toml"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JoinError, match="write"):
        written(plan(None, tmp_path / "file"), "nobody-such")


@given(st.text(max_size=80))
def test_any_host_has_a_name(told: str) -> None:
    from analytics.measurement import NAME_PATTERN

    made = host_name(told)
    assert __import__("re").match(NAME_PATTERN, made)
    assert len(made) <= 63


@given(st.dictionaries(st.sampled_from(["server", "name", "site", "data"]), st.text(max_size=20), min_size=1))
def test_a_value_is_read_back_as_it_was(keys: dict[str, str]) -> None:
    once = edited('label = "x"\n', keys)
    assert tomllib.loads(once) == {"label": "x"} | keys
    assert edited(once, keys) == once


def test_an_agent_that_does_not_enrol_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    config = Config(server=SERVER, name="pacs", site="here", data=tmp_path)
    clock = iter(range(100))
    slept: list[float] = []
    assert not wait_enrolled(config, wait_s=3, clock=lambda: next(clock), sleep=slept.append)
    assert len(slept) == 2


def test_a_credential_of_another_authority_than_the_tokens_is_forgotten_and_one_of_its_own_stays(
    tmp_path: Path,
) -> None:
    config = Config(server=SERVER, name="pacs", site="here", data=tmp_path)
    before, anew = create(), create()
    known = Credential(
        server=SERVER,
        agent="pacs",
        tenant="default",
        server_key=bytes(32),
        authority=before.der,
        certificate=b"",
        got_s=0,
        life_s=1,
    )
    assert forget_another(config, token_of(anew)) == []
    credential.keep(config, known)
    assert forget_another(config, token_of(before)) == []
    assert is_enrolled(config)
    (said,) = forget_another(config, token_of(anew))
    assert said.startswith(f"removed {tmp_path / 'credential.json'}")
    assert not is_enrolled(config)


def token_of(authority: Authority) -> str:
    return str(EnrolToken("s" * 43, authority.pin))


def test_the_token_is_the_accounts(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("needs root, as the rest of the suite")
    written(plan(None, tmp_path), "daemon")
    assert (tmp_path / "token").stat().st_uid == 1
    assert ((tmp_path / "agent.toml").stat().st_uid, (tmp_path / "agent.toml").stat().st_gid) == (0, 1)


def test_the_token_is_the_accounts_without_power_over_others_files(tmp_path: Path) -> None:
    """As in a container, which has CAP_CHOWN and no CAP_FOWNER."""
    if os.geteuid() != 0:
        pytest.fail("needs root, as the rest of the suite")
    program = (
        "import pathlib, sys\n"
        "from agent.joining import Wish, planned, written\n"
        "config = pathlib.Path(sys.argv[1])\n"
        f"plan = planned(None, Wish({SERVER!r}), config=config, token='pgt1.a.b', host='pacs')\n"
        "print(len(written(plan, 'daemon')))\n"
    )
    without = ("setpriv", "--bounding-set=-fowner", "--inh-caps=-fowner")
    command = [*without, sys.executable, "-c", program, tmp_path / "agent.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("2\n", "")
    found = (tmp_path / "token").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (1, 0o600)
