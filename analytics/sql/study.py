"""The study as layers of SQL: as ``analytics/kinds/study.py`` over the model of ``analytics/predict.py``.

Which flights an image is sent in, no path changes: ``predict.runs`` unrolls them once, and the engine
computes one sum a run of images. Most paths lose nothing: for those the model is short
(``clean_layers``), and of the two senders CUBIC is never the slower one. Both forms give the same to the
last bit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from analytics import predict
from analytics.letters import APART, CANNOT
from analytics.measurement import CapacityTrust
from analytics.predict import (
    INITIAL_WINDOW,
    LOSS_MATTERS,
    MODEL_ERROR_LOSSY_PERCENT,
    MODEL_ERROR_PERCENT,
    MOST_LOSS,
    STARTUP_GAIN,
    WIRE_BITS,
    Run,
)
from analytics.rules.load import Samples, Study, StudyProfile
from analytics.sql.kinds import judged
from analytics.sql.text import NULL, Layer, as_real, case, merged, real, rounded, within
from analytics.tcp_rates import CUBIC_BETA, CUBIC_C, RENO_FRIENDLY, Sender

_ENDLESS: Final = "CAST('Infinity' AS DOUBLE)"


class _Path(NamedTuple):
    """What a transfer meets, as expressions over the evidence."""

    rtt_us: str
    loss: str
    kbps: str  # NULL = no limit


def lossy_layers(p: str, profile: StudyProfile, samples: Samples) -> list[Layer]:
    """As ``kinds/study.py``: the central time, and the least and most of either sender."""
    usual = profile.study.sender or Sender.CUBIC
    senders = list(Sender) if profile.study.sender is None else [profile.study.sender]
    at_least, measured = f"{p}trust_at_least", f"{p}capacity"

    def corner(part: str) -> _Path:
        # With a capacity of "at least so much" the least time is that of the same path without a limit.
        def of(name: str) -> str:
            return case((at_least, f"{name}_value"), other=f"{name}_{part}")

        return _Path(of("p50"), of("a_loss"), case((at_least, NULL), other=measured))

    times = {f"{p}central": (_Path("p50_value", "a_loss_value", measured), usual)}
    for sender in senders:
        times |= {f"{p}{part}_{sender}": (corner(part), sender) for part in ("low", "high")}
    stacks = [_time_layers(name, profile.study, path, sender) for name, (path, sender) in times.items()]
    corners = {
        part: _most(choose, [f"{p}{part}_{sender}" for sender in senders])
        for part, choose in (("low", "least"), ("high", "greatest"))
    }
    return [
        _inputs(p, samples),
        *merged(*stacks),
        {f"{p}unlimited": f"{p}low_{usual}", **{f"{p}corner_{part}": told for part, told in corners.items()}},
        *_graded(p, profile),
    ]


def clean_layers(p: str, profile: StudyProfile, samples: Samples) -> list[Layer]:
    """The same where nothing was lost on the way there."""
    usual = profile.study.sender or Sender.CUBIC
    slower = profile.study.sender or Sender.BBR
    rate, runs = f"{p}rate", predict.runs(profile.study)
    times = {"central": ("value", usual), "corner_low": ("low", usual), "corner_high": ("high", slower)}
    stacks = [
        _clean_layers(p, f"{p}{name}", profile.study, f"p50_{part}", sender)
        for name, (part, sender) in times.items()
    ]
    unlimited = _clean_layers(p, f"{p}unlimited", profile.study, "p50_value", usual, limited=False)
    windows = {window for run in runs for window in (*run.windows, run.rest)} | {
        profile.study.images * predict.segments_of(profile.study)
    }
    return [
        _inputs(p, samples),
        {rate: _rate(f"{p}capacity")},
        {f"{p}flight_{window}": f"{real(window)} / {rate}" for window in sorted(windows)},
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


def _most(choose: str, columns: list[str]) -> str:
    return f"{choose}({', '.join(columns)})" if len(columns) > 1 else columns[0]


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


def _time_layers(name: str, study: Study, path: _Path, sender: Sender) -> list[Layer]:
    """As ``predict.study_us``, then in ms; ``name`` is the last layer's column."""
    q, segments = f"{name}_", predict.segments_of(study)
    rtt, rate, loss = f"{q}rtt_s", f"{q}rate", f"{q}loss"
    runs = predict.runs(study)
    transfers = {}
    for at in range(len(runs)):
        transfers[f"{q}free_{at}"] = f"{q}slow_{at} + {q}repair_s"
        transfers[f"{q}held_{at}"] = f"greatest({q}slow_{at}, {q}limited_s) + {q}repair_s"
    sent = study.images * segments
    return [
        {
            rtt: f"{path.rtt_us} / {real(1e6)}",
            loss: f"least({path.loss}, {real(MOST_LOSS)})",
            f"{q}kbps": path.kbps,
        },
        {
            rate: _rate(f"{q}kbps", share=f"(1 - {loss})" if sender is Sender.BBR else ""),
            f"{q}window": _window(q, sender),
            f"{q}from": _limited_from(q, segments),
        },
        {
            f"{q}flight": f"least({real(segments)}, {rate} * {rtt}, {q}window)",
            f"{q}held": f"least({q}window, {real(segments)})",
        },
        {
            **{f"{q}slow_{at}": _slow_start(q, run, segments, sender) for at, run in enumerate(runs)},
            f"{q}limited_s": _loss_limited(q, segments),
            f"{q}repair_s": case(
                (f"{loss} = 0", real(0)), other=f"{rtt} * (1 - power(1 - {loss}, {q}flight))"
            ),
        },
        transfers,
        {f"{q}took_s": _took(q, study, runs)},
        *_in_ms(name, f"greatest({q}took_s, {rtt} + {real(sent)} / {rate})"),
    ]


