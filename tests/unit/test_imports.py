"""The import rules, as import-linter reads them from pyproject.toml, and two it cannot express."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("agent", "ebpf", "server", "analytics")


def test_imports_run_one_way() -> None:
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_nothing_imports_the_command() -> None:
    assert importers("pathgrade") == set()


@pytest.mark.parametrize(
    ("library", "most"), [("bcc", ["ebpf/compile.py"]), ("scapy", ["agent/mesh/deep.py"])]
)
def test_a_library_has_one_room(library: str, most: list[str]) -> None:
    assert importers(library) <= set(most)


def test_only_the_ice_adapter_knows_private_names_of_aiortc() -> None:
    assert importers("aiortc") | importers("aioice") <= {"agent/mesh/ice.py"}


def importers(module: str) -> set[str]:
    """Find the files of the four packages with an import of ``module`` in them."""
    statement = re.compile(rf"^\s*(from|import) {module}\b", re.MULTILINE)
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {str(path.relative_to(ROOT)) for path in files if statement.search(path.read_text())}


@pytest.mark.parametrize("library", ["typer", "pydantic", "rich", "click", "dns", "pylibsrtp", "av", "scapy"])
def test_a_running_agent_does_not_hold_what_it_does_not_use(library: str) -> None:
    """Each is megabytes in a process that runs for months beside other people's work."""
    program = (
        "import sys, pathgrade\n"
        "pathgrade.agent_run = lambda config: print(config)\n"
        "sys.argv = ['pathgrade', 'agent', 'run', '--config', 'agent.toml']\n"
        "try: pathgrade.main()\n"
        "except SystemExit: pass\n"
        "import agent.run, agent.mesh.pair, agent.passive.watch, ebpf.load\n"
        "print(*(name.partition('.')[0] for name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    config, loaded = done.stdout.splitlines()
    assert config == "agent.toml"
    assert library not in loaded.split()
