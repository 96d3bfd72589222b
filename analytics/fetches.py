"""A PACS's own time for an image, from its passive flows: what a fetch took beside sending.

READ FIRST: ``fetches_of`` and ``learnt``. A flow has no payload and is a sum over 10 s, so no single request
is seen, and neither is the time from a request to the first byte of its answer. What the kernel does tell of
a whole session at the PACS::

    life  =  busy (from the first byte in the socket to its acknowledgement)  +  idle
    idle  =  the handshakes  +  images x (the PACS looks for an image, the viewer asks for the next)

The acknowledgement of an image's last byte and the request for the next one arrive together, so the round
trip between two images is in ``busy``. Per image of the size that the profile names, ``idle`` is therefore
the time that the prediction calls the server's. Not told apart: a viewer that is slow to ask makes a PACS
look slow. Not in it: one that stalls inside an image (Nagle's algorithm) still has something to send. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from analytics.calibrate import Calibration, ObservedFetch, from_fetches
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


def learnt(fetches: Sequence[Fetch], study: Study, rule: FusionRule) -> Calibration | None:
    """The PACS's time for one image; None with too few fetches that tell it (``calibrate.LEAST_FETCHES``)."""
    return from_fetches([_observed(fetch, study) for fetch in fetches if _tells(fetch, study, rule)])


def _tells(fetch: Fetch, study: Study, rule: FusionRule) -> bool:
    """Enough images for a mean; and no longer idle than busy by so much that it was a person who waited."""
    images = fetch.images(study.image_bytes)
    idle_us = fetch.duration_us - fetch.busy_us
    return images >= rule.fetch_least_images and 0 <= idle_us <= images * rule.fetch_most_idle_us


def _observed(fetch: Fetch, study: Study) -> ObservedFetch:
    """What sending and the handshakes took is what a fetch from a PACS without any time of its own takes."""
    handshakes_us = fetch.sessions * fetch.rtt_min_us
    return ObservedFetch(
        predicted_us=min(fetch.duration_us, fetch.busy_us + handshakes_us),
        took_us=fetch.duration_us,
        images=fetch.images(study.image_bytes),
        server_us_per_image=0,
    )
