"""Work in a thread that is waited for, even by who is cancelled: what it uses is closed only after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def to_the_end(act: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Run in a thread and return what it returns; cancelled, wait for its end and then be cancelled."""
    task = asyncio.ensure_future(asyncio.to_thread(act, *args, **named))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
