"""The study as layers of SQL: as ``analytics/kinds/study.py`` over the model of ``analytics/predict.py``.

Most paths lose nothing. Without loss the flights of an image are the same on every path: ``predict.flights``
unrolls them once, and the engine adds the images up in Python's order, so both agree to the last bit. Of the
two senders CUBIC is then never the slower one.

With loss every image of a study finds another window, and the time is a sum of integrals over a hundred of
them. That is not done in SQL: those paths are marked as left to Python (``LEFT``), which grades them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from analytics.letters import APART, CANNOT
from analytics.measurement import CapacityTrust
from analytics.predict import (
    DELAYED_ACK_S,
    INITIAL_WINDOW,
    LOSS_MATTERS,
    MODEL_ERROR_LOSSY_PERCENT,
    MODEL_ERROR_PERCENT,
    STARTUP_GAIN,
    WIRE_BITS,
    Answer,
    every_segment,
    flights,
    rounds_of,
)
from analytics.rules.load import Samples, Study, StudyProfile
from analytics.sql.kinds import judged
from analytics.sql.text import LEFT, NULL, Layer, as_real, case, merged, real, rounded, within
from analytics.tcp_rates import Sender

_ENDLESS: Final = "CAST('Infinity' AS DOUBLE)"
_AT_ONCE: Final = 100
"""Images that are added up in one expression: engines bound how deep one may be."""

Round = tuple[tuple[int, ...], int, int]
"""Flights that fill the window, the last one, and how many connections run side by side."""


def lossy_layers(p: str, profile: StudyProfile, samples: Samples) -> list[Layer]:
    """Left to Python, unless no number means anything."""
    own = judged(p, missing="TRUE")
    left = case(("none_rule IS NULL", str(LEFT)), other=own[f"{p}letter"])
    nothing = {f"{p}{name}": NULL for name in ("value", "low", "high")}
    return [
        {**nothing, **{f"{p}{name}": "0" for name in ("best", "middle", "worst")}},
        {**own, f"{p}letter": f"CAST({left} AS TINYINT)"},
    ]


def clean_layers(p: str, profile: StudyProfile, samples: Samples) -> list[Layer]:
    """As ``kinds/study.py`` where nothing was lost on the way there: the central time and both corners."""
    usual = profile.study.sender or Sender.CUBIC
    slower = profile.study.sender or Sender.BBR
    times = {"central": ("value", usual), "corner_low": ("low", usual), "corner_high": ("high", slower)}
    stacks = [
        _time_layers(p, f"{p}{name}", profile.study, f"p50_{part}", sender)
        for name, (part, sender) in times.items()
    ]
    unlimited = _time_layers(p, f"{p}unlimited", profile.study, "p50_value", usual, limited=False)
    return [
        _inputs(p, samples),
        {f"{p}rate": _rate(f"{p}capacity")},
        _serialised(p, profile.study),
        *merged(*stacks, unlimited),
        *_graded(p, profile),
    ]


def _graded(p: str, profile: StudyProfile) -> list[Layer]:
    """From the times at the centre and the corners, and that without a limit, to the grade."""
    lossy = f"a_loss_value > {real(LOSS_MATTERS)}"
    error = case(
        (lossy, real(1 + MODEL_ERROR_LOSSY_PERCENT / 100)), other=real(1 + MODEL_ERROR_PERCENT / 100)
    )
    return [
        {
            f"{p}best_real": f"{as_real(f'{p}corner_low')} / {error}",
            f"{p}worst_real": f"{as_real(f'{p}corner_high')} * {error}",
        },
        _outcomes(p),
        {f"{p}{name}": within(f"{p}{ms}", profile.most_ms) for name, ms in _LETTERS.items()},
        judged(p, missing="p50_value IS NULL", unsupported=_unsupported(p)),
    ]


_LETTERS: Final = {"best": "low", "middle": "central", "worst": "most"}


def _inputs(p: str, samples: Samples) -> Layer:
    """As ``_study_inputs``: no loss in enough probes counts as none."""
    trust = f"a_capacity_trust = '{CapacityTrust.AT_LEAST.value}'"
    known = f"a_capacity_trust <> '{CapacityTrust.NONE.value}' AND a_capacity_kbps IS NOT NULL"
    missing = f"NOT ({known}) OR (a_lost = 0 AND a_sent < {samples.loss_n})"
    return {
        f"{p}capacity": case((known, "a_capacity_kbps")),
        f"{p}missing": missing,
        f"{p}trust_at_least": f"{trust} AND NOT ({missing})",
    }


def _outcomes(p: str) -> Layer:
    """As ``_study_at_least``, ``_study_at_most`` and ``_study_between``."""
    missing, at_least, central = f"{p}missing", f"{p}trust_at_least", f"{p}central"
    best, worst = rounded(f"{p}best_real"), rounded(f"{p}worst_real")
    return {
        f"{p}value": case((missing, NULL), other=central),
        f"{p}low": case((missing, central), (at_least, f"{p}unlimited"), other=best),
        f"{p}high": case((missing, NULL), (at_least, central), other=worst),
        f"{p}most": case((f"{missing} OR {at_least}", central), other=worst),
    }


def _unsupported(p: str) -> str:
    return (
        "("
        + case(
            (f"{p}missing", f"{p}middle < {CANNOT}"),
            (f"{p}trust_at_least", f"{p}worst >= {CANNOT} AND {p}best <> {p}worst"),
            other=f"{p}worst - {p}best >= {APART}",
        )
        + ")"
    )


def _rounds(study: Study) -> list[Round]:
    """What is sent, round after round, on each connection."""
    segments = Answer.of(study).segments
    return [
        (*flights(segments, number * segments), abreast) for number, abreast in enumerate(rounds_of(study))
    ]


def _serialised(p: str, study: Study) -> Layer:
    """How long each flight takes on the narrowest link: the same for all of a path's times."""
    parts = {(size, abreast) for sizes, rest, abreast in _rounds(study) for size in (*sizes, rest)}
    parts.add((every_segment(study), 1))
    return {
        _flight(p, size, abreast): f"{real(size)} / ({p}rate / {abreast})" for size, abreast in sorted(parts)
    }


