"""One sentence for several: workplaces or paths that share a cause, or that are cut off together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from analytics import clauses, words
from analytics.clauses import Told, service_name
from analytics.findings import cause_name
from analytics.grammar import Clause, names, sentence
from analytics.kinds.table import kind_of
from analytics.measurement import Letter
from analytics.shapes import Finding, Member


@dataclass(frozen=True, slots=True)
class Shared:
    """Several paths, or workplaces, that one sentence is enough for; the worst first."""

    told: Sequence[Told]
    called: Sequence[str]  # the workplaces
    finding: Finding | None
    members: Sequence[Member]

    @property
    def worst(self) -> Told:
        """The first of them."""
        return self.told[0]


def _worst_outcome(shared: Shared) -> str:
    outcome = shared.worst.row.grade.outcome
    if outcome is None:
        return ""
    return shared.worst.profile.words.outcome.format(outcome=kind_of(shared.worst.profile).written(outcome))


def _cause(shared: Shared) -> str:
    return "" if shared.finding is None else cause_name(shared.finding, shared.members)


def _since(shared: Shared) -> str:
    if shared.finding is None or shared.finding.since_us is None:
        return ""
    return words.since(shared.finding.since_us, shared.worst.row.at_us)


def _confidence(shared: Shared) -> str:
    return "" if shared.finding is None else f"{shared.finding.confidence_percent} %"


def _service(shared: Shared) -> str:
    return "" if shared.worst.service is None else service_name(shared.worst.service)


def _one_why(shared: Shared) -> str:
    whys = [clauses.unreachable_why(told.row) for told in shared.told]
    return whys[0] if len(set(whys)) == 1 else f"{whys[0]}, and other reasons"


SHARED: Final[tuple[Clause[Shared], ...]] = (
    Clause(lambda shared: names([clauses.who(shared.worst), *shared.called[1:]])),
    Clause(lambda shared: clauses.cannot_words(shared.worst.profile, shared.worst.row.grade.letter)),
    Clause(lambda shared: _service(shared) if shared.worst.several else "", " at the "),
    Clause(lambda shared: f"({shared.worst.row.grade.letter})"),
    Clause(_worst_outcome, ": ", " at worst"),
    Clause(_cause, "; the likeliest cause they share is "),
    Clause(_since, ", since "),
    Clause(_confidence, " (confidence ", ")"),
)
"""'a, b and 2 more cannot read (F): a 50 MB CT takes about 52 s at worst; the likeliest cause ...'"""

SITE: Final[tuple[Clause[Shared], ...]] = (
    Clause(lambda shared: f"Nobody at the {shared.worst.row.dst_site}"),
    Clause(lambda shared: words.count(len(shared.told), "workplace"), " (", ")"),
    Clause(lambda shared: "can connect"),
    Clause(_service, " to the "),
    Clause(_one_why, ": "),
)
"""'Nobody at the office (2 workplaces) can connect to the PACS: srflx: no answer.'"""

NOBODY: Final[tuple[Clause[Shared], ...]] = (
    Clause(lambda shared: f"None of the {words.count(len(shared.told), 'workplace')} can connect"),
    *SITE[3:],
)
"""'None of the 5 workplaces can connect to the PACS: srflx: no answer.'"""


def _worst_path(shared: Shared) -> str:
    row = shared.worst.row
    grammar = clauses.UNREACHABLE if row.grade.letter is Letter.UNREACHABLE else clauses.PATH
    return sentence(grammar, shared.worst).removesuffix(".")


TOGETHER: Final[tuple[Clause[Shared], ...]] = (
    Clause(lambda shared: f"{len(shared.told):,} paths share {_cause(shared)}"),
    *SHARED[-2:],
    Clause(_worst_path, "; the worst: "),
)
"""'10 paths share the hotel's uplink, since 09:41 UTC (confidence 98 %); the worst: a -> b (D): ...'"""
