"""Hands one notice to one receiver, within its time limit. Thin: what is sent is made in ``messages.py``."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import httpx

from server.alerts.model import Notice
from server.alerts.receivers import messages
from server.alerts.receivers.config import (
    LEAST_SECRET,
    Alertmanager,
    Email,
    Receiver,
    Slack,
    Webhook,
    read_secret,
)
from server.alerts.receivers.messages import Request
from server.errors import DeliveryError

MOST_ANSWER: Final = 500
"""Bytes of an answer that are looked at: enough for what went wrong."""
NEVER: Final = frozenset({400, 405, 410, 411, 413, 414, 415, 422})
"""Statuses that another attempt with the same body does not change. Wrong addresses and credentials are not
among them: somebody sets them right."""

Post = Callable[[Request], Awaitable[None]]


class Sender:
    """Sends to one receiver. ``send`` raises ``DeliveryError``; also where the secret cannot be read."""

    def __init__(self, name: str, receiver: Receiver, link: str) -> None:
        self.name = name
        self.receiver = receiver
        self._link = link

    @property
    def forgets(self) -> bool:
        """Whether it has to be told again and again of what is still open."""
        return isinstance(self.receiver, Alertmanager)

    async def send(self, notices: Sequence[Notice], delivery: str, at_s: int) -> None:
        """Send notices; only a receiver that forgets takes several at once."""
        try:
            async with asyncio.timeout(self.receiver.timeout_s):
                await _SEND[type(self.receiver)](self, notices, delivery, at_s)
        except TimeoutError as error:
            raise self._failed(f"no answer within {self.receiver.timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise self._failed(str(error) or type(error).__name__) from error

    def _failed(self, why: str, *, again: bool = True, asked_s: int | None = None) -> DeliveryError:
        return DeliveryError(
            f"tell {self.name}: {why}",
            remedy=f"pathgrade alerts test {self.name}",
            again=again,
            asked_s=asked_s,
        )

    async def _webhook(self, notices: Sequence[Notice], delivery: str, at_s: int) -> None:
        assert isinstance(self.receiver, Webhook)
        secret = await _secret(self.receiver.secret_file, LEAST_SECRET)
        for notice in notices:
            await self._post(
                messages.webhook(self.receiver, notice, secret=secret, delivery=delivery, at_s=at_s)
            )

    async def _alertmanager(self, notices: Sequence[Notice], _delivery: str, at_s: int) -> None:
        assert isinstance(self.receiver, Alertmanager)
        file = self.receiver.token_file
        secret = await _secret(file) if file is not None else ""
        await self._post(
            messages.alertmanager(self.receiver, notices, secret=secret, link=self._link, at_s=at_s)
        )

    async def _slack(self, notices: Sequence[Notice], _delivery: str, _at_s: int) -> None:
        assert isinstance(self.receiver, Slack)
        secret = await _secret(self.receiver.url_file)
        for notice in notices:
            await self._post(messages.slack(self.receiver, notice, secret=secret, link=self._link))

    async def _email(self, notices: Sequence[Notice], delivery: str, _at_s: int) -> None:
        assert isinstance(self.receiver, Email)
        for notice in notices:
            made = messages.mail(self.receiver, notice, link=self._link, delivery=delivery)
            try:
                await asyncio.to_thread(_mail, self.receiver, made)
            except smtplib.SMTPException as error:
                raise self._failed(_smtp_said(error), again=not _is_final(error)) from error

    async def _post(self, request: Request) -> None:
        assert not isinstance(self.receiver, Email)
        verify: Any = _tls(self.receiver.ca_file)
        async with (
            httpx.AsyncClient(
                verify=verify, proxy=self.receiver.proxy, trust_env=False, timeout=self.receiver.timeout_s
            ) as client,
            client.stream("POST", request.url, content=request.body, headers=request.headers) as answer,
        ):
            if not answer.is_success:
                said = await _beginning(answer)
                raise self._failed(
                    f"{answer.status_code} {answer.reason_phrase}{f': {said}' if said else ''}",
                    again=answer.status_code not in NEVER,
                    asked_s=_asked(answer.headers.get("retry-after", "")),
                )


_SEND: Final[dict[type[Receiver], Callable[..., Awaitable[None]]]] = {
    Webhook: Sender._webhook,
    Alertmanager: Sender._alertmanager,
    Slack: Sender._slack,
    Email: Sender._email,
}


async def _secret(file: Path, least: int = 1) -> str:
    """Read a secret anew each time: who changes it need not restart the server."""
    return await asyncio.to_thread(read_secret, file, least=least)


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file) if ca_file is not None else None)


async def _beginning(answer: httpx.Response) -> str:
    """The first bytes of an answer, as one line."""
    seen = b""
    async for piece in answer.aiter_bytes(MOST_ANSWER):
        seen += piece
        if len(seen) >= MOST_ANSWER:
            break
    text = seen[:MOST_ANSWER].decode(errors="replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _asked(header: str) -> int | None:
    """Retry-After in seconds (RFC 9110 section 10.2.3); a date is not read."""
    return int(header) if header.isascii() and header.isdigit() and len(header) < 7 else None


def _mail(receiver: Email, message: EmailMessage) -> None:
    with smtplib.SMTP(receiver.host, receiver.port, timeout=receiver.timeout_s) as server:
        if receiver.starttls:
            server.starttls(context=_tls(receiver.ca_file))
        if receiver.user is not None and receiver.password_file is not None:
            server.login(receiver.user, read_secret(receiver.password_file))
        server.send_message(message)


def _is_final(error: smtplib.SMTPException) -> bool:
    """Whether the server has refused the mail itself for good (RFC 5321 section 4.2.1: 5yz)."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    refused = (smtplib.SMTPDataError, smtplib.SMTPSenderRefused)
    return isinstance(error, refused) and error.smtp_code >= 500


def _smtp_said(error: smtplib.SMTPException) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        said = next(iter(error.recipients.values()), (0, b""))
        return f"{said[0]} {said[1].decode(errors='replace')}"
    if isinstance(error, smtplib.SMTPResponseException):
        told = error.smtp_error
        return f"{error.smtp_code} {told.decode(errors='replace') if isinstance(told, bytes) else told}"
    return str(error)
