"""Two tenants whose agents have the same names: whoever asks for one is told nothing of the other.

What is compared with: a store that never had the other's batches.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from analytics.clock import DAY_US, HOUR_US
from analytics.errors import StoreError
from analytics.exports import EXPORTS, Ask
from analytics.ranking.fleet import Fleet
from analytics.ranking.ranking import Ranking
from analytics.rollup import Level
from analytics.rules.load import load_rules
from analytics.store import answers, query, seal
from analytics.store.columns import SCHEMAS
from analytics.store.query import Engine
from analytics.store.store import Store
from analytics.store.stream import Range, stream
from analytics.store.tidy import Keep
from analytics.usage import By
from tests.unit.analytics.facts import AT_US, MEMBERS, body, flow, hop, put, reading

RULES = load_rules()
TENANTS: Final = ("default", "other")
AGENTS: Final = ("pacs", "home")
EVER: Final = ("0000-00-00", "9999-99-99")
REMOTES: Final = ["203.0.113.20"]
TESTS: Final = [f"t{number}" for number in range(20)]
PATH_COLUMNS: Final = ("src", "dst", "test", "rtt_p50_us")
PATHS: Final = [(src, dst) for src in AGENTS for dst in ("pacs", "home", "clinic")]

# --- what may be asked --------------------------------------------------------------------------------------

Asked = Callable[[Store, str], Any]


def held(store: Store, tenant: str) -> Any:
    """Rows that a question reads: of files and of memory."""
    found = []
    for table in SCHEMAS:
        now = store.held(table, tenant)
        sealed = [row for file in now.files for row in seal.read_through(file.path).to_pylist()]
        rows = [*now.fresh.to_pylist(), *sealed]
        found += sorted((table, row["agent" if table == "flows" else "src"], row["batch"]) for row in rows)
        assert {row["tenant"] for row in rows} <= {tenant}
    return found


ASKED: Final[dict[str, Asked]] = {
    "readings_latest": lambda store, tenant: [
        store.readings_latest(tenant),
        store.readings_latest(tenant, AT_US + HOUR_US),
    ],
    "measured": lambda store, tenant: store.measured(tenant),
    "past": lambda store, tenant: [
        store.past(tenant, since_us=0),
        store.past(tenant, since_us=0, paths=PATHS),
    ],
    "usual": lambda store, tenant: store.usual(tenant),
    "usual_hops": lambda store, tenant: store.usual_hops(tenant, PATHS, since_us=0, until_us=2 * AT_US),
    "readings_before": lambda store, tenant: store.readings_before(
        tenant, PATHS, since_us=0, until_us=2 * AT_US, most=50
    ),
    "held": held,
    "shared": lambda store, tenant: store.shared("flows", tenant, EVER, store.held("flows", tenant)),
    "readings_of_path": lambda store, tenant: [
        store.readings_of_path(tenant, *path, since_us=0, until_us=2 * AT_US) for path in PATHS
    ],
    "usual_at": lambda store, tenant: store.usual_at(tenant, AT_US + 2 * HOUR_US),
    "rollups_of_pair": lambda store, tenant: [
        store.rollups_of_pair(tenant, "pacs", "home", level, since_us=0, until_us=2 * AT_US)
        for level in Level
    ],
    "latest_table": lambda store, tenant: [
        store.latest_table(tenant, PATH_COLUMNS).to_pylist(),
        store.latest_table(tenant, PATH_COLUMNS, AT_US + HOUR_US).to_pylist(),
    ],
    "arrived_since": lambda store, tenant: store.arrived_since(
        tenant, PATH_COLUMNS, 0, 2 * AT_US
    ).to_pylist(),
    "readings_of": lambda store, tenant: [
        store.readings_of(tenant, PATHS),
        store.readings_of(tenant, PATHS, AT_US + HOUR_US),
        store.readings_of(tenant, [("pacs", "home"), ("home", "pacs")]),
    ],
    "readings_latest_of_agent": lambda store, tenant: [
        store.readings_latest_of_agent(tenant, agent, 2 * AT_US, since_us=0) for agent in AGENTS
    ],
    "readings_of_agent": lambda store, tenant: [
        store.readings_of_agent(
            tenant, agent, since_us=0, until_us=2 * AT_US, columns=PATH_COLUMNS
        ).to_pylist()
        for agent in AGENTS
    ],
    "suspects": lambda store, tenant: store.suspects(tenant, 100),
    "hops_of_readings": lambda store, tenant: store.hops_of_readings(tenant, store.readings_latest(tenant)),
    "counts": lambda store, tenant: [*store.counts(tenant).values()],
    "hops_of": lambda store, tenant: store.hops_of(tenant, TESTS),
    "flows": lambda store, tenant: store.flows(tenant, limit=10_000),
    "flows_of_pair": lambda store, tenant: [
        store.flows_of_pair(tenant, path, REMOTES, since_us=0, until_us=2 * AT_US) for path in PATHS
    ],
    "signed_by_both": lambda store, tenant: [
        store.signed_by_both(tenant, agent, since_us=0, until_us=2 * AT_US).to_pylist() for agent in AGENTS
    ],
    "receipts_of_pair": lambda store, tenant: [
        store.receipts_of_pair(tenant, path, store.readings_of(tenant, [path, path[::-1]])) for path in PATHS
    ],
    "flows_of_services": lambda store, tenant: store.flows_of_services(
        tenant, [4242], since_us=0, until_us=2 * AT_US
    ),
    "usage": lambda store, tenant: [store.usage(tenant, by, since_us=0, until_us=2 * AT_US) for by in By],
}
OF_NO_TENANT: Final = {
    **dict.fromkeys(("open", "close", "seal", "upkeep", "rebuild", "health"), "the store as a whole"),
    "append": "a batch, of the tenant that it is given with",
    "batches_taken": "a count that changes when anything does",
    "usual_hour": "a moment, of the whole store",
    "database": "a connection, for the stream of a lake",
}


def streamed(store: Store, tenant: str) -> Any:
    span = Range(tenant, AT_US - HOUR_US, AT_US + HOUR_US)
    return {
        table: [row for batch in stream(store, table, span, _own(table)) for row in batch.to_pylist()]
        for table in SCHEMAS
    }


def _own(table: str) -> list[str]:
    return [name for name in SCHEMAS[table].names if name != "received_us"]


def exported(store: Store, tenant: str) -> Any:
    span = Range(tenant, AT_US - HOUR_US, AT_US + HOUR_US)
    ask = Ask(of=span, profile="pacs", profiles=["pacs", "ehr"], members=MEMBERS, rules=RULES)
    return {
        name: [row for batch in export.batches(store, ask) for row in batch.to_pylist()]
        for name, export in EXPORTS.items()
    }


def rolled_up(store: Store, tenant: str) -> Any:
    rollups = store._upkeep.rollups.of(tenant)
    paths = [str(path) for level in Level for path in rollups.files(level)]
    asked = "SELECT * FROM read_parquet($1, hive_partitioning = false) ORDER BY ALL"
    return duckdb.execute(asked, [paths]).fetchall() if paths else []


EVERYTHING: Final[dict[str, Asked]] = {
    **ASKED,
    "stream": streamed,
    "exports": exported,
    "rollups": rolled_up,
}


def test_every_public_question_is_asked_here() -> None:
    public = {name for name, _ in inspect.getmembers(Store, inspect.isroutine) if name[0] != "_"}
    assert public == set(ASKED) | set(OF_NO_TENANT)
    for name in public - set(OF_NO_TENANT):
        given = list(inspect.signature(getattr(Store, name)).parameters)[1:3]
        assert "tenant" in given, f"{name} does not say whose rows it is about"


# --- the property -------------------------------------------------------------------------------------------


def batch(tenant: str, agent: str, number: int, rtt_ms: int) -> bytes:
    """Tests of two days, so that something is usual; ``tenant`` shows in no name, only in numbers."""
    rtt_us = rtt_ms * 1_000 + (500 if tenant == "other" else 0)
    peer = AGENTS[agent == AGENTS[0]]
    readings = [
        reading(
            agent,
            peer,
            rtt_us=rtt_us,
            test=TESTS[number],
            cycle=AT_US // 10**6 - back * 3_600 + number,
            ended_us=AT_US - back * HOUR_US - number - 1,
        )
        for back in range(32)
    ]
    flows = [flow(agent, window_us=AT_US - number, opened=1 + number, process=f"p{number}", srtt_us=rtt_us)]
    hops = [hop(1, "10.0.0.1", rtt_us, src=agent, dst=peer, test=TESTS[number], cycle=AT_US // 10**6)]
    return body(agent, number, readings=readings, hops=hops, flows=flows)


Step = tuple[str, str, int]
"""A batch's tenant, agent and round trip; or, with a tenant of none, something done to the store."""
BATCHES = st.tuples(st.sampled_from(TENANTS), st.sampled_from(AGENTS), st.integers(1, 200))
DONE = st.sampled_from(["seal", "upkeep", "reopen", "an hour", "a day"]).map(lambda done: ("", done, 0))


