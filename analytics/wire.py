"""Every message that leaves a process, but for batches of facts (``analytics/batch.py``).

Control messages go both ways on one WebSocket (``/v1/control``): tagged JSON objects, one union each way. An
unknown tag is answered with one ``Notice`` and the connection is kept.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, TypeVar

import msgspec

from analytics.errors import UNREADABLE, MessageError
from analytics.measurement import Rung, count, named, text, whole

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 16
MAX_SEALED: Final = 2_000  # a grant with seven texts of the greatest length

PublicKey = Annotated[bytes, msgspec.Meta(max_length=KEY_BYTES)]
"""Ed25519 (RFC 8032); empty where there is none."""
Sealed = Annotated[bytes, msgspec.Meta(max_length=MAX_SEALED)]
"""Something signed, see ``analytics.trust``; empty where there is none."""

LifeS = Annotated[int, whole("how long a certificate is good for", "s", ge=1, le=400 * 86_400)]

# --- enrolment -------------------------------------------------------------------------------------------


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/enrol``: a token, who wants in, and proof that the certificate is the sender's own."""

    token: Annotated[str, msgspec.Meta(min_length=8, max_length=200)]  # its secret: channel.EnrolToken
    name: Annotated[str, named("agent")]
    site: Annotated[str, named("site the agent stands in")]
    certificate: Annotated[bytes, msgspec.Meta(max_length=4096)]  # DER; what DTLS will present to peers
    signature: Annotated[bytes, msgspec.Meta(max_length=256)]  # of enrolment_claim, by the certificate's key
    label: Annotated[str, text("what people call it, as in 'the radiologist'", most=60)] = ""
    services: Annotated[list[ServiceOffer], msgspec.Meta(max_length=16)] = []
    identity_key: Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]  # Ed25519
    identity_signature: Annotated[bytes, msgspec.Meta(max_length=64)]  # of the claim, by that key


def enrolment_claim(token: str, name: str) -> bytes:
    """What an enrolment signs, by both of the agent's keys: ECDSA with SHA-256, and Ed25519.

    Whoever merely knows a certificate or a public key cannot sign it.
    """
    return b"\0".join([b"pathgrade enrolment", token.encode(), name.encode()])


class ServiceOffer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service that runs on the agent's host, and the profile its users are graded by."""

    name: Annotated[str, text("what people call it, as in 'PACS'", most=60)]
    profile: Annotated[str, named("application profile")]
    port: Annotated[int, whole("TCP port", "", ge=1, le=65535)]


def renewal_claim(tenant: str, name: str, challenge: bytes) -> bytes:
    """What a renewal signs by the identity key, over a challenge that the server just gave."""
    return b"\0".join([b"pathgrade renewal", tenant.encode(), name.encode(), challenge])


