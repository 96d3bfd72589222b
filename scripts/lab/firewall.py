"""The gateway's nftables rules: address translation by kind, port forwards, a stateful firewall. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lab.scenario import Nat

TRANSLATION: Final[dict[Nat, str]] = {
    Nat.NONE: "",
    Nat.ORDINARY: 'oifname "wan" masquerade',
    Nat.SYMMETRIC: 'oifname "wan" masquerade fully-random',
}

TEMPLATE: Final = """
table ip nat {{
    chain forwards {{
        type nat hook prerouting priority dstnat;
        {forwards}
    }}
    chain translation {{
        type nat hook postrouting priority srcnat;
        {translation}
    }}
}}
table ip firewall {{
    chain through {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct status dnat accept
        iifname "lan" accept
        counter
    }}
    chain to_gateway {{
        type filter hook input priority filter; policy accept;
        iifname "wan" ct state established,related accept
        iifname "wan" icmp type {{ echo-request, time-exceeded, destination-unreachable }} accept
        iifname "wan" counter drop
    }}
}}
"""


def gateway_rules(nat: Nat, forwards: Sequence[tuple[int, str]]) -> str:
    """Rules of a gateway; ``forwards`` are (TCP port, host address). What nobody asked for is dropped."""
    lines = [f'iifname "wan" tcp dport {port} dnat to {address}' for port, address in forwards]
    return TEMPLATE.format(forwards="\n        ".join(lines), translation=TRANSLATION[nat])
