"""A thousand enrolled agents and two cycles of all their paths, as a server finds them when it starts."""

from __future__ import annotations

import gzip
import os
import secrets
import ssl
import struct
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.keyholder import FileKey
from analytics.batch import pack_batch
from analytics.channel import EnrolToken
from analytics.clock import now_us
from analytics.measurement import Reading
from analytics.wire import EnrolRequest, ServiceOffer
from benches import ingest, rank_facts
from server.authority import Authority
from server.state import State, create_token

PERIOD_S: Final = 300
SERVICES: Final = {3: ("PACS", "pacs", 4242), 400: ("EHR", "ehr", 443)}
"""Agents, by number, with what they offer."""


class Fleet(NamedTuple):
    """What was made."""

    names: list[str]
    shown: dict[str, str]  # key and certificate that an agent shows, PEM
    authority: str  # the server's, PEM
    paths: int


def make(folder: Path, agents: int) -> Fleet:
    """Enrol the agents, and seal two cycles of readings of all their paths; the later one just ended."""
    enrolled = _enrolled(folder, agents)
    now_s = now_us() // 1_000_000
    for segment, began_s in enumerate((now_s - PERIOD_S - 120, now_s - 120), start=1):
        rank_facts.write(folder / "parquet", agents, segment, began_s)
    authority = ssl.DER_cert_to_PEM_cert(Authority.open(folder).der)
    return Fleet([*enrolled], enrolled, authority, agents * (agents - 1))


def _enrolled(folder: Path, agents: int) -> dict[str, str]:
    token = EnrolToken.parse(create_token(folder, agents, 3_600)).secret
    authority, day, now = Authority.open(folder), timedelta(days=1), datetime.now(UTC)
    found = {}
    with closing(State.open(folder)) as state:
        for number, member in enumerate(rank_facts.members(agents)):
            name, profile, port = SERVICES.get(number, ("", "", 0))
            offers = [ServiceOffer(name=name, profile=profile, port=port)] if name else []
            asked = EnrolRequest(
                token=token,
                name=member.name,
                site=member.site,
                certificate=b"-",
                signature=b"-",
                identity_key=(key := FileKey(Ed25519PrivateKey.generate())).public_key,
                identity_signature=b"-",
                services=offers,
            )
            agent = state.enrol(asked, fingerprint=secrets.token_hex(32), at_us=now_us(), origin="the bench")
            made = authority.agent_certificate(agent.tenant, agent.name, key.public_key, life=day, now=now)
            found[member.name] = key.pem().decode() + ssl.DER_cert_to_PEM_cert(made)
    return found


# --- batches ------------------------------------------------------------------------------------------------


class Body(NamedTuple):
    """A batch of one agent's readings; under another number it is another batch."""

    agent: str
    packed: bytes
    number_at: int

    def numbered(self, number: int) -> bytes:
        """The batch under a number, as an agent sends it."""
        told = self.packed[: self.number_at] + struct.pack(">I", number) + self.packed[self.number_at + 4 :]
        return gzip.compress(told, compresslevel=1)


def bodies(names: list[str], senders: int) -> list[Body]:
    """Readings of now from some agents to all others."""
    draw, found = Random(20261125), []
    began_s = int(time.time()) - 60
    for src in names[:senders]:
        rows = [_reading(draw, src, dst, began_s) for dst in names if dst != src]
        body = pack_batch(
            agent=src, boot=os.urandom(8).hex(), batch=ingest.FIRST_BATCH, tables={"readings": rows}
        )
        found.append(Body(src, body, body.index(struct.pack(">BI", 0xCE, ingest.FIRST_BATCH)) + 1))
    return found


def _reading(draw: Random, src: str, dst: str, began_s: int) -> Reading:
    told = ingest.reading(draw, src, dst)
    return msgspec.structs.replace(
        told,
        cycle=began_s,
        started_us=began_s * 1_000_000,
        ended_us=(began_s + draw.randint(10, 40)) * 1_000_000,
    )
