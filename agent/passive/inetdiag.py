"""The kernel's list of TCP sockets, over netlink: one question and one dump for each address family.

::

    nlmsghdr            inet_diag_req_v2                                        (linux/inet_diag.h)
    len type flags      family protocol ext pad | states | inet_diag_sockid (48: zero = any)
    seq pid             1      1        1   1     4

    nlmsghdr            inet_diag_msg                              attributes, at multiples of 4
    len type flags      family state timer retrans | sockid |     len type value ...
    seq pid             expires rqueue wqueue uid inode            INET_DIAG_INFO = struct tcp_info

    struct inet_diag_sockid: sport dport (big-endian) src[16] dst[16] interface cookie[8]

pyroute2 is not used. Its ``DiagSocket`` (0.9.7) cannot be asked from a thread whose event loop runs, takes
140 us a socket, and turns the kernel's refusal into a message without contents, so that no sockets and no
answer look alike. The tests use it as a second opinion.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from socket import AF_INET, AF_INET6, IPPROTO_TCP
from typing import Final, NamedTuple

from ebpf.events import TcpState

_AF_NETLINK: Final = 16  # absent from the socket module where Python was built without its header
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_INET_DIAG_INFO: Final = 2
_INET_DIAG_CONG: Final = 4
_TIMER_TIME_WAIT: Final = 3
"""What ``idiag_timer`` says of the small structure that stands in for a socket after its close."""

_DATAGRAM_SIZE: Final = 64 * 1024
"""More than a dump puts into one: the kernel fills 32 KiB, or what the reader offers if that is less."""

ANSWER_S: Final = 5.0
"""A dump is there when it is asked for; a kernel that lets one wait so long has other troubles."""

_MOST_ERRNO: Final = 4095
"""The kernel has no larger one (include/linux/err.h)."""

_EXTENSIONS: Final = 1 << (_INET_DIAG_INFO - 1) | 1 << (_INET_DIAG_CONG - 1)

Dump = Callable[[bytes], Iterable[bytes]]
"""Answers a request with datagrams: ``answers``, or what a test captured. Raises OSError where it cannot."""

_STATES: Final = (
    TcpState.ESTABLISHED,
    TcpState.SYN_SENT,
    TcpState.FIN_WAIT1,
    TcpState.FIN_WAIT2,
    TcpState.CLOSE_WAIT,
    TcpState.LAST_ACK,
    TcpState.LISTEN,
    TcpState.CLOSING,
)
"""States asked for. Not TIME_WAIT: after a storm there are tens of thousands, without owner or counters."""

_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBBI48x")
_ATTRIBUTE: Final = struct.Struct("=HH")
_HEAD: Final = struct.Struct("=BBB41xQ16xI")
_PORTS: Final = struct.Struct("!4xHH")
_ADDRESSES: Final = struct.Struct("8x16s16s")
_ERROR: Final = struct.Struct("=i")
_V4_MAPPED: Final = bytes(10) + b"\xff\xff"
_BODY: Final = _HEAD.size  # of inet_diag_msg; the attributes follow


class Socket(NamedTuple):
    """One socket at one moment. What every poll looks at is decoded, the rest when it is asked for."""

    cookie: int  # no other socket of this boot has it
    state: int
    inode: int  # of its descriptors; 0 = not accepted yet, or let go by its process
    body: bytes  # inet_diag_msg and attributes

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return self.body[0]

    @property
    def ports(self) -> tuple[int, int]:
        """Local and remote."""
        local, remote = _PORTS.unpack_from(self.body)
        return local, remote

    @property
    def addresses(self) -> tuple[bytes, bytes]:
        """Local and remote, 16 bytes each; IPv4 as ::ffff:a.b.c.d."""
        local, remote = _ADDRESSES.unpack_from(self.body)
        if self.family == AF_INET:
            return _V4_MAPPED + local[:4], _V4_MAPPED + remote[:4]
        return local, remote

    @property
    def info(self) -> bytes:
        """``struct tcp_info``, as long as this kernel has it."""
        return self._attribute(_INET_DIAG_INFO)

    @property
    def congestion(self) -> bytes:
        """Name of the congestion control, ended by a zero."""
        return self._attribute(_INET_DIAG_CONG)

    def _attribute(self, wanted: int) -> bytes:
        at = _BODY
        while at + _ATTRIBUTE.size <= len(self.body):
            length, kind = _ATTRIBUTE.unpack_from(self.body, at)
            if kind == wanted or length < _ATTRIBUTE.size:
                return self.body[at + _ATTRIBUTE.size : at + length]
            at += length + 3 & ~3
        return b""


def request(family: int, number: int) -> bytes:
    """Write the question for all TCP sockets of a family; the answers carry ``number``."""
    body = _REQUEST.pack(family, IPPROTO_TCP, _EXTENSIONS, 0, sum(1 << state for state in _STATES))
    size = _HEADER.size + len(body)
    return _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, number, 0) + body


def answers(question: bytes) -> Iterator[bytes]:
    """Ask the kernel of the calling thread's network namespace. Needs no privilege. Raises OSError."""
    with socket.socket(_AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(ANSWER_S)
        kernel.sendto(question, (0, 0))
        while True:
            yield kernel.recv(_DATAGRAM_SIZE)


def sockets(dump: Dump = answers) -> dict[int, Socket]:
    """List all TCP sockets by cookie. Raises OSError, rather than give a part for the whole."""
    found: dict[int, Socket] = {}
    for number, family in zip(count(1), (AF_INET, AF_INET6), strict=False):
        for body in _dumped(dump(request(family, number)), number):
            one = _socket(body)
            if one is not None:
                found[one.cookie] = one
    return found


def _dumped(datagrams: Iterable[bytes], number: int) -> Iterator[bytes]:
    """Give the bodies of a dump up to its end."""
    for datagram in datagrams:
        for kind, sequence, body in _messages(datagram):
            if sequence != number:
                continue
            if kind == _SOCK_DIAG_BY_FAMILY:
                yield body
            elif kind in {_NLMSG_DONE, _NLMSG_ERROR}:
                _raise_for(body)
                return
    raise OSError(errno.EPROTO, "the list of sockets broke off")


def _messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, _, number, _ = _HEADER.unpack_from(datagram, at)
        if not _HEADER.size <= length <= len(datagram) - at:
            raise OSError(errno.EPROTO, "a message of the kernel was cut off")
        yield kind, number, datagram[at + _HEADER.size : at + length]
        at += length + 3 & ~3


def _raise_for(body: bytes) -> None:
    """Both the end of a dump and a refusal begin with an errno, negative; 0 = all is well."""
    (code,) = _ERROR.unpack_from(body) if len(body) >= _ERROR.size else (0,)
    if code:
        number = min(abs(code), _MOST_ERRNO)  # strerror() takes no number that has no negative
        raise OSError(number, os.strerror(number))


def _socket(body: bytes) -> Socket | None:
    """Decode a head. None: a closed session's stand-in, asked for as FIN_WAIT2, or too short to be one."""
    if len(body) < _BODY:
        raise OSError(errno.EPROTO, "a socket of the kernel's list was cut off")
    _, state, timer, cookie, inode = _HEAD.unpack_from(body)
    return None if timer == _TIMER_TIME_WAIT else Socket(cookie, state, inode, body)
