"""From single sessions to rows: sums over the sessions of one program with one service in one window.

A session is told at its close, and while it lasts at the end of each window. What was told before is
remembered by the kernel's own identity of the session, so that each byte is in exactly one window::

    run ── set_apart ─┬─ most: told once, as a whole ── by_group ── columns ──┐
                      └─ told before, or older than the agent ─┐              ├─ Tally ── Flow
    snapshot ─────────────────────────────────────── accounts ─┴─ columns_of ─┘

A group names its owner by pid and start; a row by what outlives these, so that many short-lived processes of
one program are one row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, NamedTuple

from agent.passive.accounts import Account, Accounts
from agent.passive.columns import (
    Columns,
    by_group,
    columns,
    columns_of,
    congestion_of,
    group,
    pieces,
    set_apart,
)
from agent.passive.listeners import Listeners, Seen
from agent.passive.owner import Owner, Owners
from agent.passive.tally import NOTHING, Done, Tally
from analytics import histogram
from analytics.measurement import Direction, Flow
from ebpf.events import Opener, SessionEvent, TcpState, address_text, command_text

MOST_FLOWS: Final = 10_000
"""Rows in one window. A scan of a whole network could make more; the rest is counted in ``dropped``."""

MOST_GROUPS: Final = 20_000
"""Groups whose row is kept at hand, 200 bytes each. Past that, rows are found afresh."""

MOST_PENDING: Final = 1024
"""Sessions, 200 bytes each, that are summed up together: the more of a row at once, the cheaper each is."""

MOST_UNOWNED: Final = 4096
"""Sessions, 200 bytes each, that wait for the end of the window, when their listener may be known."""

ORPHAN_WINDOWS: Final = 30
"""How long to remember a session that no process holds: TCP gives up on one after a few minutes."""

_Add = Callable[[Tally, Columns], None]


class _Row(NamedTuple):
    """What one row is summed over, as the kernel told it: text is made once a row, not once a session."""

    owner: Owner
    command: bytes
    direction: Direction
    local: bytes
    remote: bytes
    service_port: int
    netns: int


class _Place(NamedTuple):
    """Where a group's sessions go: to no row where there are too many."""

    tally: Tally | None
    opener: int
    established: int
    guessed: bool


