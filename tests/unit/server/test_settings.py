"""Settings: arguments, environment, and one clear error each."""

from pathlib import Path

import pytest

from server.errors import SettingsError
from server.settings import Address, Settings


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATHGRADE_CYCLE_S", "60")
    monkeypatch.setenv("PATHGRADE_REPORT", "127.0.0.1:8088")
    monkeypatch.setenv("PATHGRADE_STUN", "192.0.2.1:3478, [2001:db8::1]:3478")
    settings = Settings.load(data=tmp_path, agents="[::1]:8440", cycle_s=120, report=None)
    assert settings.cycle_s == 120
    assert settings.agents == Address("::1", 8440)
    assert str(settings.agents) == "[::1]:8440"
    assert settings.report == Address("127.0.0.1", 8088)
    assert settings.stun == (Address("192.0.2.1", 3478), Address("2001:db8::1", 3478))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"agents": "8440"}, "agents: '8440' is not HOST:PORT"),
        ({"agents": "host:99999"}, "agents: 'host:99999' is not HOST:PORT"),
        ({"cycle_s": 1}, "cycle_s: Input should be greater than or equal to 10"),
        ({"turn": ["stun:x"]}, "turn.0: 'stun:x' is not turn:HOST:PORT"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, given: dict[str, object], expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(data=tmp_path, **given)
    assert str(caught.value).startswith(expected)
    assert caught.value.remedy
    assert caught.value.exit_code == 78


def test_without_a_data_folder_it_says_so() -> None:
    with pytest.raises(SettingsError, match="data: Field required"):
        Settings.load()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file or directory"),
        ("", "not one word"),
        ("short", "not one word"),
        ("two words are not one secret", "not one word"),
        (b"\xff\xfe" + bytes(40), "not text"),
    ],
)
def test_a_bad_turn_secret_is_one_error(tmp_path: Path, content: str | bytes | None, expected: str) -> None:
    path = tmp_path / "secret"
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        path.write_bytes(content)
    settings = Settings.load(data=tmp_path, turn=["turn:192.0.2.1:3478"], turn_secret_file=path)
    with pytest.raises(SettingsError, match=expected) as caught:
        settings.turn_secret()
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_a_turn_server_needs_a_secret(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="without --turn-secret-file"):
        Settings.load(data=tmp_path, turn=["turn:192.0.2.1:3478"]).turn_secret()


def test_a_good_turn_secret_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("0123456789abcdef0123456789abcdef\n")
    settings = Settings.load(data=tmp_path, turn=["turn:h:1"], turn_secret_file=tmp_path / "secret")
    assert settings.turn_secret() == "0123456789abcdef0123456789abcdef"
    assert Settings.load(data=tmp_path).turn_secret() is None


def test_a_plan_in_the_environment_is_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATHGRADE_PLAN", '{"probes": 60, "trains": 0}')
    plan = Settings.load(data=tmp_path).plan
    assert (plan.probes, plan.trains, plan.interval_us) == (60, 0, 25_000)
    for wrong in ('{"probes": 0}', '{"probes": ', "sixty", '{"probes": "60"}'):
        monkeypatch.setenv("PATHGRADE_PLAN", wrong)
        with pytest.raises(SettingsError, match="plan"):
            Settings.load(data=tmp_path)


def test_a_lake_is_set_by_two_settings(tmp_path: Path) -> None:
    assert Settings.load(data=tmp_path).lake() is None
    place = Settings.load(data=tmp_path, lake_catalog="postgres:dbname=a", lake_data="s3://facts/lake").lake()
    assert place is not None
    assert (place.catalog, place.data, place.is_s3) == ("dbname=a", "s3://facts/lake/", True)
    for half in ({"lake_catalog": "postgres:dbname=a"}, {"lake_data": "/mnt/lake"}):
        with pytest.raises(SettingsError, match="the lake: ") as caught:
            Settings.load(data=tmp_path, **half).lake()
        assert "set both" in caught.value.remedy
