"""Keeps a large fleet's board up to date, and tells of single paths without reading all others.

READ FIRST: ``Boards.now``, ``refresh``. Small fleets have no board: their report is made when it is asked for
(``server.core``). A refresh takes in the readings that came since the one before, grades all paths as
columns in a DuckDB of its own, and builds rows for a bounded choice (``analytics/board.py``). The board that
is there is shown meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from analytics.board import BAD_ROWS, Board, Shown, choose, served, shown
from analytics.fusion import NOTHING_SEEN, Passive
from analytics.measurement import Hop, Reading
from analytics.overview import SITE_PAIRS_SHOWN
from analytics.paths import path_rows
from analytics.policy import Judged
from analytics.ranking.dense import Dense
from analytics.ranking.fleet import Fleet
from analytics.ranking.questions import RANKED_COLUMNS
from analytics.ranking.ranking import Ranking
from analytics.ruled import allowed, ruled
from analytics.rules.load import Rules
from analytics.shapes import Member, PathRow
from analytics.store.store import Store
from analytics.then import when
from analytics.tomography import Part
from analytics.usual import NOTHING_KNOWN, Usual, with_watched
from analytics.verdict import NOW
from analytics.watched import Watched, Way, with_latest_tests
from server.budget import ALLOWED
from server.lately import Lately
from server.sessions import Sessions
from server.turns import Turns
from server.usual import UsualCache

log: Final = logging.getLogger("pathgrade.server.board")

SMALL_AGENTS: Final = 40
"""Up to here a report is made when it is asked for: 1,560 paths take a tenth of a second."""
OVERLAP_US: Final = 20_000_000
"""Readings are stamped before they are on the disk: those of so long before are taken again."""
ANEW_US: Final = 6 * 3_600 * 1_000_000
"""The columns are begun anew: what is too old to be anyone's latest reading is in them no more."""
MEMORY_LIMIT: Final = "1000MB"
LOOK_BACK_S: Final = 3_600
"""Of a board of the past: readings that are older are too old to say anything."""
PAST_KEPT: Final = 2
"""Boards of the past that are kept: people go back and forth between two moments."""
PAST_AT_ONCE: Final = 4
"""Boards of the past that are made or waited for."""

Pair = tuple[str, str]


class Sight(NamedTuple):
    """What of the server a board is made from, taken at one moment."""

    members: list[Member]
    rules: Rules  # with what is stale by now
    puts_off: Callable[[str, str], bool]
    policy: Judged = ALLOWED  # of a moment of the past: that of who has none


@dataclass(frozen=True, slots=True)
class Ready:
    """A board, and what it takes to tell more of single paths in the same way."""

    board: Board
    usual: Usual
    passive: Mapping[str, Passive]
    watched: Mapping[Way, Watched]