class FlowTable:
    """Sums sessions up to rows. ``dropped`` counts the times a session found no room for its row."""

    def __init__(
        self, *, agent: str, tenant: str, owners: Owners, source: Literal["ebpf", "inet_diag"] = "ebpf"
    ) -> None:
        self.dropped = 0
        self._agent = agent
        self._tenant = tenant
        self._owners = owners
        self._source = source
        self._window = 0
        self._listeners = Listeners()
        self._accounts = Accounts()
        self._tallies: dict[_Row, Tally] = {}
        self._places: dict[bytes, _Place] = {}
        self._pending: defaultdict[tuple[Tally, int], list[bytes]] = defaultdict(list)
        self._pending_count = 0
        self._unowned: dict[bytes, list[bytes]] = {}
        self._unowned_count = 0

    def take_open(self, snapshot: Iterable[SessionEvent]) -> None:
        """Account for the sessions open now; learn who listens where."""
        told = list(snapshot)
        self._listeners.learn(told)
        self._take([event for event in told if event.state != TcpState.LISTEN and event.established])

    def take_closed(self, run: bytes) -> None:
        """Account for sessions that closed. Raises struct.error for a partial record."""
        for piece in pieces(run):
            apart, rest = set_apart(piece, self._accounts.sockets.keys(), self._accounts.told)
            self._take_whole(by_group(rest), wait=True)
            self._take(apart)

    def flows(self, *, window_us: int, window_length_us: int) -> list[Flow]:
        """Give the rows of the window that ends here, and begin the next."""
        unowned, self._unowned, self._unowned_count = self._unowned, {}, 0
        self._places = {}  # with the listeners that were known when they were made
        self._take_whole(unowned, wait=False)
        self._add_pending()
        rows = [
            self._flow(row, tally, window_us=window_us, window_length_us=window_length_us)
            for row, tally in self._tallies.items()
        ]
        self._tallies, self._places = {}, {}
        self._window += 1
        self._accounts.forget(before=self._window - ORPHAN_WINDOWS)
        return rows

    def see(self, event: SessionEvent) -> Seen:
        """Look at one session as its row does."""
        account = self._accounts.told.get(event.key)
        return self._listeners.see(event, account.direction if account else self._listeners.direction(event))

    # --- most sessions: opened under this agent's eyes, told once

    def _take_whole(self, groups: dict[bytes, list[bytes]], *, wait: bool) -> None:
        """Sort the sessions by row, by opener; the sums wait until they are many."""
        for packed, sessions in groups.items():
            place = self._places.get(packed) or self._place(packed, len(sessions), wait=wait)
            if place is None:
                self._unowned.setdefault(packed, []).extend(sessions)
            elif place.tally is None:
                self.dropped += len(sessions)
            elif not place.established:
                place.tally.failed += len(sessions)
            else:
                place.tally.guessed += len(sessions) * place.guessed
                self._pending[place.tally, place.opener] += sessions
                self._pending_count += len(sessions)
        if self._pending_count >= MOST_PENDING:
            self._add_pending()

    def _add_pending(self) -> None:
        for (tally, opener), sessions in self._pending.items():
            _add_whole(tally, sessions, opener)
        self._pending.clear()
        self._pending_count = 0

    def _place(self, packed: bytes, count: int, *, wait: bool) -> _Place | None:
        """Find the row of a group; None = it is to wait for what listener had it."""
        told = group(packed)
        seen = self._listeners.see_all(told)
        if wait and seen.unowned and self._unowned_count + count <= MOST_UNOWNED:
            self._unowned_count += count
            return None
        tally = self._tally(seen, told.local, told.remote, told.netns)
        place = _Place(tally, told.opener, told.established, seen.guessed)
        if len(self._places) < MOST_GROUPS:
            self._places[packed] = place
        return place

    # --- sessions told more than once, or older than the agent

    def _take(self, events: Iterable[SessionEvent]) -> None:
        """Account for sessions one by one, and add them row by row."""
        rows: defaultdict[tuple[_Add, Tally], list[SessionEvent]] = defaultdict(list)
        for event in events:
            for add, tally in self._account(event):
                rows[add, tally].append(event)
        for (add, tally), some in rows.items():
            add(tally, columns_of(some))

    def _account(self, event: SessionEvent) -> Iterator[tuple[_Add, Tally]]:
        """Add what the session did since it was last told; tell what else to add it to."""
        account = self._accounts.told.get(event.key)
        first_told = account is None
        if first_told and not event.closed and self._accounts.full:
            return
        now = Done.by(event)
        account = account or self._first(event, now)
        self._remember(event, Account(now, account.direction, self._window))
        done = now.since(account.done)
        opened = first_told and event.opener != Opener.UNKNOWN
        if not (opened or event.closed or any(done)):
            return
        seen = self._listeners.see(event, account.direction)
        tally = self._tally(seen, event.local, event.remote, event.netns)
        if tally is None:
            self.dropped += 1
        elif not event.established:
            tally.failed += 1
        else:
            tally.add_done(done)
            tally.congestion = event.congestion
            tally.guessed += event.closed and seen.guessed
            yield from ((add, tally) for add in _additions(event, done, opened=opened))

    def _first(self, event: SessionEvent, now: Done) -> Account:
        """Begin with a session: what it did before this agent watched it belongs to no window."""
        before = now if event.opener == Opener.UNKNOWN else NOTHING
        return Account(before, self._listeners.direction(event), self._window)

    def _remember(self, event: SessionEvent, account: Account) -> None:
        if event.closed:
            self._accounts.remove(event.key)
        else:
            self._accounts.put(event.key, account)

    # --- rows

    def _tally(self, seen: Seen, local: bytes, remote: bytes, netns: int) -> Tally | None:
        holder = seen.holder
        owner = self._owners.of(holder.pid, holder.started_ns)
        row = _Row(owner, holder.command, seen.direction, local, remote, seen.service_port, netns)
        tally = self._tallies.get(row)
        if tally is None and len(self._tallies) < MOST_FLOWS:
            tally = self._tallies[row] = Tally()
        if tally is not None:
            tally.pid = holder.pid
        return tally

    def _flow(self, row: _Row, tally: Tally, *, window_us: int, window_length_us: int) -> Flow:
        return Flow(
            tenant=self._tenant,
            agent=self._agent,
            source=self._source,
            window_us=window_us,
            window_length_us=window_length_us,
            process=command_text(row.command),
            pid=tally.pid or None,
            **row.owner._asdict(),
            direction=row.direction,
            local_address=address_text(row.local),
            remote_address=address_text(row.remote),
            service_port=row.service_port,
            netns=row.netns,
            **tally.totals(),
            srtt_us=tally.srtts_us.median(),
            srtt_histogram=histogram.pack(tally.srtts),
            srtt_lasting_histogram=histogram.pack(tally.lasting_srtts),
            connect_us=tally.connects_us.median(),
            congestion=command_text(tally.congestion),
        )


def _add_whole(tally: Tally, sessions: list[bytes], opener: int) -> None:
    """Add the whole lives of sessions."""
    read = columns(sessions)
    tally.add_done(Done.by_all(read, opener))
    tally.congestion = congestion_of(sessions[-1])
    for add in (Tally.add_opened, Tally.add_closed, Tally.add_durations, Tally.add_path):
        add(tally, read)


def _additions(event: SessionEvent, done: Done, *, opened: bool) -> Iterator[_Add]:
    """Tell what a session adds beyond what it did."""
    if opened:
        yield Tally.add_opened
    if opened or done.segments_sent:
        yield Tally.add_path
    if event.closed:
        yield Tally.add_closed
    if event.closed and event.opener != Opener.UNKNOWN:
        yield Tally.add_durations
