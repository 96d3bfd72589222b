"""The call as layers of SQL: as ``analytics/kinds/call.py`` over the E-model of ``analytics/emodel.py``.

Of the E-model's terms only those that depend on delay or loss are computed in the engine; the others are the
numbers that ``emodel`` gives for the same defaults.
"""

from __future__ import annotations

from typing import Final

from analytics import emodel
from analytics.emodel import Codec, Talk
from analytics.kinds.call import BUFFER_LEAST_MS, BUFFER_MOST_MS, CODING_MS
from analytics.letters import rank
from analytics.rules.load import CallProfile, Samples
from analytics.sql.evidence import NO_BACK, PARTS
from analytics.sql.kinds import MEASURED, judged
from analytics.sql.text import Layer, above, as_real, case, merged, real, rounded

_BP: Final = 10_000
_TALK: Final = Talk()
_LEAST_WITH: Final = {"value": "value", "low": "high", "high": "low"}
"""Part of a difference -> part of what is taken away."""


def call_layers(p: str, profile: CallProfile, _: Samples) -> list[Layer]:
    """As ``kinds/call.py``."""
    codec = Codec(impairment=profile.codec_impairment, robustness=profile.codec_robustness)
    ways = merged(*(_rating_layers(f"{p}{part}_", part, codec) for part in PARTS))
    missing = f"({NO_BACK} OR p95_value IS NULL OR p50_value IS NULL OR likely_value IS NULL)"
    of = {"value": "value", "low": "high", "high": "low"}  # the worse input, the lower rating
    names = {"best": "high", "middle": "value", "worst": "low"}
    return [
        {f"{p}kbps": _lesser_rate(), **ways[0]},
        *ways[1:],
        {f"{p}{of[part]}": f"greatest(0, {rounded(f'{p}{part}_r')})" for part in PARTS},
        {f"{p}{name}": _letter(p, profile, outcome, of[outcome]) for name, outcome in names.items()},
        judged(p, missing=missing),
    ]


def _lesser_rate() -> str:
    measured = [case((f"{end}_capacity_trust = {MEASURED}", f"{end}_capacity_kbps")) for end in ("a", "b")]
    return f"least({', '.join(measured)})"


def _letter(p: str, profile: CallProfile, outcome: str, part: str) -> str:
    rate = case((f"{p}kbps IS NULL", "0"), other=above(f"{p}kbps", profile.least_kbps))
    caps = [
        case((f"likely_{part} * {_BP} > {cap.above_bp}", str(rank(cap.letter))), other="0")
        for cap in profile.loss_caps
    ]
    return f"greatest({', '.join([above(f'{p}{outcome}', profile.least_r), rate, *caps])})"


def _rating_layers(q: str, part: str, codec: Codec) -> list[Layer]:
    """As ``emodel.rating``; every term in the order that Python computes in. ``q`` begins the columns."""
    t, constant = f"{q}delay_ms", emodel.constant_terms(_TALK)
    return [
        {f"{q}buffer_ms": _buffer(part), f"{q}loss_percent": f"100 * likely_{part}"},
        {t: f"{as_real(f'p50_{part}')} / 2000 + {real(CODING_MS)} + {q}buffer_ms"},
        {
            f"{q}stmr": _masked_sidetone(t),
            f"{q}terv": _echo_loudness(t),
            f"{q}rle": f"{real(10.5 * (_TALK.wepl + 7))} * power(2 * {t} + 1, {real(-0.25)})",
            f"{q}late": case((f"{t} <= 100", real(0)), other=f"log2({t} / 100)"),
            f"{q}ie": _effective_impairment(f"{q}loss_percent", codec),
        },
        {
            f"{q}ist": _sidetone(f"{q}stmr"),
            f"{q}re": f"80 + {real(2.5)} * ({q}terv - 14)",
            f"{q}idle": _bend(f"({real(constant.ro)} - {q}rle)", 169),
            f"{q}idd": _too_late(t, f"{q}late"),
        },
        {
            f"{q}idte": f"({_bend(f'({real(constant.echo_noise)} - {q}re)', 100)} - 1) * (1 - exp(-{t}))",
            f"{q}is": f"{real(constant.loudness)} + {q}ist + {real(constant.quantising)}",
        },
        {
            f"{q}r": f"{real(constant.ro)} - {q}is - ({q}idte + {q}idle + {q}idd) - {q}ie"
            f" + {real(_TALK.advantage)}"
        },
    ]


def _buffer(part: str) -> str:
    jitter = as_real(f"greatest(0, p95_{part} - p50_{_LEAST_WITH[part]})")
    return f"least({real(BUFFER_MOST_MS)}, greatest({real(BUFFER_LEAST_MS)}, 2 * {jitter} / 1000))"


def _effective_impairment(loss_percent: str, codec: Codec) -> str:
    own = real(codec.impairment)
    effect = f"{loss_percent} / ({loss_percent} / {real(_TALK.burst_ratio)} + {real(codec.robustness)})"
    return case((f"{loss_percent} = 0", own), other=f"{own} + {real(95 - codec.impairment)} * ({effect})")


def _masked_sidetone(t: str) -> str:
    own, echo = real(10 ** (-_TALK.stmr / 10)), real(10 ** (-_TALK.telr / 10))
    return f"-10 * log10({own} + exp(-{t} / 4) * {echo})"


def _sidetone(stmr: str) -> str:
    parts = ((12, 13.0, 6.0, 8), (28, -1.0, 19.4, 35), (13, 3.0, 33.0, 13))
    roots = [f"{by} * {_root(f'({stmr} - {real(less)}) / {real(of)}', n)}" for by, less, of, n in parts]
    return f"{' - '.join(roots)} + 29"


def _echo_loudness(t: str) -> str:
    loudness = f"{real(_TALK.telr)} - 40 * log10((1 + {t} / 10) / (1 + {t} / 150))"
    return f"{loudness} + 6 * exp({real(-0.3)} * {t} * {t})"


def _bend(x: str, squared: int) -> str:
    return f"{x} / 2 + sqrt(power({x}, 2) / 4 + {squared})"


def _too_late(t: str, x: str) -> str:
    bent = f"25 * ({_root(x, 6)} - 3 * {_root(f'{x} / 3', 6)} + 2)"
    return case((f"{t} <= 100", real(0)), other=bent)


def _root(x: str, n: int) -> str:
    return f"power(1 + power({x}, {n}), {real(1 / n)})"
