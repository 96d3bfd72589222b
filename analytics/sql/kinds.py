"""The kinds of profiles as layers of SQL; each beside its Python in ``analytics/kinds/``.

A kind's last layers give its ``best``, ``letter`` and ``worst`` code, its outcome and both bounds, and
what keeps it from a letter; ``judged`` makes a grade of them, the same way for all. Columns begin with
the profile's prefix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from analytics.kinds import interaction
from analytics.letters import APART, CANNOT
from analytics.measurement import CapacityTrust
from analytics.rules.load import (
    InteractionProfile,
    ObjectiveProfile,
    ResponseProfile,
    Samples,
)
from analytics.sql.evidence import NO_BACK, PARTS
from analytics.sql.text import NULL, UNKNOWN, UNREACHABLE, Layer, above, as_real, case, real, rounded, within

SqlKind = Callable[[str, Any, Samples], list[Layer]]
"""(prefix, profile, samples) -> layers over the evidence, of which the last is ``judged``."""

MEASURED: Final = f"'{CapacityTrust.MEASURED.value}'"
_BP: Final = 10_000


def judged(p: str, *, missing: str, unsupported: str = "") -> Layer:
    """The grade, from ``best`` .. ``worst`` and the outcomes.

    Without a number nothing is told; where the best and the worst that the inputs support are apart, or
    ``unsupported`` holds, the bounds are.
    """
    apart = unsupported or f"{p}worst - {p}best >= {APART}"
    none = "none_rule IS NOT NULL"
    numbers = [(none, NULL), (missing, NULL)]
    return {
        f"{p}letter": "CAST("
        + case(
            ("none_rule = 'any.unreachable.v1'", str(UNREACHABLE)),
            (f"{none} OR {missing} OR {apart}", str(UNKNOWN)),
            other=f"{p}middle",
        )
        + " AS TINYINT)",
        f"{p}outcome": case(*numbers, (apart, NULL), other=f"{p}value"),
        f"{p}outcome_low": case(*numbers, other=f"{p}low"),
        f"{p}outcome_high": case(*numbers, other=f"{p}high"),
    }


def response_layers(p: str, profile: ResponseProfile, _: Samples) -> list[Layer]:
    """As ``kinds/response.py``."""

    def letter(part: str) -> str:
        rtt = within(f"p95_{part}", profile.most_rtt_p95_us)
        return f"greatest({rtt}, {within(f'{_BP} * w_loss_{part}', profile.most_loss_bp)})"

    names = {"best": "low", "middle": "value", "worst": "high"}
    return [
        {
            **{f"{p}{name}": letter(part) for name, part in names.items()},
            **{f"{p}{part}": f"p95_{part}" for part in PARTS},
        },
        judged(p, missing=f"(p95_value IS NULL OR ({NO_BACK} AND {p}best < {CANNOT}))"),
    ]


def interaction_layers(p: str, profile: InteractionProfile, _: Samples) -> list[Layer]:
    """As ``kinds/interaction.py``."""

    def disturbed(part: str) -> str:
        there, back = f"a_loss_{part}", case(("b_sent IS NULL", f"a_loss_{part}"), other=f"b_loss_{part}")
        kept = f"power(1 - {there}, {profile.packets}) * power(1 - {back}, {profile.packets})"
        return f"1 - {kept}"

    repair = "greatest(2 * m95_{part}, {least})"
    return [
        {f"{p}disturbed_{part}": disturbed(part) for part in PARTS},
        {
            f"{p}{part}": f"p95_{part} + "
            + case(
                (f"{p}disturbed_{part} < {real(interaction.OFTEN)}", "0"),
                other=repair.format(part=part, least=interaction.REPAIR_LEAST_US),
            )
            for part in PARTS
        },
        {
            f"{p}best": within(f"{p}low", profile.most_us),
            f"{p}middle": within(f"{p}value", profile.most_us),
            f"{p}worst": within(f"{p}high", profile.most_us),
        },
        judged(
            p,
            missing=f"(p95_value IS NULL OR m95_value IS NULL OR ({NO_BACK} AND {p}best < {CANNOT}))",
        ),
    ]


def objective_layers(p: str, profile: ObjectiveProfile, _: Samples) -> list[Layer]:
    """As ``kinds/objective.py`` and ``analytics/qoo.py``."""
    none, all_of_it = real(0), real(1)

    def nearness(value: str, perfect: float, useless: float) -> str:
        beyond = f"({value} - {real(perfect)}) / {real(useless - perfect)}"
        return f"least({all_of_it}, greatest({none}, 1 - {beyond}))"

    def score(part: str) -> str:
        rtt = nearness(as_real(f"p99_{part}"), profile.perfect_rtt_p99_us, profile.useless_rtt_p99_us)
        loss = nearness(f"likely_{part}", profile.perfect_loss_bp / _BP, profile.useless_loss_bp / _BP)
        return f"100 * least({rtt}, {loss})"

    missing = f"(p99_value IS NULL OR {NO_BACK} OR likely_value IS NULL)"
    turned = {"value": "value", "low": "high", "high": "low"}  # the worse input, the lower score
    return [
        {f"{p}score_{turned[part]}": score(part) for part in PARTS},
        {f"{p}{part}": rounded(f"{p}score_{part}") for part in PARTS},
        {
            f"{p}best": above(f"{p}high", profile.least_score),
            f"{p}middle": above(f"{p}value", profile.least_score),
            f"{p}worst": above(f"{p}low", profile.least_score),
        },
        judged(p, missing=missing),
    ]
