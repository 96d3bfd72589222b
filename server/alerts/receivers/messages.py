"""What each kind of receiver is sent: a notice to bytes, headers, or a mail. Pure: secrets are arguments.

READ FIRST: ``subject`` and ``Request``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any, Final, NamedTuple

import msgspec

from analytics import words
from server.alerts.model import Alert, Event, Notice, Severity
from server.alerts.receivers.config import Alertmanager, Email, Slack, Webhook
from server.alerts.receivers.signature import DELIVERY, HEADER, signature

AGAIN_S: Final = 60
"""How often a receiver that forgets is told of what is still open."""
FORGOTTEN_S: Final = 4 * AGAIN_S
"""After this long without word, it may take an alert to be over."""
TEST_S: Final = 60
"""How long a test alert stays."""
MOST_TEXT: Final = 3_000

_SAID: Final = {
    Event.OPENED: "",
    Event.STILL: "",
    Event.WORSE: "worse: ",
    Event.ACKNOWLEDGED: "acknowledged: ",
    Event.CLOSED: "over: ",
    Event.TEST: "test: ",
}
_COLOUR: Final = {Severity.CRITICAL: "#b3261e", Severity.WARNING: "#b26a00", Severity.INFO: "#3b6ea8"}
_OVER_COLOUR: Final = "#2e7d32"


class Request(NamedTuple):
    """One POST."""

    url: str
    headers: dict[str, str]
    body: bytes


def subject(notice: Notice) -> str:
    """A line: 'over: warning: The hotel's uplink (pacs)'."""
    alert = notice.alert
    about = f" ({alert.profile})" if alert.profile else ""
    return f"{_SAID[notice.event]}{alert.severity.value}: {alert.title}{about}"


def details(notice: Notice) -> list[str]:
    """The sentences, then since when, until when, and who has seen it."""
    alert = notice.alert
    lines = [alert.text[:MOST_TEXT], f"Since {_clock(alert.since_us)}."]
    if alert.closed_us is not None:
        lasted = words.span(max(0, alert.closed_us - alert.since_us))
        lines.append(f"Over at {_clock(alert.closed_us)}, after {lasted}.")
    if alert.acked_us is not None:
        note = f": {alert.ack_note}" if alert.ack_note else "."
        lines.append(f"Seen by {alert.acked_by} at {_clock(alert.acked_us)}{note}")
    return lines


def link_of(link: str, alert: Alert) -> str:
    """Where people read of an alert; empty where no link is set."""
    return f"{link.rstrip('/')}/alerts#{alert.id}" if link else ""


# --- webhook ------------------------------------------------------------------------------------------------


def webhook(receiver: Webhook, notice: Notice, *, secret: str, delivery: str, at_s: int) -> Request:
    """The notice as JSON, signed for this attempt."""
    body = msgspec.json.encode(notice)
    headers = {
        "Content-Type": "application/json",
        HEADER: signature(secret, body, at_s),
        DELIVERY: delivery,
    }
    return Request(receiver.url, headers, body)


# --- Alertmanager -------------------------------------------------------------------------------------------


def alertmanager(
    receiver: Alertmanager, notices: Sequence[Notice], *, secret: str, link: str, at_s: int
) -> Request:
    """What ``POST /api/v2/alerts`` takes; an acknowledgement is as STILL: it has no word for it.

    Labels name an alert there, so they never change while it is open, but for the severity: of a rise the
    milder one is ended. An alert that is open is to be told again within ``FORGOTTEN_S``.
    """
    told = [one for notice in notices for one in _posted(receiver, notice, link, at_s)]
    headers = {"Content-Type": "application/json"}
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    return Request(f"{receiver.url.rstrip('/')}/api/v2/alerts", headers, msgspec.json.encode(told))


def _posted(receiver: Alertmanager, notice: Notice, link: str, at_s: int) -> Iterator[dict[str, Any]]:
    alert, is_test = notice.alert, notice.event is Event.TEST
    over_us = alert.closed_us if notice.event is Event.CLOSED else None
    lasts_s = TEST_S if is_test else FORGOTTEN_S
    yield _entry(receiver, notice, alert.severity, link, _moment(over_us or (at_s + lasts_s) * 1_000_000))
    if notice.before is not None and notice.before is not alert.severity:
        yield _entry(receiver, notice, notice.before, link, _moment(notice.at_us))


def _moment(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1e6, UTC)


def _entry(
    receiver: Alertmanager, notice: Notice, severity: Severity, link: str, ends: datetime
) -> dict[str, Any]:
    alert = notice.alert
    starts = _moment(alert.opened_us or alert.first_us)
    labels = {
        **receiver.labels,
        "alertname": f"Pathgrade{alert.rule.title()}",
        "alert_id": alert.id,
        "tenant": notice.tenant,
        "kind": alert.kind,
        "where": alert.where,
        "profile": alert.profile,
        "severity": severity.value,
    }
    told: dict[str, Any] = {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {"summary": alert.title, "description": " ".join(details(notice))},
        "startsAt": starts.isoformat(),
        "endsAt": max(ends, starts).isoformat(),
    }
    shown = link_of(link, alert)
    return {**told, "generatorURL": shown} if shown else told


# --- Slack --------------------------------------------------------------------------------------------------


def slack(receiver: Slack, notice: Notice, *, secret: str, link: str) -> Request:
    """An incoming webhook's message; ``secret`` is its URL."""
    over = notice.event is Event.CLOSED
    attachment = {
        "color": _OVER_COLOUR if over else _COLOUR[notice.alert.severity],
        "fallback": _escaped(subject(notice)),
        "title": _escaped(subject(notice)),
        "text": _escaped("\n".join(details(notice))),
    }
    if shown := link_of(link, notice.alert):
        attachment["title_link"] = shown
    body = msgspec.json.encode(
        {"text": _escaped(f"pathgrade {subject(notice)}"), "attachments": [attachment]}
    )
    return Request(secret, {"Content-Type": "application/json"}, body)


def _escaped(text: str) -> str:
    """Slack reads three characters as markup (https://api.slack.com/reference/surfaces/formatting#escaping)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# --- mail ---------------------------------------------------------------------------------------------------


def mail(receiver: Email, notice: Notice, *, link: str, delivery: str) -> EmailMessage:
    """A plain-text mail; those of one alert are one thread."""
    message = EmailMessage(policy=SMTP)
    message["From"] = receiver.sender
    message["To"] = ", ".join(receiver.to)
    message["Subject"] = " ".join(f"[pathgrade] {subject(notice)}".split())[:200]
    message["Date"] = datetime.fromtimestamp(notice.at_us / 1e6, UTC)
    domain = receiver.sender.rpartition("@")[2]
    thread = f"<{notice.alert.id}.{notice.alert.first_us}@{domain}>"
    first = notice.event is Event.OPENED
    message["Message-ID"] = (
        thread if first else f"<{hashlib.sha256(delivery.encode()).hexdigest()[:24]}@{domain}>"
    )
    if not first:
        message["In-Reply-To"] = message["References"] = thread
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notices, please
    shown = link_of(link, notice.alert)
    message.set_content("\n\n".join([*details(notice), *([shown] if shown else [])]) + "\n")
    return message


def _clock(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
