"""The study as layers of SQL: as ``analytics/kinds/study.py`` over the model of ``analytics/predict.py``.

Which flights an answer is sent in, no path changes: ``predict.runs`` unrolls them once, and the engine
computes one sum a run of answers. Most paths lose nothing: for those the model is short
(``clean_layers``), and of the two senders CUBIC is never the slower one. Both forms give the same to the
last bit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from analytics import predict
from analytics.letters import APART, CANNOT
from analytics.measurement import CapacityTrust
from analytics.predict import (
    DELAYED_ACK_S,
    INITIAL_WINDOW,
    LN_2,
    LOSS_MATTERS,
    MODEL_ERROR_LOSSY_PERCENT,
    MODEL_ERROR_PERCENT,
    MOST_LOSS,
    ROUNDED_DOWN,
    STARTUP_GAIN,
    WINDOWS_THAT_FILL,
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
    windows = {window * run.abreast for run in runs for window in (*run.windows, run.rest)} | {
        profile.study.images * predict.image_segments(profile.study)
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


_LETTERS: Final = {"best": "low", "middle": "told", "worst": "most"}


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
        f"{p}told": case((missing, best), other=central),
        f"{p}low": case((at_least, f"{p}unlimited"), other=best),
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
    q = f"{name}_"
    rtt, rate, loss = f"{q}rtt_s", f"{q}rate", f"{q}loss"
    numbered = list(enumerate(predict.runs(study)))
    limited = _limited_layers(q, study) if sender is Sender.CUBIC else [{}] * LIMITED_LAYERS
    sent = study.images * predict.image_segments(study)
    return [
        {
            rtt: f"{path.rtt_us} / {real(1e6)}",
            loss: f"least({path.loss}, {real(MOST_LOSS)})",
            f"{q}kbps": path.kbps,
        },
        {
            rate: _rate(f"{q}kbps", share=f"(1 - {loss})" if sender is Sender.BBR else ""),
            f"{q}some": case((f"{loss} = 0", real(MOST_LOSS)), other=loss),  # where it is 0, this is not used
        },
        *limited,
        {
            **{f"{q}slow_{at}": _slow_start(q, run, study, sender) for at, run in numbered},
            **{f"{q}repair_{at}": _repair(q, run, study, sender) for at, run in numbered},
        },
        {f"{q}transfer_{at}": _transfers(q, at, run, sender) for at, run in numbered},
        {f"{q}run_{at}": _run(study, run, rtt, f"{q}transfer_{at}") for at, run in numbered},
        {f"{q}took_s": _took(study, rtt, [f"{q}run_{at}" for at, _ in numbered])},
        *_in_ms(name, f"greatest({q}took_s, {rtt} + {real(sent)} / {rate})"),
    ]


def _clean_layers(
    p: str, name: str, study: Study, rtt_us: str, sender: Sender, *, limited: bool = True
) -> list[Layer]:
    """The time without loss; how long a flight takes is the same for all (``flight_*``)."""
    q, rtt = f"{name}_", f"{name}_rtt_s"
    slow, run_s = {}, {}
    for at, run in enumerate(predict.runs(study)):
        flights = [
            f"greatest({rtt}, {p}flight_{window * run.abreast})" if limited else rtt for window in run.windows
        ]
        rest = [f"{p}flight_{run.rest * run.abreast}"] if limited else []
        took_s = " + ".join([*flights, *rest]) or real(0)
        slow[f"{q}slow_{at}"] = f"{real(run.answers)} * ({_at_least(rtt, took_s, study, sender)})"
        run_s[f"{q}run_{at}"] = _run(study, run, rtt, f"{q}slow_{at}")
    whole = (
        f"greatest({q}took_s, {rtt} + {p}flight_{study.images * predict.image_segments(study)})"
        if limited
        else f"greatest({q}took_s, {rtt})"
    )
    return [
        {rtt: f"{rtt_us} / {real(1e6)}"},
        slow,
        run_s,
        {f"{q}took_s": _took(study, rtt, list(run_s))},
        *_in_ms(name, whole),
    ]


def _run(study: Study, run: Run, rtt: str, transfers_s: str) -> str:
    """As ``predict._run_s``."""
    each = f"{rtt} + {real(predict.images_an_answer(study) * study.server_us_per_image / 1e6)}"
    if not study.nagle:
        return f"{real(run.answers)} * ({each}) + {transfers_s}"
    held = f"({each}) + ({rtt} + {real(DELAYED_ACK_S)})"
    return f"{real(run.answers)} * ({held}) + greatest({real(run.answers)} * {rtt}, {transfers_s})"


def _took(study: Study, rtt: str, runs: list[str]) -> str:
    setup = f"{study.setup_round_trips} * {rtt} + {real(study.setup_us / 1e6)}"
    stalls = f"{study.setup_stalls} * ({rtt} + {real(DELAYED_ACK_S)})"
    return " + ".join([setup, stalls, *runs])


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


def _slow_start(q: str, run: Run, study: Study, sender: Sender) -> str:
    """As ``_Line._slow_start_s``."""
    flights = [f"greatest({q}rtt_s, {real(window * run.abreast)} / {q}rate)" for window in run.windows]
    took_s = " + ".join([*flights, f"{real(run.rest * run.abreast)} / {q}rate"])
    floored = _at_least(f"{q}rtt_s", took_s, study, sender)
    if floored == took_s:
        return took_s
    again = [f"(1 - power(1 - {q}loss, {real(window)}))" for window in predict.growing(run)]
    return f"{floored} + {q}rtt_s * ({' + '.join([real(0), *again])})"


def _at_least(rtt_s: str, took_s: str, study: Study, sender: Sender) -> str:
    """BBR's start-up takes its share of a round trip, of a transfer longer than the initial window."""
    if predict.answer_segments(study) <= INITIAL_WINDOW or sender is not Sender.BBR:
        return took_s
    return f"greatest({took_s}, {rtt_s} / {real(STARTUP_GAIN - 1)})"