class EnrolReply(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent shows from then on, and by what it knows the server's orders."""

    agent: str
    tenant: str
    certificate: bytes  # DER, over the identity key, by the server's authority: see server.authority
    life_s: LifeS  # of the certificate; renewed at half of it
    server_key: PublicKey  # what the server signs grants with; the agent takes no other from then on


MOST_FORMER: Final = 4
"""Authorities of before that are still taken: each is one certificate more in every handshake."""


class AuthorityReply(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /v1/authority``: whose certificates to take. To be checked by a token's pin, or the signature."""

    certificate: Annotated[bytes, msgspec.Meta(max_length=4096)]  # DER
    signature: Annotated[bytes, msgspec.Meta(max_length=64)]  # trust.signed_authority, by the grants' key
    # Those that it is in the place of, the latest first: an earlier token names one of them.
    former: Annotated[
        list[Annotated[bytes, msgspec.Meta(max_length=4096)]], msgspec.Meta(max_length=MOST_FORMER)
    ] = []


class ChallengeReply(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /v1/renewal``: what to sign."""

    challenge: Annotated[bytes, msgspec.Meta(max_length=64)]


class RenewalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/renewal``: a new certificate for an agent that holds its identity key."""

    tenant: Annotated[str, named("tenant")]
    name: Annotated[str, named("agent")]
    challenge: Annotated[bytes, msgspec.Meta(max_length=64)]
    signature: Annotated[bytes, msgspec.Meta(max_length=64)]  # of renewal_claim, by the identity key


class RenewalReply(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate as of an enrolment."""

    certificate: bytes
    life_s: LifeS
    authority: AuthorityReply | None = None  # there was another before: take this one from now on


class BatchReply(msgspec.Struct, frozen=True, kw_only=True):
    """The batch is on disk; ``duplicate`` if it was already."""

    rows: int
    duplicate: bool = False


# --- control: between the two agents of a test, passed on by the server ---------------------------------


class RungOffer(msgspec.Struct, frozen=True, kw_only=True, tag="rung_offer"):
    """One end's ICE parameters for one rung (RFC 8445); candidates in SDP form."""

    rung: Rung
    ufrag: Annotated[str, msgspec.Meta(min_length=4, max_length=256)]
    password: Annotated[str, msgspec.Meta(min_length=22, max_length=256)]
    candidates: Annotated[list[Annotated[str, msgspec.Meta(max_length=300)]], msgspec.Meta(max_length=32)]
    trouble: Annotated[str, msgspec.Meta(max_length=200)] = ""  # why a server gave this end no address


class RungResult(msgspec.Struct, frozen=True, kw_only=True, tag="rung_result"):
    """Whether one end got through on a rung; the rung counts only if both did."""

    rung: Rung
    ok: bool
    why: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Abandon(msgspec.Struct, frozen=True, kw_only=True, tag="abandon"):
    """One end gave the test up."""

    why: Annotated[str, msgspec.Meta(max_length=200)]


SignalBody = RungOffer | RungResult | Abandon


class Signal(msgspec.Struct, frozen=True, kw_only=True, tag="signal"):
    """Carries ``body`` to the other end of ``test``; the server checks only that the sender is one end."""

    test: Annotated[str, msgspec.Meta(max_length=32)]
    body: SignalBody


MAX_ADDRESSES: Final = 64
"""Of one host that are told: more have hosts of containers, whose addresses nobody outside meets."""

MAX_CPUS: Final = 8192
"""Of the largest Linux kernel (CONFIG_MAXSMP)."""

# --- control: agent to server ------------------------------------------------------------------------------


class LocalOff(msgspec.Struct, frozen=True, kw_only=True):
    """Active tests, or passive capture, are switched off on an agent's own host: by whom, since when, why."""

    since_us: Annotated[int, whole("when, by the host's clock", "us since 1970")]
    by: Annotated[str, msgspec.Meta(max_length=64)]
    note: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """First message on a connection."""

    version: Annotated[str, msgspec.Meta(max_length=40)]
    boot: Annotated[str, msgspec.Meta(max_length=64)]
    mesh: bool = True
    local_off: LocalOff | None = None  # active tests; no server can switch that on
    passive_off: LocalOff | None = None  # passive capture, likewise
    passive: Annotated[str, msgspec.Meta(max_length=200)] = "off"  # "ebpf (7 hooks)"; what is missed
    challenge: Annotated[bytes, msgspec.Meta(max_length=NONCE_BYTES)] = b""  # for the server's signed time
    binding: Sealed = b""  # trust.Binding of the agent's DTLS certificate, by its identity key
    addresses: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=45)]], msgspec.Meta(max_length=MAX_ADDRESSES)
    ] = []  # of the host's interfaces: sessions of others end there


class TestEnded(msgspec.Struct, frozen=True, kw_only=True, tag="test_ended"):
    """One end is done with a test: its reading is in its outbox."""

    test: Annotated[str, msgspec.Meta(max_length=32)]
    rung: Rung
    error: Annotated[str, msgspec.Meta(max_length=500)] = ""
    rtt_p50_us: Annotated[int, whole("median round trip, as in the reading", "us")] | None = None
    loss_bp: Annotated[int, whole("loss of this end's direction", "bp", le=10_000)] | None = None
    cpu_us: Annotated[int, whole("CPU time this process spent during the test", "us")] | None = None
    sent_bytes: Annotated[int, whole("sent on the test's 5-tuple, as in the reading", "B")] | None = None


