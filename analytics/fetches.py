"""What a PACS takes between images, from its passive flows: what a fetch took beside sending.

READ FIRST: ``fetches_of``, ``learnt`` and ``Waits.at``. A flow has no payload and is a sum over 10 s, so no
single request is seen, and neither is the time from a request to the first byte of its answer. What the
kernel does tell of a whole session at the PACS::

    life  =  busy (from the first byte in the socket to its acknowledgement)  +  idle
    idle  =  the handshakes  +  images x (the PACS's own time  +  k round trips)

The acknowledgement of an image's last byte and the request for the next one most often arrive together: that
round trip is in ``busy``, and k is 0. A viewer that writes its answer in two small pieces holds the second
back until the first is acknowledged (Nagle's algorithm), and k is 1: with Orthanc and getscu, 92 ms of an
image were idle over 38 ms, and 337 ms over 261 ms. So k is the number of round trips that leaves the
fetches most alike; and where they were all over alike paths, nothing is said of other paths.

Not told apart: a slow viewer makes a PACS look slow. Not in it: what a PACS waits for inside an image, as it
then still has something to send. Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from analytics.calibrate import LEAST_FETCHES, Calibration, ObservedFetch, from_fetches
from analytics.measurement import Direction, Flow
from analytics.rules.load import FusionRule, Study


@dataclass(frozen=True, slots=True)
class Fetch:
    """Sessions of one client with one service, from the first one opened to the last one closed."""

    sessions: int = 0
    bytes_sent: int = 0
    duration_us: int = 0
    busy_us: int = 0
    rtt_min_us: int = 0

    def images(self, image_bytes: int) -> int:
        """Images of that size in it, rounded."""
        return round(self.bytes_sent / image_bytes)


def fetches_of(flows: Iterable[Flow], *, port: int) -> list[Fetch]:
    """Whole fetches from the service on ``port`` of the agent that saw the flows.

    Of one client (process, addresses), sessions belong together until as many closed as opened. Those whose
    beginning was not seen are left out. The order of the flows does not matter, nor does a flow told twice.
    """
    clients: defaultdict[tuple[object, ...], list[Flow]] = defaultdict(list)
    for flow in dict.fromkeys(flows):
        if flow.direction is Direction.IN and flow.service_port == port and flow.source == "ebpf":
            clients[_client(flow)].append(flow)
    return [fetch for own in clients.values() for fetch in _of_client(own)]


def _client(flow: Flow) -> tuple[object, ...]:
    return (flow.agent, flow.executable, flow.process, flow.netns, flow.local_address, flow.remote_address)


def _of_client(flows: list[Flow]) -> Iterator[Fetch]:
    so_far, open_now, is_whole = Fetch(), 0, True
    for flow in sorted(flows, key=lambda flow: flow.window_us):
        so_far = _with(so_far, flow)
        open_now += flow.opened - flow.closed
        is_whole &= open_now >= 0
        if open_now <= 0:
            if is_whole and flow.closed:
                yield so_far
            so_far, open_now, is_whole = Fetch(), 0, True


def _with(fetch: Fetch, flow: Flow) -> Fetch:
    rtts = [rtt for rtt in (fetch.rtt_min_us, flow.rtt_min_us) if rtt]
    return replace(
        fetch,
        sessions=fetch.sessions + flow.opened,
        bytes_sent=fetch.bytes_sent + flow.bytes_sent,
        duration_us=fetch.duration_us + flow.duration_us,
        busy_us=fetch.busy_us + flow.busy_us,
        rtt_min_us=min(rtts, default=0),
    )


@dataclass(frozen=True, slots=True)
class Waits:
    """What a service takes between two images, learnt from fetches over paths between two round trips."""

    own: Calibration  # its own time
    round_trips: int  # that are waited for with nothing to send, beside the one of each request
    least_rtt_us: int
    most_rtt_us: int

    def at(self, rtt_us: int | None, *, nagle: bool = False) -> Calibration | None:
        """What it takes over a path of this round trip; None where no fetch was over one like it.

        ``nagle``: the prediction has the round trips of held back segments already.
        """
        if rtt_us is None or not self.least_rtt_us / ALIKE <= rtt_us <= self.most_rtt_us * ALIKE:
            return None
        more_us = 0 if nagle else self.round_trips * rtt_us
        return replace(
            self.own,
            server_us_per_image=self.own.server_us_per_image + more_us,
            low=self.own.low + more_us,
            high=self.own.high + more_us,
        )


ALIKE: Final = 1.5
"""Round trips within this factor are of like paths."""
MOST_ROUND_TRIPS: Final = 2


def learnt(fetches: Sequence[Fetch], study: Study, rule: FusionRule) -> Waits | None:
    """What the service takes for an image; None with too few fetches that tell it (``LEAST_FETCHES``)."""
    telling = [fetch for fetch in fetches if _tells(fetch, study, rule)]
    if len(telling) < LEAST_FETCHES:
        return None
    counts = range(MOST_ROUND_TRIPS + 1)
    observed = {count: [_observed(fetch, study, count) for fetch in telling] for count in counts}
    best = min(counts, key=lambda count: _unlike(observed[count]))  # of equals the fewest
    own = from_fetches(observed[best])
    assert own is not None  # there are enough
    rtts = [fetch.rtt_min_us for fetch in telling]
    return Waits(own, best, min(rtts), max(rtts))


def _tells(fetch: Fetch, study: Study, rule: FusionRule) -> bool:
    """Enough images for a mean; and no longer idle than busy by so much that it was a person who waited."""
    images = fetch.images(study.image_bytes)
    idle_us = fetch.duration_us - fetch.busy_us
    return images >= rule.fetch_least_images and 0 <= idle_us <= images * rule.fetch_most_idle_us


def _observed(fetch: Fetch, study: Study, round_trips: int) -> ObservedFetch:
    """What sending and waiting for the path took is what a PACS with no time of its own takes."""
    images = fetch.images(study.image_bytes)
    waited_us = (fetch.sessions + images * round_trips) * fetch.rtt_min_us
    return ObservedFetch(
        predicted_us=fetch.busy_us + waited_us,
        took_us=fetch.duration_us,
        images=images,
        server_us_per_image=0,
    )


def _unlike(observed: Sequence[ObservedFetch]) -> float:
    """Median distance from the median; infinite where the service would have to take less than no time."""
    told = [one.told_us for one in observed]
    middle = median(told)
    return median(abs(one - middle) for one in told) if middle >= -CLOCK_US else math.inf


CLOCK_US: Final = 10_000
"""The kernel counts busy time in ticks of up to this (HZ=100)."""