def _repair(q: str, run: Run, study: Study, sender: Sender) -> str:
    """As ``_Line._repair_s``."""
    segments = real(predict.answer_segments(study))
    on_the_way = case((f"{q}rtt_s = 0", real(0)), other=f"{q}rate * {q}rtt_s / {run.abreast}")
    window = [f"{q}last"] if sender is Sender.CUBIC else []
    flight = ", ".join([segments, on_the_way, *window])
    return f"{q}rtt_s * (1 - power(1 - {q}loss, least({flight})))"


def _transfers(q: str, at: int, run: Run, sender: Sender) -> str:
    """As ``_Line.transfers_s``."""
    took_s = f"{real(run.answers)} * ({q}slow_{at})"
    lossy = f"greatest({took_s}, {q}limited_{at})" if sender is Sender.CUBIC else took_s
    repair = f"{real(run.answers)} * {q}repair_{at}"
    return case((f"{q}loss = 0", took_s), other=f"{lossy} + {repair}")


LIMITED_LAYERS: Final = 7


def _limited_layers(q: str, study: Study) -> list[Layer]:
    """As ``predict._LossWindow``: what the windows that a loss leaves make of each run."""
    some, rtt, rate, last = f"{q}some", f"{q}rtt_s", f"{q}rate", f"{q}last"
    factor = pow(CUBIC_C * (3 + CUBIC_BETA) / (4 * (1 - CUBIC_BETA)), 0.25)
    reno, first = f"{q}reno", f"{q}first"
    friendly = f"{reno} * sqrt(greatest({real(0)}, 1 - {some} * {reno}))"
    cubic = f"{real(factor)} * power({rtt} / {some}, {real(0.75)})"
    abreast = sorted({run.abreast for run in predict.runs(study)})
    numbered = list(enumerate(predict.runs(study)))
    segments = predict.answer_segments(study)
    layers: list[Layer] = [
        {
            reno: f"{real(RENO_FRIENDLY)} / sqrt({some})",
            f"{q}begins": f"1 / {some}",
            f"{q}decay": f"{real(2 * (1 - CUBIC_BETA))} * {some}",
            **{f"{q}half_{n}": f"{real(n)} / {rate} / {WINDOWS_THAT_FILL}" for n in abreast},
            **{
                f"{q}filling_{n}": case(
                    (f"{rtt} = 0", real(0)), other=f"{WINDOWS_THAT_FILL} * {rate} * {rtt} / {n}"
                )
                for n in abreast
            },
        },
        {
            last: f"greatest(greatest({friendly}, {cubic}) - {real(ROUNDED_DOWN)}, {real(1)})",
            first: f"{real(LN_2)} * ({INITIAL_WINDOW} + {q}begins)",
        },
        {
            f"{q}excess": f"greatest({real(0)}, {first} * {first} - {last} * {last})",
            **{f"{q}over_{n}": f"{q}filling_{n} * {q}filling_{n} - {last} * {last}" for n in abreast},
        },
        {f"{q}full_{n}": _still_full(q, n) for n in abreast},
    ]
    spans = {
        at: (real(run.first * segments), real((run.first + run.answers) * segments)) for at, run in numbered
    }
    spread: dict[str, str] = {}
    for at, run in numbered:
        start, end = spans[at]
        full = f"{q}filling_{run.abreast} / {real(LN_2)} - {INITIAL_WINDOW}"
        still, down = f"{q}full_{run.abreast}", f"{end} - {q}begins"
        low, high = f"least({start}, {q}begins)", f"least({end}, {q}begins)"
        spread |= {
            f"{q}up_from_{at}": low,
            f"{q}up_to_{at}": f"greatest({low}, least({high}, {full}))",
            f"{q}down_from_{at}": f"least(greatest({real(0)}, {start} - {q}begins, {still}), {down})",
            f"{q}down_to_{at}": down,
        }
    waits = {f"{q}waits_{at}": _waits(q, at, run) for at, run in numbered}
    limited = {
        f"{q}limited_{at}": f"{real(run.answers * segments * run.abreast)} / {rate} + "
        f"greatest({real(0)}, {q}waits_{at} - {real(run.answers)} * {rtt})"
        for at, run in numbered
    }
    return [*layers, spread, waits, limited]


def _still_full(q: str, abreast: int) -> str:
    over, excess = f"{q}over_{abreast}", f"{q}excess"
    return case(
        (f"{over} <= 0", _ENDLESS), (f"{over} < {excess}", f"ln({excess} / {over}) / {q}decay"), other=real(0)
    )


def _waits(q: str, at: int, run: Run) -> str:
    rtt, half = f"{q}rtt_s", f"{q}half_{run.abreast}"
    low, high = f"{q}up_from_{at}", f"{q}up_to_{at}"
    doublings = f"ln(({INITIAL_WINDOW} + {high}) / ({INITIAL_WINDOW} + {low})) / {real(LN_2)}"
    doubling = f"{rtt} * ({doublings}) - ({high} - {low}) * {half}"
    low, high = f"{q}down_from_{at}", f"{q}down_to_{at}"
    falling = f"{rtt} * ({_rounds(q, high)} - {_rounds(q, low)}) - ({high} - {low}) * {half}"
    return case((f"{high} <= 0", doubling), other=f"({doubling}) + ({falling})")


def _rounds(q: str, sent: str) -> str:
    last = f"{q}last"
    window = f"sqrt({last} * {last} + {q}excess * exp(-{q}decay * {sent}))"
    return f"(({sent} + 2 / {q}decay * ln({last} + {window})) / {last})"