def _clean_layers(
    p: str, name: str, study: Study, rtt_us: str, sender: Sender, *, limited: bool = True
) -> list[Layer]:
    """The time without loss; how long a flight takes is the same for all (``flight_*``)."""
    q, rtt, segments = f"{name}_", f"{name}_rtt_s", predict.segments_of(study)
    each = f"{rtt} + {real(study.server_us_per_image / 1e6)}"
    took = [f"{study.setup_round_trips} * {rtt}", real(study.setup_us / 1e6)]
    slow = {}
    for at, run in enumerate(predict.runs(study)):
        flights = [f"greatest({rtt}, {p}flight_{window})" if limited else rtt for window in run.windows]
        slow[f"{q}slow_{at}"] = _at_least(
            rtt, " + ".join([*flights, *([f"{p}flight_{run.rest}"] * limited)]) or real(0), segments, sender
        )
        took.append(f"{real(run.images)} * ({each} + {q}slow_{at})")
    whole = (
        f"greatest({q}took_s, {rtt} + {p}flight_{study.images * segments})"
        if limited
        else f"greatest({q}took_s, {rtt})"
    )
    return [{rtt: f"{rtt_us} / {real(1e6)}"}, slow, {f"{q}took_s": " + ".join(took)}, *_in_ms(name, whole)]


def _in_ms(name: str, took_s: str) -> list[Layer]:
    """Round to microseconds, then to milliseconds, as Python does."""
    return [
        {f"{name}_us": f"{real(1e6)} * {took_s}"},
        {f"{name}_whole_us": rounded(f"{name}_us")},
        {f"{name}_ms": f"{as_real(f'{name}_whole_us')} / 1000"},
        {name: rounded(f"{name}_ms")},
    ]


def _rate(kbps: str, *, share: str = "") -> str:
    """Segments a second; ``share`` of them arrives."""
    rate = f"greatest(1, {kbps}) * {real(1e3)} / {WIRE_BITS}"
    return case((f"{kbps} IS NULL", _ENDLESS), other=f"({rate}) * {share}" if share else rate)


def _window(q: str, sender: Sender) -> str:
    """As ``_loss_window``, for the sender whose window a loss shrinks."""
    if sender is Sender.BBR:
        return _ENDLESS
    factor = pow(CUBIC_C * (3 + CUBIC_BETA) / (4 * (1 - CUBIC_BETA)), 0.25)
    reno = f"{real(RENO_FRIENDLY)} / sqrt({q}loss)"
    cubic = f"{real(factor)} * power({q}rtt_s / {q}loss, {real(0.75)})"
    return case((f"{q}loss = 0", _ENDLESS), other=f"greatest({reno}, {cubic}, {real(1)})")


def _limited_from(q: str, segments: int) -> str:
    return case((f"{q}loss = 0", _ENDLESS), other=f"CAST(floor(1 / ({q}loss * {segments})) AS DOUBLE)")


def _slow_start(q: str, run: Run, segments: int, sender: Sender) -> str:
    flights = [f"greatest({q}rtt_s, {real(window)} / {q}rate)" for window in run.windows]
    return _at_least(f"{q}rtt_s", " + ".join([*flights, f"{real(run.rest)} / {q}rate"]), segments, sender)


def _at_least(rtt_s: str, took_s: str, segments: int, sender: Sender) -> str:
    """BBR's start-up takes its share of a round trip, of a transfer longer than the initial window."""
    if segments <= INITIAL_WINDOW or sender is not Sender.BBR:
        return took_s
    return f"greatest({took_s}, {rtt_s} / {real(STARTUP_GAIN - 1)})"


def _loss_limited(q: str, segments: int) -> str:
    window_s = f"{q}held / {q}rate"
    return f"({segments} / {q}held - 1) * greatest({q}rtt_s, {window_s}) + {window_s}"


def _took(q: str, study: Study, runs: tuple[Run, ...]) -> str:
    each = f"{q}rtt_s + {real(study.server_us_per_image / 1e6)}"
    took = [f"{study.setup_round_trips} * {q}rtt_s", real(study.setup_us / 1e6)]
    for at, run in enumerate(runs):
        free = f"least({real(run.images)}, greatest({real(0)}, {q}from - {real(run.first)}))"
        took.append(f"{free} * ({each} + {q}free_{at})")
        took.append(f"({real(run.images)} - {free}) * ({each} + {q}held_{at})")
    return " + ".join(took)
