"""The server's signature: on each test it orders, and on its time. The key is made at the first start.

Agents learn the public half when they enrol, and take no other from then on: whoever only passes messages on
cannot order anything. ``grant-key.pem`` in the data folder belongs into every backup of it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from analytics.clock import now_us
from analytics.errors import SealError
from analytics.policy import most_sent
from analytics.trust import (
    AuditMark,
    Binding,
    Grant,
    ServerTime,
    fingerprint_bytes,
    seal,
    signed_authority,
    signed_statement,
    unseal,
)
from analytics.wire import NONCE_BYTES, ProbePlan
from server import private_file
from server.agent_rows import Agent
from server.errors import StateError

FILE_NAME: Final = "grant-key.pem"
REMEDY: Final = "restore it from a backup; without it, remove it and let every agent enrol again"


class Signer:
    """Signs. Its clock never steps: the wall clock's at the start, then the monotonic one's way."""

    def __init__(
        self,
        key: Ed25519PrivateKey,
        *,
        wall_us: Callable[[], int] = now_us,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        draw: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._key = key
        self._monotonic_ns = monotonic_ns
        self._draw = draw
        self._base_us = wall_us() - monotonic_ns() // 1_000
        self.public_key = key.public_key().public_bytes_raw()

    @classmethod
    def open(cls, data: Path) -> Signer:
        """Read the key, or make it on the first run; raises ``StateError``."""
        path = data / FILE_NAME
        try:
            return cls(_parse(path, private_file.read(path, remedy=REMEDY)))
        except FileNotFoundError:
            private_file.make(path, _pem(Ed25519PrivateKey.generate()), remedy=REMEDY)
        return cls(_parse(path, private_file.read(path, remedy=REMEDY)))

    def now_us(self) -> int:
        """The time that grants are judged by."""
        return self._base_us + self._monotonic_ns() // 1_000

    def grant(
        self,
        *,
        test: str,
        cycle: int,
        src: Agent,
        dst: Agent,
        lasts_us: int,
        plan: ProbePlan,
        most_s: int,
        rule: str = "",
    ) -> bytes:
        """Sign one test; both ends are given the same. ``src`` is the controlling end.

        It allows what ``plan`` may take, for ``most_s`` seconds, and names the ``rule`` that allows it.
        """
        issued_us = self.now_us()
        grant = Grant(
            tenant=src.tenant,
            test=test,
            cycle=cycle,
            src=src.name,
            dst=dst.name,
            src_fingerprint=fingerprint_bytes(src.fingerprint),
            dst_fingerprint=fingerprint_bytes(dst.fingerprint),
            issued_us=issued_us,
            expires_us=issued_us + lasts_us,
            nonce=self._draw(NONCE_BYTES),
            most_probes=plan.probes,
            most_bytes=most_sent(plan),
            most_s=most_s,
            src_site=src.site,
            dst_site=dst.site,
            rule=rule,
        )
        return seal(grant.encode(), self._key)

    def statement(self, body: bytes) -> bytes:
        """Sign a document for people, such as an SLA report; the signature alone."""
        return signed_statement(body, self._key)

    def audit_mark(self, mark: AuditMark) -> bytes:
        """Sign how far a chain of audit rows has come, or which of its rows are gone."""
        return seal(mark.encode(), self._key)

    def authority(self, certificate: bytes) -> bytes:
        """Vouch for the certificate of our authority; the signature alone."""
        return signed_authority(certificate, self._key)

    def time(self, challenge: bytes) -> bytes:
        """Sign what time it is, in answer to a challenge; nothing if there is none."""
        if len(challenge) != NONCE_BYTES:
            return b""
        return seal(ServerTime(challenge=challenge, now_us=self.now_us()).encode(), self._key)


def public_key_in(data: Path) -> bytes:
    """Read the public half of a data folder's key; raises ``StateError``."""
    path = data / FILE_NAME
    try:
        return _parse(path, private_file.read(path, remedy=REMEDY)).public_key().public_bytes_raw()
    except FileNotFoundError as error:
        raise private_file.unusable(path, "it is not there", remedy=REMEDY) from error


def check_binding(agent: Agent, key: bytes, binding: bytes) -> None:
    """Raise ``SealError`` unless ``binding`` is by ``key`` and of the certificate the agent enrolled with."""
    read = Binding.decode(unseal(binding, key))
    if (read.tenant, read.agent) != (agent.tenant, agent.name):
        raise SealError(f"the binding is of {read.agent!r} in {read.tenant!r}")
    if read.fingerprint != fingerprint_bytes(agent.fingerprint):
        raise SealError("the binding is of another certificate than the enrolled one")


def _parse(path: Path, pem: bytes) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(path, f"damaged: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(path, "damaged: not an Ed25519 key")
    return key


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _unusable(path: Path, why: str) -> StateError:
    return private_file.unusable(path, why, remedy=REMEDY)
