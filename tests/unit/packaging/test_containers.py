"""Dockerfiles and the compose file, as far as they can be read: no Docker daemon runs in the tests."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pack.wheels import SOURCES

from agent.privileges import KEEP, TO_BECOME

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "scripts/packaging/docker"
COMPOSE = (DOCKER / "compose.yaml").read_text()


@pytest.mark.parametrize("part", ["agent", "server"])
def test_a_dockerfile_builds_from_what_the_wheel_is_made_of(part: str) -> None:
    text = (DOCKER / f"Dockerfile.{part}").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    assert {name for words in copied for name in words.split()} == {*SOURCES, "scripts/locks"}
    for install in re.findall(r"pip install (.+?)(?: \\)?$", text, re.MULTILINE):
        assert "--require-hashes" in install or install.endswith("--no-deps --no-build-isolation .")
    assert ":latest" not in text
    assert (ROOT / "scripts/locks/run.txt").exists()
    assert (ROOT / "scripts/locks/build.txt").exists()


def test_the_agents_container_may_what_the_agent_needs_and_no_more() -> None:
    (added,) = re.findall(r"cap_add: \[(.+)\]", COMPOSE)
    needed = KEEP["ebpf"].needed | set(TO_BECOME) | {"CAP_CHOWN", "CAP_DAC_OVERRIDE"}
    assert {f"CAP_{name}" for name in added.split(", ")} == needed


def test_each_service_is_confined() -> None:
    services = COMPOSE.partition("\nservices:\n")[2].partition("\nvolumes:\n")[0]
    for name, text in re.findall(r"(?ms)^  (\w+):(.+?)(?=^  \w|\Z)", services):
        if "<<: *agent" in text:
            continue
        for line in (
            "read_only: true",
            "cap_drop: [ALL]",
            'security_opt: ["no-new-privileges:true"]',
            "mem_limit:",
        ):
            assert line in text, (name, line)


def test_a_command_whose_library_is_elsewhere_says_so() -> None:
    program = (
        "import sys\n"
        "sys.modules['fastapi'] = None\n"
        "import pathgrade\n"
        "sys.argv = ['pathgrade', 'diff', '1d']\n"
        "pathgrade.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 69
    assert done.stderr.splitlines()[0].startswith("error: ")
    assert "apt install pathgrade-server" in done.stderr
