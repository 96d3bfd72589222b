"""What the package is made of: locks, bill of materials, and what scripts/check says of them."""

from __future__ import annotations

import json
import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from supply import check, locks, sbom


def test_the_locks_are_of_what_pyproject_asks_for() -> None:
    assert locks.stale(locks.project()) == [], "run: scripts/lock"


def test_the_bill_of_materials_is_of_the_locked_packages() -> None:
    assert sbom.faults() == [], "run: scripts/sbom"


def test_every_requirement_is_locked_in_a_version_that_it_takes() -> None:
    wanted = locks.declared(locks.project())
    locked = {key: locks.blocks((locks.LOCKS / f"{key}.txt").read_text()) for key in wanted}
    for key, requirements in wanted.items():
        for requirement in map(Requirement, requirements):
            name = locks.normal(requirement.name)
            (version, *_) = [
                re.match(r"\S+?==(\S+)", block)[1]
                for block in locked[key].get(name, []) + locked[locks.RUN].get(name, [])
            ]
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: {version}"


def test_every_package_is_pinned_and_has_hashes_and_no_lock_names_a_host() -> None:
    for path in locks.LOCKS.glob("*.txt"):
        text = path.read_text()
        assert "http://" not in text
        assert "https://" not in text
        for found in locks.blocks(text).values():
            for block in found:
                assert re.match(r"[a-z0-9.-]+==\S+", block), block
                assert "--hash=sha256:" in block


def test_what_is_installed_here_is_what_is_locked() -> None:
    for name, found in locks.blocks((locks.LOCKS / "run.txt").read_text()).items():
        if len(found) == 1 and ";" not in found[0].partition("\\")[0]:
            assert f"=={metadata.version(name)} " in found[0], f"{name} is not as locked: run scripts/setup"


def test_another_word_in_pyproject_makes_the_locks_stale() -> None:
    project = locks.project()
    project["project"]["dependencies"].append("another>=1")
    faults = locks.stale(project)
    assert len(faults) == len(locks.declared(project))
    assert "run.txt" in faults[0]


def test_a_lock_is_taken_apart_and_laid_out_the_same() -> None:
    whole = locks.blocks(
        "# a comment\nb==2 \\\n    --hash=sha256:00\na-x==1 ; x \\\n    --hash=sha256:01\na_x==2\n"
    )
    assert whole == {
        "b": ["b==2 \\\n    --hash=sha256:00"],
        "a-x": ["a-x==1 ; x \\\n    --hash=sha256:01", "a_x==2"],
    }
    text = locks.written("run", ["a-x"], whole, "ab" * 32)
    assert locks.digest_in(text) == "ab" * 32
    assert list(locks.blocks(text)) == ["a-x"]


def test_a_bill_of_another_lock_or_other_files_is_stale(tmp_path) -> None:
    bom = json.loads(sbom.SBOM.read_text())
    lock = (locks.LOCKS / "run.txt").read_text()
    assert sbom.stale(bom, lock) == []
    assert "it is of other locked packages" in sbom.stale(bom, lock + "\n")
    for one in sbom.VENDORED:
        for name in one.files:
            (tmp_path / name).write_bytes(b"other")
    assert sbom.stale(bom, lock, tmp_path) == [f"the files of {one.name} are others" for one in sbom.VENDORED]


def test_every_component_has_a_licence_and_copyleft_is_named() -> None:
    verdict = check.licences()
    assert verdict.good
    assert "GPL-2.0-only: scapy" in verdict.said


@pytest.mark.parametrize(
    ("told", "good", "said"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', True, "none known of 1"),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1"}]}]}', False, "a 1: X-1"),
        ('{"dependencies": [{"name": "a", "skip_reason": "not found"}]}', None, "nothing of 1 of 1"),
        ("", None, "cannot be asked: no route"),
        ("[]", None, "cannot be asked"),
    ],
)
def test_an_audit_is_judged_and_one_that_cannot_be_made_is_no_fault(told, good, said) -> None:
    verdict = check.read_audit(told, "trying\nno route\n")
    assert verdict.good is good
    assert said in verdict.said


def test_a_part_that_is_not_there_is_said(capsys) -> None:
    assert check.main(["no-such"]) == 64
    assert check.main(["locks"]) == 0
    assert "ok" in capsys.readouterr().out
