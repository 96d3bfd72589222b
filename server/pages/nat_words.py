"""What a NAT does, in words that say what it means for paths (RFC 4787, RFC 5780). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from analytics.wire import Dependence, NatReport

SHORT: Final = {
    Dependence.NONE: "no NAT",
    Dependence.ENDPOINT_INDEPENDENT: "NAT, one port for all peers",
    Dependence.ADDRESS: "NAT, a port for each peer",
    Dependence.ADDRESS_AND_PORT: "NAT, a port for each peer",
    Dependence.NOT_PORT: "NAT, not by port",
    Dependence.UNKNOWN: "not known",
}

MAPPING: Final = {
    Dependence.NONE: "There is no NAT in front of it: peers reach it at its own address.",
    Dependence.ENDPOINT_INDEPENDENT: "Its NAT keeps one public port for all peers: direct paths open.",
    Dependence.ADDRESS: "Its NAT takes another public port for each peer's address: a direct path needs a "
    "peer whose own NAT keeps its port; else tests are relayed.",
    Dependence.ADDRESS_AND_PORT: "Its NAT takes another public port for each peer (symmetric): a direct path "
    "needs a peer whose own NAT lets anyone in; else tests are relayed.",
    Dependence.NOT_PORT: "Its NAT's public port does not depend on the peer's port. Whether it does on the "
    "peer's address is not known, as the STUN server has one only.",
    Dependence.UNKNOWN: "How its NAT chooses public ports is not known.",
}

FILTERING: Final = {
    Dependence.NONE: "Nothing keeps out who was not spoken to before.",
    Dependence.ENDPOINT_INDEPENDENT: "Once it has spoken to anyone, anyone gets in by that port.",
    Dependence.ADDRESS: "Only addresses that it has spoken to get in.",
    Dependence.ADDRESS_AND_PORT: "Only addresses and ports that it has spoken to get in.",
    Dependence.NOT_PORT: "Who gets in does not depend on the port; on the address, perhaps.",
}


def nat_short(nat: NatReport | None) -> str:
    """Say it in a few words, for a list."""
    if nat is None:
        return ""
    return SHORT[nat.mapping] if nat.udp else "UDP blocked"


def nat_sentences(nat: NatReport | None) -> list[str]:
    """Say all that is known, a sentence each."""
    return ["What is in front of it is not known yet."] if nat is None else list(_sentences(nat))


def _sentences(nat: NatReport) -> Iterator[str]:
    if not nat.udp:
        yield "No STUN server answered over UDP: it is blocked on the way, or none is set."
        yield "Only relays over TCP work then."
        return
    yield MAPPING[nat.mapping]
    if nat.mapped and nat.mapping is not Dependence.NONE:
        yield f"Its public address is {nat.mapped}."
    if nat.filtering in FILTERING:
        yield FILTERING[nat.filtering]
    if nat.cgnat:
        yield "Its provider has a second NAT (carrier-grade, 100.64.0.0/10): ports cannot be forwarded to it."
    if nat.hairpin is not None:
        reach = "reach" if nat.hairpin else "do not reach"
        yield f"Hosts behind the same NAT {reach} each other by public address."
    if nat.lifetime_s is not None:
        yield f"A mapping that is idle lasts {nat.lifetime_s} s at least."
