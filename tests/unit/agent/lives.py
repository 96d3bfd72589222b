"""A server whose certificates live for seconds, and agents that renew as often as that asks."""

from __future__ import annotations

from typing import Any

import pytest

from agent import renewal
from server.app import serving
from server.settings import Settings


@pytest.fixture(autouse=True)
def _renews_as_often_as_a_short_life_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "LEAST_S", 0.0)


def short_lived(place: Any, life_s: int) -> Any:
    """Serve at a place."""
    settings = Settings.load(
        data=place.data,
        agents=f"127.0.0.1:{place.port}",
        report="127.0.0.1:0",
        stun=["127.0.0.1:0"],
        settle_s=0.05,
    )
    return serving(settings.model_copy(update={"certificate_s": life_s}))
