"""The ranking of a large fleet: every path graded for every profile, kept in an engine, asked by pages.

READ FIRST: ``Ranking.rebuild``, ``refresh``, ``worst``. A report of a million paths as Python rows takes
minutes; here facts stay columns from the Parquet file to the answer. ``rebuild`` reads all facts of a time,
``refresh`` only those that came since. Both grade with ``analytics/sql``, so a letter is that of
``analytics/grade.py``.

One DuckDB in memory, made of facts alone. Methods may be called from any thread.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from analytics.kinds.table import kind_of
from analytics.memory import GIVES_BACK
from analytics.overview import RUNGS, Metric, SitePaths
from analytics.ranking import questions, whole
from analytics.ranking.dense import Dense
from analytics.ranking.fleet import NOT_MEASURED, Fleet, Matrix, RankedPath, SitePair, spread
from analytics.rules.load import Rules
from analytics.sql.grades import prefix
from analytics.sql.text import CODES
from analytics.tomography import Kind, Part

MEMORY_LIMIT: Final = "1500MB"
"""A rebuild of 20 million readings passes with it; beyond, DuckDB writes to its temporary folder."""
THREADS: Final = 2
WORST: Final = 100
_WRITTEN: Final = bytes(ord(CODES[code].value if code < len(CODES) else NOT_MEASURED) for code in range(256))
"""Code of a letter -> the byte that it is written with."""


class Ranking:
    """Latest readings, what is usual, and grades, of one tenant."""

    def __init__(
        self,
        fleet: Fleet,
        rules: Rules,
        *,
        tenant: str,
        profiles: Sequence[str] | None = None,
        memory_limit: str = MEMORY_LIMIT,
        threads: int = THREADS,
        scratch: Path | None = None,
    ) -> None:
        """Start empty. ``scratch`` is where DuckDB may write what exceeds the memory limit."""
        self._fleet = fleet
        self._rules = rules
        self._tenant = tenant
        self._profiles = tuple(rules.profiles if profiles is None else profiles)
        config: dict[str, Any] = {
            "threads": threads,
            "memory_limit": memory_limit,
            **GIVES_BACK,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            **({} if scratch is None else {"temp_directory": str(scratch)}),
        }
        self._database = duckdb.connect(":memory:", config=config)
        self._lock = threading.Lock()  # one rebuild or refresh at a time
        self._database.execute(questions.start(fleet))
        self._matrices = {
            profile: Matrix(fleet.agents, spread(b"", [], [], len(fleet.agents) ** 2))
            for profile in self._profiles
        }

    def close(self) -> None:
        """End DuckDB."""
        self._database.close()

    # --- facts in -----------------------------------------------------------------------------------------

    def rebuild(self, files: Sequence[Path], *, at_us: int) -> int:
        """Rank by all readings in these files that had arrived by a moment; returns how many paths there are.

        What is usual on a path is the median of its readings' medians. Raises ``duckdb.Error`` where a file
        cannot be read.
        """
        with self._lock, self._database.cursor() as cursor:
            given = {"files": [str(file) for file in files], "tenant": self._tenant, "at_us": at_us}
            cursor.execute(questions.NEWEST, given)
            ((first_cycle,),) = cursor.execute(questions.FIRST_CYCLE).fetchall()
            cursor.execute(questions.LATEST_OF_NEWEST, {**given, "first_cycle": first_cycle or 0})
            return self._grade(cursor, at_us)

    def refresh(self, files: Sequence[Path], *, at_us: int) -> int:
        """Take in the readings of new files, and grade all paths anew: their age counts too."""
        with self._lock, self._database.cursor() as cursor:
            given = {"files": [str(file) for file in files], "tenant": self._tenant, "at_us": at_us}
            cursor.execute(questions.ARRIVED, given)
            cursor.execute(questions.LATEST_WITH_ARRIVED)
            return self._grade(cursor, at_us)

    def take(self, readings: pa.Table, *, at_us: int, rules: Rules | None = None) -> int:
        """As ``refresh``, of readings of the tenant (``questions.RANKED_COLUMNS``) from anywhere.

        ``rules`` are those from now on, with the same profiles.
        """
        with self._lock, self._database.cursor() as cursor:
            self._rules = rules or self._rules
            cursor.register("readings", readings)
            cursor.execute(questions.ARRIVED_TABLE)
            cursor.execute(questions.LATEST_WITH_ARRIVED)
            return self._grade(cursor, at_us)

    def _grade(self, cursor: duckdb.DuckDBPyConnection, at_us: int) -> int:
        ((twice,),) = cursor.execute(questions.any_twice(self._fleet)).fetchall()
        if twice:
            cursor.execute(questions.LATEST_ONLY)
        cursor.execute(questions.paths(self._rules, self._profiles, self._fleet, at_us))
        cursor.execute(questions.site_pairs([self._prefix(profile) for profile in self._profiles]))
        self._matrices = self._laid_out(cursor)
        return cursor.execute("SELECT count(*) FROM paths").fetchall()[0][0]  # type: ignore[no-any-return]  # a count

    def _laid_out(self, cursor: duckdb.DuckDBPyConnection) -> dict[str, Matrix]:
        """Matrices of all profiles."""
        chosen = {self._prefix(profile): self._where(profile) for profile in self._profiles}
        table = cursor.execute(questions.letters(chosen)).to_arrow_table()
        places = _buffer(table.column("position")).cast("B").cast("I")
        breaks, size = _breaks(table.column("position")), len(self._fleet.agents) ** 2
        return {
            profile: Matrix(
                self._fleet.agents,
                spread(bytes(_buffer(table.column(f"{p}letter"))).translate(_WRITTEN), places, breaks, size),
            )
            for profile, p in zip(self._profiles, chosen, strict=True)
        }

    # --- answers ------------------------------------------------------------------------------------------

    def worst(self, profile: str, limit: int = WORST) -> list[RankedPath]:
        """The worst paths for a profile, in the order of a report. Raises ``RulesError``."""
        better = -1 if kind_of(self._rules.profile(profile)).higher_is_better else 1
        question = questions.worst(self._prefix(profile), better=better, where=self._where(profile))
        return self._ranked(question, {"limit": limit}, profile)

    def of_agent(self, agent: str, profile: str) -> list[RankedPath]:
        """Paths from one agent, by destination. Raises ``KeyError``, or ``RulesError``."""
        number, size = self._fleet.numbers[agent], len(self._fleet.agents)
        given = {"first": number * size, "last": (number + 1) * size - 1}
        return self._ranked(questions.of_agent(self._prefix(profile), self._where(profile)), given, profile)

    def sites(self, profile: str) -> list[SitePair]:
        """Counts from each site to each, by name. Raises ``RulesError``."""
        rows = self._ask(questions.sites(self._prefix(profile), self._where(profile)), {}).fetchall()
        names = self._fleet.sites
        return [
            SitePair(
                src_site=names[src],
                dst_site=names[dst],
                paths=paths,
                cannot=cannot,
                unknown=unknown,
                rtt_p50_us=rtt,
            )
            for src, dst, paths, cannot, unknown, rtt in rows
        ]

    def dense(self, at_us: int) -> Dense:
        """Lay numbers of all pairs out as a page shows them, for all profiles; ages are at that moment."""
        chosen = {self._prefix(profile): self._where(profile) for profile in self._profiles}
        size = len(self._fleet.agents)
        table = self._ask(whole.dense(chosen, size, at_us), {}).to_arrow_table()
        columns = {name: bytes(_buffer(table.column(name))) for name in table.column_names}
        prefixes = dict(zip(self._profiles, chosen, strict=True))
        return Dense(
            at_us=at_us,
            agents=tuple(self._fleet.agents[number] for number in self._fleet.by_site),
            sites=tuple(self._fleet.site_of[number] for number in self._fleet.by_site),
            letters={name: columns[f"{p}letter"].translate(_WRITTEN) for name, p in prefixes.items()},
            outcomes={name: columns[f"{p}outcome"] for name, p in prefixes.items()},
            cells={metric: columns[metric.name] for metric in Metric if metric is not Metric.LETTER},
        )

    def site_paths(self, profile: str, most: int) -> list[SitePaths]:
        """Counts by pair of sites with the rungs in use, those with most bad paths first."""
        question = whole.site_paths(self._prefix(profile), self._where(profile), most)
        return [
            SitePaths(
                src_site=src,
                dst_site=dst,
                paths=paths,
                cannot=cannot,
                unknown=unknown,
                rtt_p50_us=rtt,
                rungs={rung.value: n for rung, n in zip(RUNGS, rungs, strict=True) if n},
            )
            for src, dst, paths, cannot, unknown, rtt, *rungs in self._ask(question, {}).fetchall()
        ]

    def crossing(self, profile: str, looked: Iterable[tuple[str, str]]) -> Counter[Part]:
        """How many paths cross each part, but for the bad ones that are not ``looked`` at."""
        fleet, size = self._fleet, len(self._fleet.agents)
        places = [fleet.position(*pair) for pair in looked if set(pair) <= fleet.numbers.keys()]
        with self._database.cursor() as cursor:
            cursor.register("looked", pa.table({"position": pa.array(places, pa.uint32())}))
            cursor.execute(whole.counted(self._prefix(profile), self._where(profile), size))
            found: Counter[Part] = Counter()
            for kind, question in _CROSSING.items():
                given = {"size": size} if "$size" in question else {}
                rows = cursor.execute(question, given).fetchall()
                found.update({Part(kind, where): count for where, count in rows})
        return found

    def matrix(self, profile: str) -> Matrix:
        """Letters of all paths, one byte each. Raises ``RulesError``."""
        self._rules.profile(profile)
        return self._matrices[profile]

    def _ranked(self, question: str, given: dict[str, Any], profile: str) -> list[RankedPath]:
        rule, sites = self._rules.profile(profile).rule, self._fleet.site_of
        found = []
        for position, letter, none_rule, *numbers in self._ask(question, given).fetchall():
            src, dst = divmod(position, len(sites))
            names = self._fleet.agents[src], self._fleet.agents[dst], sites[src], sites[dst]
            found.append(RankedPath(*names, CODES[letter], none_rule or rule, *numbers))
        return found

    def _prefix(self, profile: str) -> str:
        """Begin of the columns of a profile. Raises ``RulesError``."""
        self._rules.profile(profile)
        return prefix(self._profiles, profile)

    def _where(self, profile: str) -> str:
        """Only the paths that a profile is for."""
        return questions.of_sites(self._fleet, self._rules.profile(profile).sites)

    def _ask(self, question: str, given: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        return self._database.cursor().execute(question, given)


_CROSSING: Final = {
    Kind.HOST: whole.OF_HOSTS,
    Kind.UPLINK: whole.OF_UPLINKS,
    Kind.REGION: whole.OF_REGIONS,
    Kind.RELAY: whole.OF_RELAY,
    Kind.TRANSIT: whole.OF_TRANSIT,
}


def _buffer(column: pa.ChunkedArray) -> memoryview:
    """Bytes of a column without nulls."""
    array = column.combine_chunks()
    part = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    width = part.type.bit_width // 8
    return memoryview(part.buffers()[1])[part.offset * width : (part.offset + len(part)) * width]


def _breaks(positions: pa.ChunkedArray) -> list[int]:
    """Places after which the next position is not the next number."""
    if len(positions) < 2:
        return []
    steps = pc.subtract(positions.slice(1), positions.slice(0, len(positions) - 1))
    return pc.indices_nonzero(pc.not_equal(steps, 1)).to_pylist()  # type: ignore[no-any-return]  # pyarrow is untyped