class Boards:
    """The boards of one tenant. Methods may be called from any thread."""

    def __init__(
        self,
        *,
        tenant: str,
        store: Store,
        lately: Lately,
        usual: UsualCache,
        sessions: Sessions,
        sight: Callable[[int | None], Sight],
        clock: Callable[[], int],
        scratch: Path | None = None,
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._lately = lately
        self._usual = usual
        self._sessions = sessions
        self._sight = sight
        self._clock = clock
        self._scratch = scratch
        self._making = threading.Lock()  # one refresh at a time
        self._kept: Ready | None = None
        self._ranking: Ranking | None = None
        self._fleet: Fleet | None = None
        self._since_us = 0
        self._anew_us = 0
        self._past: dict[int, Ready] = {}
        self._turns = Turns(PAST_AT_ONCE, "moments of the past")

    def close(self) -> None:
        """Let go of the columns."""
        with self._making:
            if self._ranking is not None:
                self._ranking.close()
            self._ranking, self._fleet, self._kept = None, None, None

    def now(self) -> Ready:
        """The board; the first one is waited for."""
        return self._kept or self.refresh()

    def refresh(self) -> Ready:
        """Make it anew. Raises ``StoreError``."""
        with self._making:
            self._kept = self._made()
            return self._kept

    def at(self, at_us: int) -> Ready:
        """Make the board of a moment of the past; takes seconds. Raises ``StoreError``, ``BusyError``."""
        known = self._past.get(at_us)
        if known is not None:
            return known
        with self._turns.taken(), self._making:
            known = self._past.pop(at_us, None) or self._made_at(at_us)
            self._past[at_us] = known
            while len(self._past) > PAST_KEPT:
                del self._past[next(iter(self._past))]
            return known

    # --- all paths ----------------------------------------------------------------------------------------

    def _made(self) -> Ready:
        sight, at_us = self._sight(None), self._clock()
        ranking = self._taken(sight, at_us)
        watched = allowed(self._lately.told(at_us), sight.policy)
        usual = with_watched(self._usual.of_large(self._tenant, at_us), watched)
        return self._board(sight, at_us, ranking, usual, now=True)

    def _taken(self, sight: Sight, at_us: int) -> Ranking:
        """The columns of all paths, with what came since; begun anew where the fleet is another."""
        fleet = Fleet.of(sight.members)
        if self._ranking is not None and self._fleet == fleet and at_us < self._anew_us:
            since_us = self._since_us - OVERLAP_US
            came = self._store.arrived_since(self._tenant, RANKED_COLUMNS, since_us, at_us)
            self._ranking.take(came, at_us=at_us, rules=sight.rules)
        else:
            if self._ranking is not None:
                self._ranking.close()
            self._ranking, self._fleet = None, None
            ranking = self._begun(fleet, sight.rules)
            ranking.take(self._store.latest_table(self._tenant, RANKED_COLUMNS), at_us=at_us)
            self._ranking, self._fleet, self._anew_us = ranking, fleet, at_us + ANEW_US
        self._since_us = at_us
        return self._ranking

    def _begun(self, fleet: Fleet, rules: Rules) -> Ranking:
        return Ranking(
            fleet, rules, tenant=self._tenant, memory_limit=MEMORY_LIMIT, threads=2, scratch=self._scratch
        )

    def _made_at(self, at_us: int) -> Ready:
        sight = self._sight(at_us)
        back_us = max(LOOK_BACK_S, sight.rules.stale_after_s) * 1_000_000
        came = self._store.arrived_since(self._tenant, RANKED_COLUMNS, max(0, at_us - back_us), at_us)
        ranking = self._begun(Fleet.of(sight.members), sight.rules)
        try:
            ranking.take(came, at_us=at_us)
            return self._board(sight, at_us, ranking, NOTHING_KNOWN, now=False)
        finally:
            ranking.close()

    # --- rows of some -------------------------------------------------------------------------------------

    def _board(self, sight: Sight, at_us: int, ranking: Ranking, usual: Usual, *, now: bool) -> Ready:
        members = sorted(sight.members, key=lambda member: member.name)
        dense, profiles = ranking.dense(at_us), list(sight.rules.profiles)
        passive = self._passive(members, dense, profiles, at_us, now=now)
        worst = {
            profile: [(row.src, row.dst) for row in ranking.worst(profile, BAD_ROWS)] for profile in profiles
        }
        changed = [*usual.watched, *usual.slower()]
        chosen = {
            profile: choose(
                profile,
                members,
                dense,
                worst=worst[profile],
                changed=[*changed, *passive[profile].sent],
            )
            for profile in profiles
        }
        wanted = {pair for pairs in chosen.values() for pair in pairs}
        readings, hops = self._facts(wanted, usual, at_us, now=now)
        readings = ruled(readings, sight.policy, tenant=self._tenant, at_us=at_us)
        usual = self._usual.with_calm(self._tenant, usual, readings.keys()) if now else usual
        made: dict[str, Shown] = {}
        for profile in profiles:
            rows = path_rows(
                profile,
                [readings[pair] for pair in chosen[profile] if pair in readings],
                hops,
                members,
                at_us=at_us,
                rules=sight.rules,
                usual=usual,
                passive=passive[profile],
            )
            made[profile], dense = shown(
                profile,
                [put_off(row, sight) for row in rows] if now else rows,
                dense,
                tenant=self._tenant,
                members=members,
                rules=sight.rules,
                worst=worst[profile],
                sites=ranking.site_paths(profile, SITE_PAIRS_SHOWN),
                crossing=_crossing(ranking, profile),
                when=NOW if now else when(at_us),
            )
        board = Board(self._tenant, at_us, members, sight.rules, dense, made)
        return Ready(board, usual, passive, usual.watched)

    def _facts(
        self, pairs: set[Pair], usual: Usual, at_us: int, *, now: bool
    ) -> tuple[dict[Pair, Reading], list[Hop]]:
        latest = self._store.readings_of(self._tenant, pairs, None if now else at_us)
        readings = with_latest_tests(latest, usual.watched)
        hops = self._store.hops_of_readings(self._tenant, readings)
        return {(reading.src, reading.dst): reading for reading in readings}, hops

    def _passive(
        self, members: Sequence[Member], dense: Dense, profiles: Iterable[str], at_us: int, *, now: bool
    ) -> dict[str, Passive]:
        """What sessions said; whose addresses they had is known from the paths of services alone."""
        found: dict[str, Passive] = {}
        for profile in profiles:
            pairs = served(profile, members, dense)
            both = {pair for src, dst in pairs for pair in ((src, dst), (dst, src))}
            readings = self._store.readings_of(self._tenant, both, None if now else at_us)
            found[profile] = (
                self._sessions.of(profile, members, readings, at_us, now=now) if pairs else NOTHING_SEEN
            )
        return found


def put_off(row: PathRow, sight: Sight) -> PathRow:
    """Say which paths are as old as they are because the budget put them off."""
    return msgspec.structs.replace(
        row, put_off=sight.puts_off(row.src, row.dst), policy=sight.policy.bars(row.src, row.dst)
    )


def _crossing(ranking: Ranking, profile: str) -> Callable[[Sequence[PathRow]], Counter[Part]]:
    return lambda looked: ranking.crossing(profile, [(row.src, row.dst) for row in looked])


class Pace:
    """When a board is due: soon after something came, and for no more than a quarter of the time."""

    LEAST_S: Final = 5.0
    MOST_S: Final = 60.0
    """Ages grow by themselves, and paths become stale."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._made_s = -self.MOST_S
        self._took_s = 0.0
        self._of: object = None

    def is_due(self, state: object) -> bool:
        """``state`` is of what the board would be made from."""
        since_s = self._clock() - self._made_s
        return since_s >= self.MOST_S or (
            state != self._of and since_s >= max(self.LEAST_S, 4 * self._took_s)
        )

    def made(self, state: object, took_s: float) -> None:
        """Note that one was made."""
        self._made_s, self._took_s, self._of = self._clock(), took_s, state