class Health(msgspec.Struct, frozen=True, kw_only=True, tag="health"):
    """What the agent costs and what it lost, every 30 s, and when it is connected or switched."""

    cpu_us: Annotated[int, whole("CPU time since start", "us")]
    rss_kb: Annotated[int, whole("resident memory", "KiB")]
    events_seen: Annotated[int, count("closes of sessions, delivered or lost")] = 0
    events_lost: Annotated[int, count("closes that found the ring full")] = 0
    events_missed: Annotated[int, count("runs of a program that the kernel left out")] = 0
    lost_by_cpu: Annotated[
        list[Annotated[int, count("closes that found the ring full")]], msgspec.Meta(max_length=MAX_CPUS)
    ] = []
    batches_waiting: Annotated[int, count("batches not yet acknowledged")] = 0
    mesh: bool | None = None  # whether active tests are on here; None: an agent of before
    local_off: LocalOff | None = None
    passive_off: LocalOff | None = None
    bytes_sent: Annotated[int, count("bytes sent over UDP since start, headers included: tests")] | None = (
        None
    )
    packets_refused: Annotated[int, count("packets of tests refused, the sum of the next four")] = 0
    packets_forged: Annotated[int, count("not by the peer, or damaged")] = 0
    packets_replayed: Annotated[int, count("seen before")] = 0
    packets_unsolicited: Annotated[int, count("answers to nothing that was asked")] = 0
    packets_late: Annotated[int, count("answers after the wait for them was over")] = 0
    servers_refused: Annotated[int, count("connections that another than the server answered")] = 0
    grants_refused: Annotated[
        dict[Annotated[str, msgspec.Meta(max_length=40)], Annotated[int, count("orders refused")]],
        msgspec.Meta(max_length=32),
    ] = {}  # by agent.mesh.trust.Reason
    receipts_refused: Annotated[
        dict[Annotated[str, msgspec.Meta(max_length=40)], Annotated[int, count("readings not signed")]],
        msgspec.Meta(max_length=32),
    ] = {}  # of peers; by agent.mesh.receipt.Reason
    shed: Annotated[str, msgspec.Meta(max_length=40)] = ""  # left out, with all before it; agent.limits.Shed
    shed_why: Annotated[str, msgspec.Meta(max_length=200)] = ""
    shed_times: Annotated[int, count("steps towards doing less since start")] = 0
    dropped: Annotated[
        dict[Annotated[str, msgspec.Meta(max_length=40)], Annotated[int, count("dropped since start")]],
        msgspec.Meta(max_length=32),
    ] = {}  # where a queue or table was full, by its name in docs/limits.md


class Dependence(StrEnum):
    """What a NAT's mapping, or a firewall's filter, depends on (RFC 4787 sections 4.1 and 5)."""

    NONE = "none"  # there is no NAT
    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS = "address-dependent"
    ADDRESS_AND_PORT = "address-and-port-dependent"
    NOT_PORT = "not port-dependent"  # one of the first two: the STUN server has one address only
    UNKNOWN = "unknown"


class NatReport(msgspec.Struct, frozen=True, kw_only=True, tag="nat_report"):
    """What an agent found out about the NAT in front of it (RFC 5780). None = not measured."""

    udp: bool  # a STUN server answered; False: UDP is blocked, or no server could be asked
    mapped: Annotated[str, msgspec.Meta(max_length=45)] = ""  # public address
    mapping: Dependence = Dependence.UNKNOWN
    filtering: Dependence = Dependence.UNKNOWN
    hairpin: bool | None = None  # reaches hosts behind it by their public addresses
    cgnat: bool | None = None  # 100.64.0.0/10 (RFC 6598) was seen on the way out
    lifetime_s: Annotated[int, whole("how long an idle mapping is sure to last", "s")] | None = None


# --- control: server to agent ------------------------------------------------------------------------------


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome"):
    """Answer to ``Hello``."""

    tenant: str
    server_version: str
    # Of this server, "stun:host:port": what is in front of the agent?
    stun: Annotated[list[str], msgspec.Meta(max_length=16)] = []
    time: Sealed = b""  # trust.ServerTime, in answer to the challenge


class IceServer(msgspec.Struct, frozen=True, kw_only=True):
    """A STUN or TURN server: ``stun:host:port``, ``turn:host:port?transport=udp``, ``turns:..``."""

    url: str
    username: str | None = None
    credential: str | None = None


class ProbePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a test does once connected. The defaults support a loss below 1 % (n >= 300, Wilson 90 %)."""

    probes: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 300
    interval_us: Annotated[int, msgspec.Meta(ge=5_000, le=1_000_000)] = 25_000
    hop_rounds: Annotated[int, msgspec.Meta(ge=0, le=60)] = 6
    hop_interval_us: Annotated[int, msgspec.Meta(ge=1_000_000, le=10_000_000)] = 1_000_000  # per router
    max_ttl: Annotated[int, msgspec.Meta(ge=1, le=64)] = 16
    mtu_every: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 12  # tests of a pair; 0 = never
    trains: Annotated[int, msgspec.Meta(ge=0, le=8)] = 1
    train_packets: Annotated[int, msgspec.Meta(ge=16, le=200)] = 80
    train_bytes: Annotated[int, msgspec.Meta(ge=200, le=1_400)] = 1_200


class TestOrder(msgspec.Struct, frozen=True, kw_only=True, tag="test_order"):
    """Test ``peer`` now; both ends get one, with ``controlling`` set on exactly one of them."""

    test: Annotated[str, msgspec.Meta(max_length=64)]
    cycle: int
    peer: Annotated[str, msgspec.Meta(max_length=64)]
    # SHA-256 of the peer's enrolled DTLS certificate
    peer_fingerprint: Annotated[str, msgspec.Meta(max_length=200)]
    controlling: bool
    rungs: Annotated[list[Rung], msgspec.Meta(max_length=16)]
    first_rung: Rung | None = None  # what worked last time: tried before the others, the same at both ends
    ice_servers: Annotated[list[IceServer], msgspec.Meta(max_length=64)]
    plan: ProbePlan = ProbePlan()
    deadline_us: Annotated[int, msgspec.Meta(ge=1_000_000, le=300_000_000)] = 60_000_000  # from receipt
    grant: Sealed = b""  # trust.Grant, by the server's key
    peer_identity_key: PublicKey = b""
    peer_binding: Sealed = b""  # trust.Binding of the peer's certificate, by its identity key
    receipt: bool = False  # sign the reading, and the peer's; an agent of before does not know of it


class TestCancel(msgspec.Struct, frozen=True, kw_only=True, tag="test_cancel"):
    """Stop a test: the peer is gone, or the mesh was switched off."""

    test: str
    why: str


class MeshSwitch(msgspec.Struct, frozen=True, kw_only=True, tag="mesh_switch"):
    """Turn active tests on or off on this agent; a connection begins with them on. Answered by ``Health``."""

    on: bool


class Notice(msgspec.Struct, frozen=True, kw_only=True, tag="notice"):
    """Something the other end said could not be taken; the connection stays."""

    code: str
    text: str


FromAgent = Hello | Signal | TestEnded | Health | NatReport | Notice
FromServer = Welcome | TestOrder | TestCancel | Signal | MeshSwitch | Notice

_from_agent: Final[msgspec.json.Decoder[FromAgent]] = msgspec.json.Decoder(FromAgent)
_from_server: Final[msgspec.json.Decoder[FromServer]] = msgspec.json.Decoder(FromServer)
MAX_MESSAGE: Final = 64 * 1024


def encode(message: FromAgent | FromServer) -> str:
    """Encode a control message."""
    return msgspec.json.encode(message).decode()


def decode_from_agent(data: str | bytes) -> FromAgent:
    """Decode what an agent said; raises ``MessageError``."""
    return _decode(_from_agent, data)


def decode_from_server(data: str | bytes) -> FromServer:
    """Decode what the server said; raises ``MessageError``."""
    return _decode(_from_server, data)


T = TypeVar("T")


def _decode(decoder: msgspec.json.Decoder[T], data: str | bytes) -> T:
    if len(data) > MAX_MESSAGE:
        raise MessageError(f"a message of {len(data)} bytes; at most {MAX_MESSAGE}")
    try:
        return decoder.decode(data)
    except UNREADABLE as error:
        raise MessageError(f"not a control message: {error}") from error