LATE: Final[list[Step]] = [
    ("other", "pacs", 199),
    ("", "an hour", 0),
    ("other", "home", 4),
    ("", "seal", 0),
    ("", "upkeep", 0),
    ("default", "pacs", 53),
    ("", "a day", 0),
    ("", "upkeep", 0),
    ("default", "home", 172),
    ("", "reopen", 0),
]
"""Of one hour, rows of a tenant come after another tenant's were rolled up."""
LAST: Final[list[Step]] = [("", done, 0) for done in ("seal", "an hour", "upkeep")]


class Fleet2:
    """A store in a folder, and a clock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now_us = AT_US
        self.store = self._opened()

    def _opened(self) -> Store:
        return Store.open(self._folder, clock_us=lambda: self._now_us)

    def close(self) -> None:
        self.store.close()

    def do(self, step: str) -> None:
        if step == "reopen":
            self.store.close()
            self.store = self._opened()
        elif step in {"an hour", "a day"}:
            self._now_us += HOUR_US if step == "an hour" else DAY_US
        else:
            getattr(self.store, step)()


# Without shrinking: each example opens three stores, and takes seconds.
@settings(max_examples=4, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.lists(BATCHES | DONE, min_size=4, max_size=12))
@example(LATE)
def test_a_tenant_is_answered_as_if_there_were_no_other(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        both, *alone = (
            stack.enter_context(closing(Fleet2(Path(place) / name))) for name in ("both", *TENANTS)
        )
        of = dict(zip(TENANTS, alone, strict=True))
        for number, (tenant, what, rtt_ms) in enumerate([*steps, *LAST]):
            if tenant:
                sent = batch(tenant, what, number, rtt_ms)
                assert put(both.store, sent, tenant=tenant) == [True]
                assert put(of[tenant].store, sent, tenant=tenant) == [True]
            else:
                for fleet in (both, *alone):
                    fleet.do(what)
            if number == len(steps) // 2:
                compare(both.store, of, ASKED)
        compare(both.store, of, EVERYTHING)


def compare(both: Store, of: dict[str, Fleet2], questions: dict[str, Asked]) -> None:
    for tenant, alone in of.items():
        for name, asked in questions.items():
            assert _rows(asked(both, tenant)) == _rows(asked(alone.store, tenant)), (name, tenant)
    assert [name for name, asked in ASKED.items() if _any(asked(both, "nobody"))] == []


def _rows(told: Any) -> Any:
    """Without the order, which rows of one key have from the files they happen to be in."""
    return sorted(map(_rows, told), key=repr) if isinstance(told, list) else told


def _any(told: Any) -> bool:
    return any(map(_any, told)) if isinstance(told, list) else bool(told)


# --- the guarantee ------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> Any:
    with closing(Store.open(tmp_path, clock_us=lambda: AT_US)) as store:
        for number, tenant in enumerate(TENANTS):
            put(store, batch(tenant, "pacs", 1, 20 + number), tenant=tenant)
            store.seal()
            put(store, batch(tenant, "home", 1, 20 + number), tenant=tenant)
        yield store


def test_a_question_that_forgets_the_tenant_is_told_of_that_tenants_rows_only(two: Store) -> None:
    asked = "SELECT DISTINCT tenant FROM facts WHERE $tenant <> ''"
    for tenant in (*TENANTS, "nobody"):
        told = two._table(asked, {"tenant": tenant}, EVER, table="readings").to_pylist()
        assert told == ([{"tenant": tenant}] if tenant in TENANTS else [])
    with pytest.raises(KeyError):
        two._table(asked, {}, EVER, table="readings")
    two.seal()
    two.upkeep()
    for tenant in (*TENANTS, "nobody"):  # from state.duckdb
        told = two._state.latest(tenant, AT_US, f"{asked} AND $at_us > 0")
        assert told == ([{"tenant": tenant}] if tenant in TENANTS else [])


def test_only_files_of_that_tenant_are_opened(two: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: set[Path] = set()
    run = Engine.run

    def watched(self: Engine, statement: str, **told: Any) -> Any:
        opened.update(map(Path, told.get("files", ())))
        return run(self, statement, **told)

    monkeypatch.setattr(Engine, "run", watched)
    for asked in ASKED.values():
        asked(two, "other")
    assert {path.parents[2].name for path in opened} == {"tenant=other"}


def test_each_question_names_its_tenant_all_the_same() -> None:
    questions = {
        name: told
        for module in (query, answers)
        for name, told in vars(module).items()
        if isinstance(told, str) and "FROM facts" in told
    }
    questions |= {by: query.usage_question(by) for by in By}
    assert len(questions) > 8
    assert [name for name, told in questions.items() if "tenant = $tenant" not in told] == []


def test_a_ranking_of_files_of_both_is_of_one(two: Store) -> None:
    two.seal()
    files = {tenant: [file.path for file in two.held("readings", tenant).files] for tenant in TENANTS}
    for tenant in TENANTS:
        told = []
        for given_files in (files[tenant], [*files["other"], *files["default"]]):
            with closing(Ranking(Fleet.of(MEMBERS), RULES, tenant=tenant)) as ranking:
                ranking.rebuild(given_files, at_us=AT_US)
                told.append(ranking.worst("pacs"))
        assert told[0] == told[1] != []


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "A", "-a", "a-", "a b", "a\n", "tenant=a", "ä", "a" * 64, "a\0"]
)
def test_a_name_that_no_folder_may_have_is_refused_before_anything_is_kept(tmp_path: Path, name: str) -> None:
    with closing(Store.open(tmp_path, clock_us=lambda: AT_US)) as store:
        with pytest.raises(StoreError, match="no name of a tenant"):
            put(store, body("pacs", 1, readings=[reading()]), tenant=name)
        assert store.health().unsealed_rows == 0
        assert not list((tmp_path / "spool").iterdir())


def test_what_is_let_go_of_leaves_no_tenants_last_day_for_ever(tmp_path: Path) -> None:
    now = [AT_US]
    keep = Keep(readings=3)
    with closing(Store.open(tmp_path, clock_us=lambda: now[0], keep=keep)) as store:
        put(store, body("pacs", 1, readings=[reading()]), tenant="other")
        store.seal()
        for day in range(6):
            put(store, body("pacs", day, readings=[reading(test=f"t{day}")]))
            store.seal()
            now[0] += DAY_US
        store.upkeep()
        assert store.counts()["readings"] == 3
        assert store.held("readings", "other").files == ()
    with closing(Store.open(tmp_path, clock_us=lambda: now[0])):
        assert [path.name for path in (tmp_path / "parquet").iterdir()] == ["tenant=default"]
        assert msgspec.json.encode([path.name for path in sorted((tmp_path / "rollup").iterdir())]) == (
            b'["tenant=default","tenant=other"]'
        )
