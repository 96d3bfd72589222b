"""Rules files: what holds is taken, the rest is refused with the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics.errors import RulesError
from analytics.rules.load import BUILT_IN, StudyProfile, load_rules


def test_the_built_in_rules_hold() -> None:
    assert list(load_rules().profiles) == ["pacs", "ehr", "video", "vdi", "trading", "generic"]


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ("images = 100", "images = ", r"line 4\d"),
        ("images = 100", 'images = "many"', r"study\.images"),
        ("images = 100", "pictures = 100", "pictures"),
        ("most_ms = [5000, 10000", "most_ms = [10000, 5000", "profiles.pacs.most_ms"),
        ("most_ms = [5000, 10000, 30000, 60000]", "most_ms = [5000]", "most_ms"),
        ('kind = "study"', 'kind = "opinion"', "opinion"),
        ("rtt_p50_n = 10", "rtt_p50_n = 0", "rtt_p50_n"),
        ("retransmit_bp = [100, 200", "retransmit_bp = [200, 200", "applications.most_retransmit_bp"),
        ("rtt_p50_us = [50000, 100000", "rtt_p50_us = [50000, 50000", "applications.most_rtt_p50_us"),
        ("queue_percent = 125", "queue_percent = 100", "queue_percent"),
        ("held_up_percent = 50", "held_up_percent = 101", "held_up_percent"),
        ("least_r = [80, 70", "least_r = [70, 80", r"profiles\.video\.least_r: .* does not fall"),
        ('letter = "B"', 'letter = "E"', "loss_caps"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, good: str, bad: str, says: str) -> None:
    path = tmp_path / "rules.toml"
    told = BUILT_IN.read_text()
    assert good in told
    path.write_text(told.replace(good, bad))
    with pytest.raises(RulesError, match=says) as caught:
        load_rules(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


OWN = """
version = "clinic-7"

[profiles.mammography]
kind = "study"
rule = "mammography.open.v1"
title = "Open a mammography"
about = "Four views of 50 MB."
sites = ["hospital"]
most_ms = [5000, 10000, 30000, 60000]

[profiles.mammography.study]
images = 4
image_bytes = 50000000
setup_round_trips = 3
setup_us = 20000
server_us_per_image = 1000
sender = "bbr"

[profiles.mammography.words]
able = "read a mammography from the {service}"
paths_able = "are fast enough for mammography"
cannot_d = "cannot read comfortably"
cannot_f = "cannot read"
outcome = "a mammography takes about {outcome}"
"""


def test_a_fleets_own_profiles_stand_beside_the_built_in_ones(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    rules = load_rules(own=path)
    assert list(rules.profiles)[-1] == "mammography"
    assert rules.profile("mammography").sites == ["hospital"]
    assert rules.version == f"{load_rules().version}+clinic-7"


def test_a_mistake_in_a_fleets_own_profiles_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace("[5000, 10000", "[50000, 10000"))
    with pytest.raises(RulesError, match=r"own\.toml: profiles\.mammography\.most_ms"):
        load_rules(own=path)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="No such file"):
        load_rules(tmp_path / "none.toml")


def test_a_study_takes_from_its_protocol_what_it_does_not_say(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace("setup_round_trips = 3", 'protocol = "wado_instances"'))
    profile = load_rules(own=path).profile("mammography")
    assert isinstance(profile, StudyProfile)
    assert (profile.study.connections, profile.study.setup_round_trips) == (6, 1)


def test_a_fleets_own_protocol_serves_its_own_profiles(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    own = '[protocols.archive]\nsaid = "our archive"\nconnections = 2\n'
    path.write_text(OWN.replace("setup_round_trips = 3", 'protocol = "archive"') + own)
    profile = load_rules(own=path).profile("mammography")
    assert isinstance(profile, StudyProfile)
    assert (profile.study.said, profile.study.connections) == ("our archive", 2)


def test_a_protocol_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace("setup_round_trips = 3", 'protocol = "pigeon"'))
    with pytest.raises(RulesError, match=r"no protocol is called 'pigeon'.*mammography\.study\.protocol"):
        load_rules(own=path)
