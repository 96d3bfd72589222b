"""Compares a report with the lab's truth. Pure: rows in, a list of what does not agree out; empty is good.

Tolerances are the product's promises: a direct round trip within 1 ms or 2 %, the right rung, the right leg,
and loss that the true rate can explain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lab.truth import PathTruth, Truth

Row = dict[str, Any]

LETTERS: Final = frozenset("ABCDFX?")
RTT_TOLERANCE_US: Final = 1_000
RTT_TOLERANCE: Final = 0.02
LEG_TOLERANCE_US: Final = 3_000  # legs are made of minima of a few answers each
UNLIKELY: Final = 1e-6  # a loss count less likely than this is not chance: one wrong alarm in 30,000 runs
SRTT_TOLERANCE: Final = 0.10
LAST_SAMPLES: Final = 10  # of TCP_INFO, before the session closed


@dataclass(frozen=True, slots=True)
class FlowClaim:
    """A passive row that must exist: who saw which process, and what TCP_INFO said of the session there."""

    agent: str
    process: str
    direction: str
    service_port: int
    srtt_samples_us: Sequence[int]


def check_paths(truth: Truth, rows: Iterable[Row]) -> list[str]:
    """Every directed path is there, with what the truth says of it."""
    found = {(row["src"], row["dst"]): row for row in rows}
    expected = {(path.src, path.dst) for path in truth.paths}
    wrong = [f"{src} -> {dst}: not a path of the lab" for src, dst in sorted(found.keys() - expected)]
    for path in truth.paths:
        row = found.get((path.src, path.dst))
        faults = _path_faults(path, row) if row else ["missing"]
        wrong += [f"{path.src} -> {path.dst}: {fault}" for fault in faults]
    return wrong


def _path_faults(path: PathTruth, row: Row) -> Iterator[str]:
    yield from _grade_faults(row)
    yield from _rung_faults(path, row)
    yield from _rtt_faults(path, row)
    yield from _loss_faults(path, row)


def _grade_faults(row: Row) -> Iterator[str]:
    if row["grade"]["letter"] not in LETTERS:
        yield f"grade {row['grade']['letter']!r} is no letter"


def _rung_faults(path: PathTruth, row: Row) -> Iterator[str]:
    if row["rung"] not in path.rungs:
        why = f" ({row['error'] or row['rungs_failed']})"
        yield f"rung {row['rung']}, the lab allows {' or '.join(path.rungs)}{why}"


def _rtt_faults(path: PathTruth, row: Row) -> Iterator[str]:
    seen_us = row["rtt_p50_us"]
    if seen_us is None:
        yield "no round trip"
        return
    apart_us, allowed_us = abs(seen_us - path.rtt_median_us), rtt_tolerance_us(path.rtt_median_us)
    if not path.relayed and apart_us > allowed_us:
        yield f"RTT p50 {_ms(seen_us)}, truth {_ms(path.rtt_median_us)}: {_ms(apart_us)} apart"


def rtt_tolerance_us(true_us: int) -> int:
    """How far a direct path's median may be from the truth: 1 ms or 2 %, whichever is more."""
    return max(RTT_TOLERANCE_US, round(true_us * RTT_TOLERANCE))


def _loss_faults(path: PathTruth, row: Row) -> Iterator[str]:
    if row["loss_bp"] is None or row["loss_back_bp"] is None:
        yield "loss is not known in both directions"
        return
    lost = row["sent"] - row["received"]
    if not plausible_loss(lost, row["sent"], path.loss_ppm / 1e6):
        yield f"{lost} of {row['sent']} lost, truth {path.loss_ppm / 1e4:.2f} %"


def plausible_loss(lost: int, sent: int, rate: float) -> bool:
    """Tell whether so many losses, or so few, are possible by chance (binomial)."""
    at_least = sum(_binomial(n, sent, rate) for n in range(lost, sent + 1))
    at_most = sum(_binomial(n, sent, rate) for n in range(lost + 1))
    return min(at_least, at_most) > UNLIKELY


def _binomial(k: int, n: int, p: float) -> float:
    if p in {0.0, 1.0}:
        return float(k == n * p)
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(p) + (n - k) * math.log1p(-p))


