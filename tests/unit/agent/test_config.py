"""The configuration: one error naming key and file."""

from pathlib import Path

import pytest

from agent.config import load
from agent.errors import ConfigError

GOOD = """
server = "https://192.0.2.10:8440"
token_file = "{folder}/token"
name = "pacs"
site = "hospital"
label = "the PACS"
data = "{folder}/data"

[[services]]
name = "PACS"
profile = "pacs"
port = 4242
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text.replace("{folder}", str(folder)))
    return path


def test_a_good_one(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("pg-token\n")
    config = load(written(tmp_path, GOOD))
    assert (config.name, config.site, config.services[0].port) == ("pacs", "hospital", 4242)
    assert (config.passive, config.mesh, config.namespaces) == ("auto", True, "own")
    assert (config.user, config.recent_minutes) == ("pathgrade", 10)
    assert config.cache_folder == tmp_path / "data" / "cache"
    assert config.enrolment_token() == "pg-token"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("name =", "nome ="), "unknown field `nome`"),
        (('name = "pacs"', 'name = "PACS!"'), "name: Expected `str` matching regex"),
        (('name = "pacs"', "name = 7"), "name: Expected `str`, got `int`"),
        (('site = "hospital"\n', ""), "missing required field `site`"),
        (("port = 4242", "port = 70000"), "services[0].port: Expected `int` <= 65535"),
        (("[[services]]", "[[services"), "Expected"),
        (
            ("https://192.0.2.10:8440", "192.0.2.10:8440"),
            "server: '192.0.2.10:8440' is not https://HOST:PORT",
        ),
        (("https://192.0.2.10:8440", "https://h:99999"), "server: 'https://h:99999' is not"),
        (("https://192.0.2.10:8440", "https://h:1/x?y"), "server: 'https://h:1/x?y' is not"),
        (('label = "the PACS"', 'passive = "maybe"'), "passive: Invalid enum value 'maybe'"),
        (('label = "the PACS"', "recent_minutes = 0"), "recent_minutes: Expected `int` >= 1"),
        (('label = "the PACS"', "recent_minutes = 61"), "recent_minutes: Expected `int` <= 60"),
        (('label = "the PACS"', 'user = "a user"'), "user: Expected `str` matching regex"),
        (('label = "the PACS"', 'token = "pg-too"'), "token and token_file are both set"),
    ],
)
def test_a_bad_one_is_named_with_key_and_file(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    path = written(tmp_path, GOOD.replace(*change))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"read {path}: ")
    assert expected in str(caught.value)
    assert caught.value.remedy
    assert caught.value.exit_code == 78


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load(tmp_path / "nowhere.toml")
    config = load(written(tmp_path, GOOD))
    with pytest.raises(ConfigError, match="token: No such file"):
        config.enrolment_token()


def test_the_token_can_be_read_before_the_file_is_out_of_reach(tmp_path: Path) -> None:
    config = load(written(tmp_path, GOOD))
    assert config.with_token() == config  # not there: missed only where it is needed
    (tmp_path / "token").write_text("pg-token\n")
    early = config.with_token()
    (tmp_path / "token").unlink()
    assert early.enrolment_token() == "pg-token"
