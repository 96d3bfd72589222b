"""``state.duckdb``: what the report asks for most, kept ready. Disposable: Parquet makes it anew.

Two tables: the latest reading of each path, and what is usual on it (``baselines.py``). The first is brought
up to date by the files sealed since; ``Shelf`` knows which files are in it. Whoever asks reads the rest
beside it: taking a reading twice changes nothing, so an answer is right at every moment, also while this is
behind.

A file that is damaged, foreign, of another version, or that names files which are gone is thrown away.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import duckdb
import pyarrow as pa

from analytics.clock import DAY_US, HOUR_US
from analytics.detect import MATERIAL_SHARE, MATERIAL_US
from analytics.store import query, seal
from analytics.store.baselines import tell_usual
from analytics.store.columns import SCHEMAS, STORED
from analytics.store.ordered import IN_SPAN, Span, spans
from analytics.store.query import LATEST_FIRST, Engine, Limits, StoppedError, UnreadableFactsError
from analytics.store.rolled import AllRollups
from analytics.store.seal import Sealed
from analytics.store.shelf import Shelf

log: Final = logging.getLogger(__name__)

FILE_NAME: Final = "state.duckdb"
LOOK_BACK_DAYS: Final = 7
"""A path's latest reading is looked for in this many days: an older one says nothing about now."""
_FORMAT: Final = 3
_NONE_YET: Final = "none yet"

# Only names of columns, which are constants, are put into the text; values are parameters.
_COLUMNS: Final = ", ".join(column.name for column in STORED["readings"])
VERSION: Final = hashlib.sha256(f"{_FORMAT} {SCHEMAS['readings']}".encode()).hexdigest()[:16]
"""Changes with the columns of a reading."""
_TYPES: Final = {"int": "BIGINT", "str": "VARCHAR", "ints": "BIGINT[]"}
_MADE: Final = ", ".join(f"{column.name} {_TYPES[column.kind]}" for column in STORED["readings"])
_TABLES: Final = (
    f"CREATE TABLE latest ({_MADE})",
    "CREATE TABLE taken (file VARCHAR)",
    """CREATE TABLE usual (tenant VARCHAR, src VARCHAR, dst VARCHAR, rung VARCHAR, rtt_us BIGINT,
        spread_us BIGINT, n BIGINT, of_hour BOOLEAN, floor_us BIGINT)""",
    "CREATE TABLE usual_until (hour BIGINT)",
    "CREATE TABLE usual_days (tenant VARCHAR, day VARCHAR)",
    f"CREATE TABLE version AS SELECT '{VERSION}' AS version",
)
_NEWEST: Final = f"QUALIFY row_number() OVER (PARTITION BY tenant, src, dst ORDER BY {LATEST_FIRST}) = 1"
_COME: Final = f"""
    INSERT INTO coming WITH facts AS NOT MATERIALIZED ({{}})
    SELECT {_COLUMNS} FROM facts WHERE received_us >= $since_us AND {{}} {_NEWEST}
"""  # noqa: S608  # see above
_TAKE: Final = f"""
    CREATE OR REPLACE TABLE latest AS
    SELECT {_COLUMNS} FROM (SELECT {_COLUMNS} FROM coming UNION ALL BY NAME SELECT {_COLUMNS} FROM latest)
    WHERE received_us >= $since_us {_NEWEST}
    ORDER BY tenant, src
"""  # noqa: S608  # see above
_OWNERS: Final = "SELECT tenant, src AS owner, count(*) AS n FROM facts GROUP BY ALL ORDER BY ALL"
TAKEN_AT_ONCE: Final = 1_000_000
"""Rows of files that are taken in one piece: some 500 MB."""
_USUAL: Final = """SELECT src, dst, rung, rtt_us, spread_us, n, of_hour, floor_us FROM usual
    WHERE tenant = $tenant ORDER BY src, dst"""
_USUAL_OF: Final = _USUAL.replace("FROM usual", f"FROM usual SEMI JOIN {query.WANTED} USING (src, dst)")
_OF_ONE: Final = f"""SELECT {_COLUMNS} FROM latest
    WHERE tenant = $tenant AND received_us >= $since_us AND src = ${{}} AND dst = ${{}}"""  # noqa: S608  # see above
