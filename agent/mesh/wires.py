"""How datagrams leave on a nominated 5-tuple: straight to the peer, or through a TURN server."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from agent.mesh.limit import Limit
from agent.mesh.stamps import OnSent, SentTrain, StampingTransport

UDP_HEADER: Final = {socket.AF_INET: 28, socket.AF_INET6: 48}  # with the IP header
TCP_HEADER: Final = 52  # with IPv4 and time stamps (RFC 7323)
CHANNEL_HEADER: Final = 4  # TURN ChannelData (RFC 8656 section 12.4)


class Wire(Protocol):
    """How datagrams leave on the nominated 5-tuple."""

    @property
    def header_bytes(self) -> int:
        """Bytes of IP, UDP and relay in front of a datagram, as the receiver gets it."""

    @property
    def transport(self) -> StampingTransport | None:
        """The stamped socket; None for a stream."""

    @property
    def sent_bytes(self) -> int:
        """All that this host sent on it, at IP level; of a stream without what TCP repeated."""

    @property
    def far_end(self) -> tuple[str, int] | None:
        """Where datagrams go; None where the socket is connected, so that the kernel knows no other."""

    @property
    def limit(self) -> Limit:
        """How much of it may leave."""

    def send(self, data: bytes, on_sent: OnSent | None = None) -> bool:
        """Send to the peer."""

    def send_train(self, datagrams: Sequence[bytes], *, chunk: int) -> SentTrain:
        """Send datagrams of one length to the peer, back to back; as ``StampingTransport``."""

    def send_near(self, data: bytes, *, ttl: int, on_sent: OnSent, traffic_class: int = 0) -> bool:
        """Send to the far end of the 5-tuple, which may be the relay, with a TTL and a traffic class."""

    def send_whole(self, data: bytes) -> bool:
        """Send to the peer in one piece or not at all; False also where only a relay can be reached."""


class DirectWire:
    """Straight to the peer."""

    def __init__(self, transport: StampingTransport, address: tuple[str, int]) -> None:
        self.transport = transport
        self.address = address
        self.header_bytes = UDP_HEADER[socket.AF_INET6 if ":" in address[0] else socket.AF_INET]
        self.far_end = (str(ipaddress.ip_address(address[0].partition("%")[0])), address[1])

    @property
    def sent_bytes(self) -> int:
        """As ``Wire``."""
        return self.transport.sent_bytes

    @property
    def limit(self) -> Limit:
        """As ``Wire``."""
        return self.transport.limit

    def send(self, data: bytes, on_sent: OnSent | None = None) -> bool:
        """As ``Wire``."""
        return self.transport.send(data, self.address, on_sent=on_sent)

    def send_train(self, datagrams: Sequence[bytes], *, chunk: int) -> SentTrain:
        """As ``Wire``."""
        return self.transport.send_train(datagrams, self.address, chunk=chunk)

    def send_near(self, data: bytes, *, ttl: int, on_sent: OnSent, traffic_class: int = 0) -> bool:
        """As ``Wire``."""
        return self.transport.send(data, self.address, ttl=ttl, traffic_class=traffic_class, on_sent=on_sent)

    def send_whole(self, data: bytes) -> bool:
        """As ``Wire``."""
        return self.transport.send_whole(data, self.address)


class RelayWire:
    """Through a TURN server over UDP, as ChannelData."""

    far_end = None

    def __init__(self, transport: StampingTransport, channel: int) -> None:
        self.transport = transport
        self.header_bytes = UDP_HEADER[socket.AF_INET] + CHANNEL_HEADER
        self._channel = channel

    @property
    def sent_bytes(self) -> int:
        """As ``Wire``."""
        return self.transport.sent_bytes

    @property
    def limit(self) -> Limit:
        """As ``Wire``."""
        return self.transport.limit

    def send(self, data: bytes, on_sent: OnSent | None = None) -> bool:
        """As ``Wire``."""
        return self.transport.send(self._wrap(data), on_sent=on_sent)

    def send_train(self, datagrams: Sequence[bytes], *, chunk: int) -> SentTrain:
        """As ``Wire``."""
        wrapped = [self._wrap(datagram) for datagram in datagrams]
        return self.transport.send_train(wrapped, chunk=chunk)

    def send_near(self, data: bytes, *, ttl: int, on_sent: OnSent, traffic_class: int = 0) -> bool:
        """As ``Wire``."""
        return self.transport.send(data, ttl=ttl, traffic_class=traffic_class, on_sent=on_sent)

    def send_whole(self, data: bytes) -> bool:
        """As ``Wire``: the relay would hand it on as it likes."""
        return False

    def _wrap(self, data: bytes) -> bytes:
        return channel_data(self._channel, data)


class StreamWire:
    """Through a TURN server over TCP: no stamps, no TTL, no trains."""

    transport = None
    far_end = None
    header_bytes = UDP_HEADER[socket.AF_INET]

    def __init__(self, write: Callable[[bytes], None], channel: int) -> None:
        self.sent_bytes = 0
        self.limit = Limit()
        self._write = write
        self._channel = channel

    def send(self, data: bytes, on_sent: OnSent | None = None) -> bool:
        """As ``Wire``; ``on_sent`` is never called."""
        wrapped = channel_data(self._channel, data)
        size = len(wrapped) + TCP_HEADER
        if not self.limit.admits(self.sent_bytes, size):
            return False
        self._write(wrapped)
        self.sent_bytes += size
        return True

    def send_train(self, datagrams: Sequence[bytes], *, chunk: int) -> SentTrain:
        """As ``Wire``: a stream has no trains."""
        return SentTrain(whole=False, began_ns=0, before=0, span_ns=0)

    def send_near(self, data: bytes, *, ttl: int, on_sent: OnSent, traffic_class: int = 0) -> bool:
        """As ``Wire``: a stream has no TTL."""
        return False

    def send_whole(self, data: bytes) -> bool:
        """As ``Wire``: a stream has no datagrams."""
        return False


def channel_data(channel: int, data: bytes) -> bytes:
    """Wrap a datagram for the peer behind a TURN channel."""
    return struct.pack("!HH", channel, len(data)) + data
