"""The option that names an agent's data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_DATA: Final = Path("/var/lib/pathgrade-agent")
DataFolder = Annotated[
    Path,
    typer.Option(
        "--data", envvar="PATHGRADE_AGENT_DATA", metavar="DIR", help="Data folder of this host's agent."
    ),
]
