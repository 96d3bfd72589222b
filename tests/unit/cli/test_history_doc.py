"""Every command in docs/history.md is run, and answers what the document says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.test_cli import ROOT
from tests.unit.web.fleet import FixtureCore, serve

BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def steps() -> list[tuple[str, list[str]]]:
    """Each command of the document, in order, and the lines under it."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.findall((ROOT / "docs" / "history.md").read_text()):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
    return found


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with ``pathgrade`` as it is installed."""
    tool = tmp_path / "bin" / "pathgrade"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m pathgrade "$@"\n')
    tool.chmod(0o755)
    return tool.parent


def test_the_documents_commands_do_what_it_says(tools: Path, tmp_path: Path) -> None:
    told = steps()
    assert len(told) >= 10
    with serve(FixtureCore()) as url:
        for command, lines in told:
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=tmp_path,
                env={
                    **os.environ,
                    "PATH": f"{tools}:{os.environ['PATH']}",
                    "PATHGRADE_URL": url,
                    "COLUMNS": "110",
                },
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            said = [" ".join(line.split()) for line in done.stdout.splitlines()]
            assert done.returncode == 0, (command, done.stderr)
            for line in lines:
                wanted = " ".join(line.split())
                assert any(one.startswith(wanted) for one in said), (command, done.stdout, done.stderr)
