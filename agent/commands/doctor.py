"""The agent's part of ``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analytics.checkup import Check


def checks(config: Path) -> list[Check]:
    """Look at the agent that a file configures."""
    from agent.doctor import checks

    return checks(config)