_OF_PAIR: Final = f"{_OF_ONE.format('one', 'other')} UNION ALL {_OF_ONE.format('other', 'one')}"
_USUAL_OF_ONE: Final = _USUAL.replace("ORDER BY src, dst", "AND src = $src AND dst = $dst")
_SUSPECTS: Final = f"""
    SELECT src, dst FROM (
        SELECT tenant, src, dst,
            CASE WHEN usual.rung = latest.rung THEN rtt_p50_us - floor_us ELSE -1 END AS over,
            floor_us
        FROM latest JOIN usual USING (tenant, src, dst))
    WHERE tenant = $tenant AND (over = -1 OR over > greatest({MATERIAL_US}, {MATERIAL_SHARE} * floor_us))
    ORDER BY over DESC, src, dst LIMIT $most
"""  # noqa: S608  # see above
"""As ``screen.suspects``, of paths of which something is known."""
_RESTING: Final = f""" UNION ALL BY NAME
    SELECT {_COLUMNS} FROM latest WHERE tenant = $tenant AND received_us >= $since_us"""  # noqa: S608  # see above


class State:
    """The file and what is in it. One thread brings it up to date; any may ask."""

    def __init__(self, folder: Path, shelf: Shelf, limits: Limits) -> None:
        """Open the file, or begin a new one."""
        self._folder = folder
        self._path = folder / FILE_NAME
        self._shelf = shelf
        self._limits = limits
        self._broken = ""
        self.rebuilt = 0
        """How often the file was thrown away since the store was opened."""
        self._noted: frozenset[Path] = frozenset()
        self.usual_hour = 0
        """Changes when ``usual`` does."""
        self._usual_days: dict[str, str] = {}
        self._newest_us = 0
        """Receipt of the newest reading in here."""
        self.engine = self._opened()

    def close(self) -> None:
        """Let go of the file; without its last note it would be made anew."""
        self.engine.resume()
        with suppress(UnreadableFactsError):
            self._note_taken()
        self.engine.close()

    def latest(
        self, tenant: str, at_us: int, asked: str = query.READINGS_LATEST
    ) -> list[dict[str, Any]] | None:
        """Answer ``READINGS_LATEST`` or ``MEASURED`` of ``query`` for now; None where this cannot tell."""
        found = self.latest_table(tenant, at_us, asked)
        return None if found is None else found.to_pylist()

    def latest_table(
        self,
        tenant: str,
        at_us: int,
        asked: str,
        more: Mapping[str, Any] = MappingProxyType({}),
        *,
        agents: Collection[str] | None = None,
        **registered: pa.Table,
    ) -> pa.Table | None:
        """As ``latest``, as Arrow; ``more`` are parameters, ``agents`` all sources that are asked for."""
        if at_us < self._newest_us:  # the clock was turned back: what was newest then is not known here
            return None
        since_us, engine = max(0, at_us - LOOK_BACK_DAYS * DAY_US), self.engine
        held, taken = self._shelf.held("readings", tenant, agents), self._shelf.taken_now()
        first = seal.day_of(since_us)
        rest = [file.path for file in held.files if file.path not in taken and file.day >= first]
        facts = query.facts("readings", with_files=bool(rest)) + _RESTING
        question = f"WITH facts AS NOT MATERIALIZED ({facts}) {asked}"
        given = {"tenant": tenant, "at_us": at_us, "since_us": since_us - since_us % DAY_US, **more}
        try:
            return engine.run(question, files=rest, given=given, fresh=held.fresh, **registered)
        except StoppedError:
            return None
        except UnreadableFactsError as error:
            if not rest:  # else it may be one of the files
                self._suspect(engine, error)
            return None

    def of_pair(
        self, tenant: str, one: str, other: str, at_us: int
    ) -> tuple[pa.Table, list[Path], list[pa.Table]] | None:
        """Both directions' latest readings in here, and what is not; None where this cannot tell.

        Two plain looks: an engine finds each in one piece of the table, which is ordered. The rest is files,
        and the agents' rows of files that are still in memory.
        """
        if at_us < self._newest_us:
            return None
        since_us, engine = max(0, at_us - LOOK_BACK_DAYS * DAY_US), self.engine
        files, warm = self._shelf.not_taken(tenant, (one, other))
        given = {"tenant": tenant, "one": one, "other": other, "since_us": since_us - since_us % DAY_US}
        try:
            found = engine.run(_OF_PAIR, given=given)
        except StoppedError:
            return None
        except UnreadableFactsError as error:
            self._suspect(engine, error)
            return None
        first = seal.day_of(since_us)
        return found, [file.path for file in files if file.day >= first], warm

    def usual(self, tenant: str, paths: Collection[tuple[str, str]] | None = None) -> list[dict[str, Any]]:
        """What is usual on the tenant's paths, as ``Screened``; empty where that is not known."""
        if paths is None:
            return self._told(_USUAL, {"tenant": tenant})
        if len(paths) == 1:
            ((src, dst),) = paths
            return self._told(_USUAL_OF_ONE, {"tenant": tenant, "src": src, "dst": dst})
        return self._told(_USUAL_OF, {"tenant": tenant}, **query.wanted_paths(paths)) if paths else []

    def suspects(self, tenant: str, most: int) -> list[dict[str, Any]]:
        """Paths whose latest reading may be part of a change (``screen.py``), the slowest first."""
        return self._told(_SUSPECTS, {"tenant": tenant, "most": most})

    def _told(self, question: str, given: Mapping[str, Any], **registered: pa.Table) -> list[dict[str, Any]]:
        """Answer from the tables in here; nothing while that is not possible."""
        engine = self.engine
        try:
            return engine.run(question, given=given, **registered).to_pylist()  # type: ignore[no-any-return]  # pyarrow is untyped
        except StoppedError:
            return []
        except UnreadableFactsError as error:
            self._suspect(engine, error)
            return []

    def _suspect(self, engine: Engine, error: Exception) -> None:
        """Have it made anew; not if it was meanwhile, which ends all questions to the one before."""
        if engine is self.engine:
            self._broken = str(error)

    def tell_usual(self, rollups: AllRollups, at_us: int, *, anew: bool = False) -> None:
        """Tell what is usual, once for each hour that was rolled up. Raises ``UnreadableFactsError``.

        ``anew``: also of an hour that was told of, as where rows of it came late. Hours after ``at_us`` are
        those of a clock that was ahead.
        """
        now = at_us // HOUR_US
        hour = max((one for one in rollups.hours() if one < now), default=-1) + 1
        if hour and (anew or hour != self.usual_hour):
            self._usual_days = tell_usual(self.engine, rollups, hour, self._usual_days)
            self.usual_hour = hour

    def refresh(self, at_us: int) -> None:
        """Take in the files sealed since. Raises ``UnreadableFactsError``; then it is made anew next time."""
        if self._broken or self._shelf.tainted:
            self._begin_anew(self._broken or "a file it was made from is set aside")
        first = seal.day_of(max(0, at_us - LOOK_BACK_DAYS * DAY_US))
        taken = self._shelf.taken_now()
        held = [file for file in self._shelf.files("readings") if file.path not in taken]
        for day in sorted({file.day for file in held}, reverse=True):
            files = [file for file in held if file.day == day]
            if day >= first:
                self._take(files, at_us)
            self._shelf.take(files)
            self._note_taken()
        self._note_taken()  # what was merged or let go of meanwhile
        if at_us < self._newest_us:
            log.warning("the clock is behind the newest reading, by %d s", (self._newest_us - at_us) // 10**6)

    def begin_anew(self) -> None:
        """Throw the file away; the next ``refresh`` fills it."""
        self._begin_anew("asked for")

    def _take(self, files: Sequence[Sealed], at_us: int) -> None:
        since_us = max(0, at_us - LOOK_BACK_DAYS * DAY_US)
        given = {"since_us": since_us - since_us % DAY_US}
        paths, rows = [file.path for file in files], sum(file.rows for file in files)
        try:
            self.engine.run(f"CREATE OR REPLACE TABLE coming ({_MADE})")
            if rows <= TAKEN_AT_ONCE:
                self._come(paths, "true", given)
            else:
                for span in self._spans(paths):
                    self._come(paths, IN_SPAN, {**given, **span._asdict()})
            self.engine.run(_TAKE, given=given)
            self._newest_us = self._newest(self.engine)
            self.engine.run("DROP TABLE coming")
        except UnreadableFactsError as error:
            self._broken = str(error)
            raise

    def _come(self, paths: Sequence[Path], which: str, given: Mapping[str, Any]) -> None:
        statement = _COME.format(query.facts("readings", with_files=True), which)
        self.engine.run(statement, files=paths, given=given, fresh=SCHEMAS["readings"].empty_table())

    def _newest(self, engine: Engine) -> int:
        (found,) = engine.run("SELECT coalesce(max(received_us), 0) AS at_us FROM latest").to_pylist()
        return int(found["at_us"])

    def _spans(self, paths: Sequence[Path]) -> list[Span]:
        empty = SCHEMAS["readings"].empty_table()
        counted = self.engine.table("readings", _OWNERS, files=paths, fresh=empty, given={})
        return list(spans(counted.to_pylist(), TAKEN_AT_ONCE))

    def _note_taken(self) -> None:
        """After the rows: a crash in between has them taken again, which changes nothing."""
        taken = self._shelf.taken_now()
        if taken == self._noted:
            return
        names = sorted(str(path.relative_to(self._folder)) for path in taken)
        self.engine.run(
            "CREATE OR REPLACE TABLE taken AS SELECT unnest($names::VARCHAR[]) AS file",
            given={"names": names},
        )
        self._noted = taken

    def _opened(self) -> Engine:
        try:
            engine = Engine(query.connect(self._limits, self._folder / "tmp", str(self._path)))
            if why := self._unusable(engine):
                engine.close()
                return self._made_anew(why)
        except (duckdb.Error, UnreadableFactsError) as error:
            return self._made_anew(str(error).splitlines()[0])
        return engine

    def _unusable(self, engine: Engine) -> str:
        """Say why the file is of no use; empty if it is, and what it was made from is taken then."""
        tables = {
            row["name"] for row in engine.run("SELECT table_name AS name FROM duckdb_tables()").to_pylist()
        }
        if not tables:
            return _NONE_YET
        if "version" not in tables:
            return "not of this program"
        (version,) = engine.run("SELECT version FROM version").to_pylist() or [{"version": "none"}]
        if version["version"] != VERSION:
            return f"version {version['version']}, not {VERSION}"
        for row in engine.run("SELECT hour FROM usual_until").to_pylist():
            self.usual_hour = row["hour"]
        told = engine.run("SELECT tenant, day FROM usual_days").to_pylist()
        self._usual_days = {row["tenant"]: row["day"] for row in told}
        names = {self._folder / row["file"] for row in engine.run("SELECT file FROM taken").to_pylist()}
        taken, gone = still_taken(names, self._shelf.files())
        if gone:
            return f"made from {len(gone)} files that are gone"
        self._newest_us = self._newest(engine)
        self._shelf.take(taken)
        self._noted = self._shelf.taken_now()
        return ""

    def _begin_anew(self, why: str) -> None:
        self.engine.close()
        self.engine = self._made_anew(why)

    def _made_anew(self, why: str) -> Engine:
        if self._path.exists() and why != _NONE_YET:
            log.warning("%s is made anew: %s", self._path, why)
            self.rebuilt += 1
        self._shelf.take_none()
        self._noted = frozenset()
        self.usual_hour, self._usual_days, self._newest_us = 0, {}, 0
        self._broken = ""
        try:
            for path in (self._path, self._path.with_name(f"{FILE_NAME}.wal")):
                path.unlink(missing_ok=True)
            return self._begun(str(self._path))
        except (OSError, duckdb.Error, UnreadableFactsError) as error:
            log.error("%s cannot be written; kept in memory until the next start: %s", self._path, error)
            return self._begun(":memory:")

    def _begun(self, database: str) -> Engine:
        engine = Engine(query.connect(self._limits, self._folder / "tmp", database))
        for statement in _TABLES:
            engine.run(statement)
        return engine


def still_taken(names: set[Path], files: Iterable[Sealed]) -> tuple[list[Sealed], set[Path]]:
    """Say which files are taken, given what was when this was last noted, and which of those nobody knows of.

    What was merged since is taken where all of its parts were; else it is to be taken again.
    """
    taken, gone = [], set(names)
    for file in files:
        parts = {file.path.with_name(f"{number:010d}{seal.SUFFIX}") for number in file.replaces}
        if file.path in names or (parts and parts <= names):
            taken.append(file)
        gone -= {file.path} | parts
    return taken, gone
