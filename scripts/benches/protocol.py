"""What a watcher tells the bench: one line of JSON when it is ready, one when its input has ended."""

from __future__ import annotations

import msgspec

from benches.truth import Seen


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """It watches from here on, or says why it cannot."""

    pid: int = 0  # of the process whose memory and programs count; 0 = none that stays
    load_s: float | None = None  # from asking for the source to having it
    refusal: str = ""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What it has to say at the end."""

    cpu_s: float  # since it was ready, its children included
    sessions: list[Seen] = []
    lost: int | None = None  # closes that it knows it did not tell
    uploaded_bytes: int | None = None  # compressed, as they would go to the server
    flows: int | None = None  # rows in them
