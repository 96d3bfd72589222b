"""The study as layers of SQL: as ``analytics/kinds/study.py`` over the model of ``analytics/predict.py``.

Most paths lose nothing. Without loss the flights of an answer are the same on every path: ``predict.runs``
unrolls them once, and the engine computes a sum for each run, in Python's order: both agree to the last
bit. Of the two senders CUBIC is then never the slower one.

With loss there is more to it (windows that fall, BBR's that are sent again). That is not done in SQL yet:
those paths are marked as left to Python (``LEFT``), which grades them.
"""

from __future__ import annotations

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
    Run,
    answer_segments,
    image_segments,
    images_an_answer,
    runs,
)
from analytics.rules.load import Samples, Study, StudyProfile
from analytics.sql.kinds import judged
from analytics.sql.text import LEFT, NULL, Layer, as_real, case, merged, real, rounded, within
from analytics.tcp_rates import Sender

_ENDLESS: Final = "CAST('Infinity' AS DOUBLE)"


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


def _every_segment(study: Study) -> int:
    return study.images * image_segments(study)


def _serialised(p: str, study: Study) -> Layer:
    """How long each flight takes on the narrowest link: the same for all of a path's times."""
    sizes = {size * run.abreast for run in runs(study) for size in (*run.windows, run.rest)}
    return {
        f"{p}flight_{size}": f"{real(size)} / {p}rate" for size in sorted(sizes | {_every_segment(study)})
    }


def _time_layers(
    p: str, name: str, study: Study, rtt_us: str, sender: Sender, *, limited: bool = True
) -> list[Layer]:
    """As ``predict.study_us`` without loss, in ms; not ``limited``: as if the path had no capacity."""
    q, rtt, all_runs = f"{name}_", f"{name}_rtt_s", runs(study)
    setup = f"{study.setup_round_trips} * {rtt} + {real(study.setup_us / 1e6)}"
    stalls = f"{study.setup_stalls} * ({rtt} + {real(DELAYED_ACK_S)})"
    took = " + ".join([setup, stalls, *(f"{q}run_{at}" for at in range(len(all_runs)))])
    every = f"{rtt} + {p}flight_{_every_segment(study)}" if limited else rtt
    return [
        {rtt: f"{rtt_us} / {real(1e6)}"},
        {
            f"{q}slow_{at}": _slow_start(p, rtt, run, study, sender, limited=limited)
            for at, run in enumerate(all_runs)
        },
        {f"{q}run_{at}": _run(rtt, f"{q}slow_{at}", run, study) for at, run in enumerate(all_runs)},
        {f"{q}took_s": took},
        *_in_ms(name, f"greatest({q}took_s, {every})"),
    ]


def _slow_start(p: str, rtt: str, run: Run, study: Study, sender: Sender, *, limited: bool) -> str:
    """As ``_Line._slow_start_s``: BBR's start-up takes its share of a round trip."""
    if limited:
        parts = [f"greatest({rtt}, {p}flight_{size * run.abreast})" for size in run.windows]
        took = " + ".join([*parts, f"{p}flight_{run.rest * run.abreast}"])
    else:
        took = " + ".join([rtt for _ in run.windows] or [real(0)])
    if sender is Sender.BBR and answer_segments(study) > INITIAL_WINDOW:
        return f"greatest({took}, {rtt} / {real(STARTUP_GAIN - 1)})"
    return took


def _run(rtt: str, slow: str, run: Run, study: Study) -> str:
    """As ``predict._run_s``."""
    each = f"{rtt} + {real(images_an_answer(study) * study.server_us_per_image / 1e6)}"
    if not study.nagle:
        return f"{run.answers} * ({each}) + {run.answers} * ({slow})"
    held = f"{each} + ({rtt} + {real(DELAYED_ACK_S)})"
    return f"{run.answers} * ({held}) + greatest({run.answers} * {rtt}, {run.answers} * ({slow}))"


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