def _flight(p: str, size: int, abreast: int) -> str:
    return f"{p}flight_{size}_{abreast}"


def _time_layers(
    p: str, name: str, study: Study, rtt_us: str, sender: Sender, *, limited: bool = True
) -> list[Layer]:
    """As ``predict.study_us`` without loss, in ms; not ``limited``: as if the path had no capacity."""
    rounds, q, rtt = _rounds(study), f"{name}_", f"{name}_rtt_s"
    kinds = list(dict.fromkeys(rounds))
    stalls = f"{study.setup_stalls} * ({rtt} + {real(DELAYED_ACK_S)})"
    setup = f"{study.setup_round_trips} * {rtt} + {stalls} + {real(study.setup_us / 1e6)}"
    every = f"{rtt} + {_flight(p, every_segment(study), 1)}" if limited else rtt
    *sums, last = _sums(q, [f"{q}answer_{kinds.index(one)}" for one in rounds])
    return [
        {rtt: f"{rtt_us} / {real(1e6)}"},
        {
            f"{q}transfer_{at}": _transfer(p, rtt, one, Answer.of(study), sender, limited=limited)
            for at, one in enumerate(kinds)
        },
        {
            f"{q}sum": setup,
            **{f"{q}answer_{at}": _answer(rtt, f"{q}transfer_{at}", study) for at in range(len(kinds))},
        },
        *sums,
        last,
        *_in_ms(name, f"greatest({next(iter(last))}, {every})"),
    ]


def _sums(q: str, answers: list[str]) -> Iterator[Layer]:
    """One answer after the other, as Python adds them."""
    before = f"{q}sum"
    for at in range(0, len(answers), _AT_ONCE):
        after = f"{q}sum_{at}"
        yield {after: " + ".join([before, *answers[at : at + _AT_ONCE]])}
        before = after


def _transfer(p: str, rtt: str, one: Round, answer: Answer, sender: Sender, *, limited: bool) -> str:
    """As ``_Line.transfer_s``: BBR's start-up takes its share of a round trip."""
    sizes, rest, abreast = one
    if limited:
        parts = [f"greatest({rtt}, {_flight(p, size, abreast)})" for size in sizes]
        took = " + ".join([*parts, _flight(p, rest, abreast)])
    else:
        took = " + ".join([rtt for _ in sizes] or [real(0)])
    if sender is Sender.BBR and answer.segments > INITIAL_WINDOW:
        return f"greatest({took}, {rtt} / {real(STARTUP_GAIN - 1)})"
    return took


def _answer(rtt: str, transfer: str, study: Study) -> str:
    """As ``Answer.took_s``."""
    server = real(Answer.of(study).server_s)
    if not study.nagle:
        return f"{rtt} + {server} + {transfer}"
    return f"2 * {rtt} + {real(DELAYED_ACK_S)} + {server} + greatest({rtt}, {transfer})"


def _in_ms(name: str, took_s: str) -> list[Layer]:
    """Round to microseconds, then to milliseconds, as Python does."""
    return [
        {f"{name}_us": f"{real(1e6)} * {took_s}"},
        {f"{name}_whole_us": rounded(f"{name}_us")},
        {f"{name}_ms": f"{as_real(f'{name}_whole_us')} / 1000"},
        {name: rounded(f"{name}_ms")},
    ]


def _rate(kbps: str) -> str:
    """Segments a second."""
    return case((f"{kbps} IS NULL", _ENDLESS), other=f"greatest(1, {kbps}) * {real(1e3)} / {WIRE_BITS}")
