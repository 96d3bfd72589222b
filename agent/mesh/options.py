"""Socket options of the kernel that Python has no names for, and what differs between IPv4 and IPv6."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

# linux/net_tstamp.h, asm-generic/socket.h, linux/in.h, linux/in6.h, linux/errqueue.h, linux/udp.h:
# the socket module has no names for these.
SO_TIMESTAMPING: Final = 37
SOF_TX_SOFTWARE: Final = 1 << 1
SOF_RX_SOFTWARE: Final = 1 << 3
SOF_SOFTWARE: Final = 1 << 4
SOF_OPT_ID: Final = 1 << 7
SOF_OPT_CMSG: Final = 1 << 10
SOF_OPT_TSONLY: Final = 1 << 11
STAMPING: Final = (
    SOF_TX_SOFTWARE | SOF_RX_SOFTWARE | SOF_SOFTWARE | SOF_OPT_ID | SOF_OPT_CMSG | SOF_OPT_TSONLY
)
MSG_ERRQUEUE: Final = 0x2000
IP_RECVERR: Final = 11
IP_RECVTTL: Final = 12
IP_RECVERR_RFC4884: Final = 26  # since Linux 5.9
IPV6_RECVERR: Final = 25
IPV6_RECVERR_RFC4884: Final = 31
IP_RECVTOS: Final = 13
IP_MTU_DISCOVER: Final = 10
IPV6_MTU_DISCOVER: Final = 23
PMTUDISC_PROBE: Final = 3  # never in fragments, and never held back by what was learned of the path
UDP_SEGMENT: Final = 103
ORIGIN_LOCAL: Final = 1
ORIGIN_ICMP: Final = 2
ORIGIN_ICMP6: Final = 3
ORIGIN_TIMESTAMPING: Final = 4


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between IPv4 and IPv6."""

    level: int
    ttl: int
    receive_ttl: int
    receive_errors: int
    sockaddr_family: int
    address_at: slice
    traffic_class: int
    receive_traffic_class: int
    receive_extensions: int
    mtu_discover: int
    too_long: tuple[int, int | None]  # ICMP type and code (any) of "too long for this link"
    header_bytes: int  # IP and UDP


V4: Final = Family(
    socket.IPPROTO_IP,
    socket.IP_TTL,
    IP_RECVTTL,
    IP_RECVERR,
    socket.AF_INET,
    slice(4, 8),
    socket.IP_TOS,
    IP_RECVTOS,
    IP_RECVERR_RFC4884,
    IP_MTU_DISCOVER,
    (3, 4),
    28,
)
V6: Final = Family(
    socket.IPPROTO_IPV6,
    socket.IPV6_HOPLIMIT,
    socket.IPV6_RECVHOPLIMIT,
    IPV6_RECVERR,
    socket.AF_INET6,
    slice(8, 24),
    socket.IPV6_TCLASS,
    socket.IPV6_RECVTCLASS,
    IPV6_RECVERR_RFC4884,
    IPV6_MTU_DISCOVER,
    (2, None),
    48,
)
