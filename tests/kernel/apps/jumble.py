"""A cable of two TUN devices on which packets overtake each other: ``jumble.py DEVICE DEVICE``.

Every packet takes ``DELAY_S``; every ``LATE_EACH``-th of a direction ``LATE_S`` more. A sender takes a
segment for lost sooner than that (RFC 8985: after a quarter of the least round trip), but its time-out is
longer. So what was only overtaken is sent again, and the receiver says that it had it (DSACK, RFC 2883).

Prints ``ready`` once both devices exist; the caller puts them where it wants them. Ends with its caller.
"""

import fcntl
import heapq
import itertools
import os
import select
import struct
import sys
import time
from contextlib import suppress

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MOST_BYTES = 65536
DELAY_S = 0.010
LATE_EACH, LATE_S = 7, 0.030


def open_tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def main() -> None:
    left, right = map(open_tun, sys.argv[1:])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    forward({left: right, right: left})


def forward(other_end: dict[int, int]) -> None:
    waiting: list[tuple[float, int, int, bytes]] = []  # due, order of coming, where to, packet
    counts = {device: itertools.count(1) for device in other_end}
    orders = itertools.count()
    while True:
        wait_s = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        for device in select.select(list(other_end), [], [], wait_s)[0]:
            late = next(counts[device]) % LATE_EACH == 0
            due = time.monotonic() + DELAY_S + late * LATE_S
            heapq.heappush(waiting, (due, next(orders), other_end[device], os.read(device, MOST_BYTES)))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, to, packet = heapq.heappop(waiting)
            with suppress(OSError):  # a device that is not up yet takes nothing
                os.write(to, packet)


if __name__ == "__main__":
    main()
