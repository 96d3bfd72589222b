"""Alerts in words, as the page and the terminal write them."""

from __future__ import annotations

from typing import Final

import msgspec

from analytics import words
from server.alerts.model import Alert, Matcher, Severity, Silence

MARK: Final = {Severity.CRITICAL: "!!", Severity.WARNING: "!", Severity.INFO: "i"}
"""Beside the word: nothing is told by colour alone."""
_NAMES: Final = ("id", "rule", "kind", "where", "profile", "agent")


def lasted(alert: Alert, at_us: int) -> str:
    """For how long it has been so, or was."""
    return words.span(max(0, (alert.closed_us or at_us) - alert.since_us))


def state(alert: Alert) -> str:
    """In a few words: 'seen by anna: provider called', 'silenced', 'not known right now'."""
    said = []
    if alert.acked_us is not None:
        said.append(f"seen by {alert.acked_by}{f': {alert.ack_note}' if alert.ack_note else ''}")
    if alert.silence:
        said.append(f"silenced ({alert.silence})")
    if alert.closed_us is not None:
        said.append(f"over: {alert.closed_why}")
    elif not alert.known:
        said.append("nothing is known of it right now")
    elif alert.quiet_us:
        said.append(f"not seen for {words.span(alert.quiet_us)}")
    return words.capital("; ".join(said))


begun = words.capital
"""Begin a sentence."""


def matcher_words(matcher: Matcher) -> str:
    """'where=hotel kind=uplink'."""
    told = msgspec.to_builtins(matcher)
    return " ".join(f"{name}={told[name]}" for name in _NAMES if told.get(name))


def silence_words(silence: Silence) -> str:
    """'silence 9d21c4f0 until 11:40 UTC by report: where=hotel (line is replaced)'."""
    note = f" ({silence.note})" if silence.note else ""
    until = words.since(silence.until_us, silence.made_us)
    return f"silence {silence.id} until {until} by {silence.by}: {matcher_words(silence.matcher)}{note}"