def check_legs(truth: Truth, rows: Iterable[Row]) -> list[str]:
    """The legs of every path between two sites sum to its least RTT; those of direct ones are true."""
    wrong = []
    for row in rows:
        path = truth.path(row["src"], row["dst"])
        if path.src_site != path.dst_site and row["rtt_min_us"] is not None:
            wrong += [f"{path.src} -> {path.dst}: {fault}" for fault in _leg_faults(path, row)]
    return wrong


def _leg_faults(path: PathTruth, row: Row) -> Iterator[str]:
    seen = {leg["kind"]: leg["rtt_us"] for leg in row["legs"]}
    if not seen:
        yield "no legs"
        return
    if sum(seen.values()) != row["rtt_min_us"]:
        yield f"legs sum to {_ms(sum(seen.values()))}, least RTT {_ms(row['rtt_min_us'])}"
    if path.relayed:
        return  # the relay's own time has no leg in the truth
    for kind, true_us in path.legs.items():
        apart_us = abs(seen.get(kind, 0) - true_us)
        if apart_us > LEG_TOLERANCE_US:
            yield f"leg {kind} {_ms(seen.get(kind, 0))}, truth {_ms(true_us)}"


def check_verdict(truth: Truth, report: Row, service_agent: str) -> list[str]:
    """The verdict names exactly the paths that are bad, each with its site and the leg that makes it so."""
    text = " ".join([report["verdict"]["headline"], *report["verdict"]["details"]])
    wrong = []
    bad = [row for row in report["paths"] if row["src"] == service_agent and row["grade"]["letter"] in "DFX"]
    if {row["dst"] for row in bad} != set(report["verdict"]["cannot"]):
        wrong.append(
            f"verdict says {report['verdict']['cannot']} cannot, the grades {[r['dst'] for r in bad]}"
        )
    worst = max(
        (path for path in truth.paths if path.src == service_agent), key=lambda path: path.rtt_median_us
    )
    words = [worst.dst_site, *_leg_words(worst)]
    wrong += [f"verdict does not say {word!r}: {text}" for word in words if word.lower() not in text.lower()]
    if worst.dst not in report["verdict"]["cannot"]:
        wrong.append(f"verdict does not count {worst.dst} among those who cannot: {text}")
    return wrong


def _leg_words(path: PathTruth) -> list[str]:
    """What a sentence must contain to blame an access leg: whose gateway, and that its provider is beyond."""
    if path.largest_leg not in {"source-access", "destination-access"}:
        return []
    site = path.src_site if path.largest_leg == "source-access" else path.dst_site
    return [site, "gateway", "provider"]


def check_flows(claims: Iterable[FlowClaim], flows: dict[str, list[Row]]) -> list[str]:
    """Every claimed passive row is there, and its srtt is what TCP_INFO said."""
    wrong = []
    for claim in claims:
        rows = [row for row in flows.get(claim.agent, []) if _matches(claim, row)]
        faults = _flow_faults(claim, rows)
        wrong += [f"{claim.agent}: {claim.process} port {claim.service_port}: {fault}" for fault in faults]
    return wrong


def _matches(claim: FlowClaim, row: Row) -> bool:
    key = (row["process"], row["direction"], row["service_port"])
    return key == (claim.process, claim.direction, claim.service_port)


def _flow_faults(claim: FlowClaim, rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        yield "no passive row"
        return
    seen = [row["srtt_us"] for row in rows if row["srtt_us"] is not None]
    if not seen:
        yield "no passive row has an srtt"
    elif not claim.srtt_samples_us:
        yield "TCP_INFO was not seen while it ran"
    elif not any(_agrees(srtt_us, claim.srtt_samples_us) for srtt_us in seen):
        near = claim.srtt_samples_us[-LAST_SAMPLES:]
        yield f"srtt {[_ms(one) for one in seen]}, TCP_INFO {_ms(min(near))} to {_ms(max(near))}"


def _agrees(srtt_us: int, samples_us: Sequence[int]) -> bool:
    """Within 10 % of what TCP_INFO said in the session's last seconds: a smoothed RTT moves while it runs."""
    near = samples_us[-LAST_SAMPLES:]
    return min(near) * (1 - SRTT_TOLERANCE) <= srtt_us <= max(near) * (1 + SRTT_TOLERANCE)


def _ms(us: int) -> str:
    return f"{us / 1_000:.1f} ms"
