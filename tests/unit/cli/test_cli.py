"""The command as people run it: a process of its own against a real server."""

import json
import os
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

import agent.errors
import ebpf.errors
import server.errors
from analytics.errors import AnalyticsError
from analytics.store.store import Store
from tests.unit.analytics.facts import body, put, reading
from tests.unit.web.fleet import DETAIL, HEADLINE, FixtureCore, serve

ROOT = Path(__file__).parents[3]
COMMANDS = [
    [],
    ["status"],
    ["agents"],
    ["audit"],
    ["paths"],
    ["matrix"],
    ["hops"],
    ["explain"],
    ["diff"],
    ["sla"],
    ["sla", "report"],
    ["sla", "key"],
    ["sla", "verify"],
    ["flows"],
    ["flows", "show"],
    ["apps"],
    ["services"],
    ["services", "tag"],
    ["mesh"],
    ["mesh", "run"],
    ["mesh", "mark"],
    ["mesh", "off"],
    ["mesh", "on"],
    ["mesh", "switches"],
    ["tags"],
    ["budget"],
    ["alerts"],
    ["alerts", "ack"],
    ["alerts", "silence"],
    ["alerts", "unsilence"],
    ["alerts", "receivers"],
    ["alerts", "test"],
    ["export"],
    ["export", "paths"],
    ["export", "grades"],
    ["export", "findings"],
    ["receipt"],
    ["receipt", "export"],
    ["receipt", "verify"],
    ["server"],
    ["server", "run"],
    ["server", "rebuild"],
    ["server", "token"],
    ["server", "access-token"],
    ["server", "account"],
    ["server", "account", "add"],
    ["server", "account", "list"],
    ["server", "account", "set"],
    ["server", "account", "remove"],
    ["server", "tenant"],
    ["server", "tenant", "add"],
    ["server", "tenant", "list"],
    ["server", "authority"],
    ["server", "authority", "show"],
    ["server", "authority", "rotate"],
    ["server", "authority", "drop"],
    ["agent"],
    ["agent", "run"],
    ["agent", "check"],
    ["agent", "identity"],
    ["agent", "peers"],
    ["agent", "peers", "forget"],
    ["doctor"],
    ["completion"],
    ["version"],
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(FixtureCore()) as at:
        yield at


OWN_VARIABLES = ("COLUMNS", "PATHGRADE_URL", "PATHGRADE_TOKEN", "PATHGRADE_AGENT_DATA")


def pathgrade(
    *arguments: str, url: str = "", columns: int | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in OWN_VARIABLES}
    environment |= {"PATHGRADE_URL": url} if url else {}
    environment |= {"COLUMNS": str(columns)} if columns else {}
    environment |= variables
    return subprocess.run(
        [sys.executable, "-m", "pathgrade", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def words(line: str) -> str:
    """The line with every run of blanks, no-break ones too, as one."""
    return " ".join(line.split())


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_helps_with_an_example(command: list[str]) -> None:
    done = pathgrade(*command, "--help")

    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: {' '.join(['pathgrade', *command])} ")
    assert "Example" in done.stdout or "Commands:" in done.stdout


def test_help_is_quick_and_loads_no_engine() -> None:
    code = (
        "import sys, pathgrade\nsys.argv = ['pathgrade', '--help']\n"
        "try: pathgrade.main()\nexcept SystemExit: pass\n"
        "engines = {'duckdb', 'pyarrow', 'fastapi', 'sqlalchemy', 'httpx', 'rich'}\n"
        "print('LOADED', *sorted(engines & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "LOADED"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert worked_s < 2  # 0.1 s; what others took of the machine is not counted


def test_a_command_that_asks_loads_no_engine_and_no_server() -> None:
    code = "import sys, server.api.client, server.pages.terminal; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"duckdb", "pyarrow", "fastapi", "pydantic", "sqlalchemy"}


def test_status(url: str) -> None:
    done = pathgrade("status", url=url)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [HEADLINE, DETAIL]
    assert "agents  6 of 6 online" in done.stdout
    assert "paths   30 of 30 measured" in done.stdout


def test_a_proxy_in_the_environment_is_not_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    done = pathgrade("status", url=url)

    assert done.returncode == 0, done.stderr


def test_paths_in_a_pipe_has_every_column(url: str) -> None:
    lines = pathgrade("paths", url=url).stdout.splitlines()
    head = next(line for line in lines if line.lstrip().startswith("path "))
    rows = [line for line in lines if " → " in line and line[1] == " " and not line.startswith(" ")]

    assert words(head) == "path sites outcome RTT p95 loss → loss ← reached capacity most of the time age"
    assert len(rows) == 30
    assert words(rows[2]) == (
        "D pacs → radiologist hospital → hotel 37 s 247 ms 248 ms 0 % 0.33 % direct · NAT ≥ 94 Mbit/s"
        " hotel access 212 ms 12 s"
    )
    assert sum("relay · UDP" in row for row in rows) == 10


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_paths_fits_a_narrow_terminal(url: str, columns: int) -> None:
    lines = pathgrade("paths", url=url, columns=columns).stdout.splitlines()

    assert max(map(len, lines)) <= columns
    assert sum(line.startswith("D ") for line in lines) == 10
    assert not any("…" in line for line in lines)


def test_diff_names_the_cause_and_the_worst_path_first(url: str) -> None:
    asked = ("diff", "2026-11-23T13:00Z", "2026-11-23T20:00Z")
    lines = pathgrade(*asked, url=url).stdout.splitlines()
    assert lines[0] == "10 paths are worse; 1 workplace can no longer work; 1 cause appeared."
    assert "New cause. The hotel's uplink explains 10 of 10 bad paths (confidence 99 %)." in lines
    first = next(line for line in lines if line.startswith("B → D"))
    assert words(first) == "B → D clinic → radiologist worse 65.0 ms → 265 ms 0 % 94 Mbit/s relay · UDP"
    assert max(map(len, pathgrade(*asked, url=url, columns=60).stdout.splitlines()[4:])) <= 60
    told = json.loads(pathgrade(*asked, "--json", url=url).stdout)
    assert told["counts"]["worse"] == 10
    refused = pathgrade("diff", "1h", "2h", url=url)
    assert (refused.returncode != 0, "before must be earlier" in refused.stderr) == (True, True)


def test_an_sla_report_is_written_and_checked_without_the_server(url: str, tmp_path: Path) -> None:
    out, key = tmp_path / "pacs.json", tmp_path / "pathgrade.key"
    shown = pathgrade("sla", "PACS", "--month", "2026-11", url=url).stdout
    assert "People could work with the PACS 99.18 % of the time; 0.44 % is not known." in words(shown)
    assert pathgrade("sla", "PACS", "--month", "2026-11", "--out", str(out), url=url).returncode == 0
    key.write_text(pathgrade("sla", "key", url=url).stdout)
    held = pathgrade("sla", "verify", str(out), "--key", str(key))
    assert (held.returncode, "The signature holds" in held.stdout) == (0, True)
    out.write_bytes(out.read_bytes().replace(b'"could_bp":9918', b'"could_bp":9999'))
    forged = pathgrade("sla", "verify", str(out), "--key", str(key))
    assert (forged.returncode, forged.stdout) == (65, "")
    assert "not by this key over this document" in forged.stderr
    missing = pathgrade("sla", "verify", str(tmp_path / "none"), "--key", str(key))
    assert (missing.returncode, "none: No such file" in missing.stderr) == (73, True)


def test_json_is_what_the_api_answers(url: str) -> None:
    report = json.loads(pathgrade("paths", "--json", url=url).stdout)
    assert (report["profile"], len(report["paths"])) == ("pacs", 30)
    generic = json.loads(pathgrade("paths", "--json", "--profile", "generic", url=url).stdout)
    assert generic["profile"] == "generic"
    assert json.loads(pathgrade("status", "--json", url=url).stdout)["paths_measured"] == 30
    detail = json.loads(pathgrade("hops", "radiologist", "pacs", "--json", url=url).stdout)
    assert len(detail["forward_hops"]) == 6
    assert {flow["process"] for flow in json.loads(pathgrade("flows", "--json", url=url).stdout)} == {
        "getscu",
        "Orthanc",
    }


def test_hops_as_an_engineer_reads_it(url: str) -> None:
    said = pathgrade("hops", "radiologist", "pacs", url=url).stdout.replace("\N{NO-BREAK SPACE}", " ")

    for line in (
        "radiologist → pacs   direct through NAT, server reflexive (not LAN: other network; not IPv6: no",
        "RTT 247 ms (least 246 ms, p95 248 ms)   loss → 0.33 %  ← 0 % of 300",
        "capacity → 12 Mbit/s  ← ≥ 94 Mbit/s   stamps kernel/kernel   12 s ago",
        "The application's own socket on radiologist: getscu[4121] srtt 261 ms, least 259 ms.",
        "Why D: a 50 MB CT takes about 37 s. Rule pacs.open.v1, rules 2026-11-01.",
    ):
        assert line in said, said
    access = next(line for line in said.splitlines() if line.startswith("hotel access"))
    assert words(access) == "hotel access 2 203.0.113.1 214.1 214.4 216.0 6/6 212.5 ◄ most"


def test_explain_tells_every_step_with_its_rule(url: str) -> None:
    done = pathgrade("explain", "pacs", "radiologist", "--at", "2h", url=url)
    said = [words(line) for line in done.stdout.splitlines()]

    assert done.returncode == 0, done.stderr
    assert said[0].startswith("pacs → radiologist D for pacs ")
    for line in (
        "test pacs-radiologist, cycle 2026-11-23 19:59:00 UTC",
        "median round trip 247 ms, of 300 samples, 10 needed, told by pacs",
        "loss there 0 % (0 % to 0.89 %), none of 300 packets lost, 300 needed, told by radiologist",
        "capacity there at least 94 Mbit/s, told by pacs",
        "What the letters ask for rule pacs.open.v1",
        "time to open A ≤ 5.0 s, B ≤ 10 s, C ≤ 30 s, D ≤ 60 s",
        "worst 40 s: D by itself",
        "Whether it became slower rule path.slower.v1",
        "hotel access 212 ms, 86 %",
        "none named nothing is usual yet",
        "uplink The hotel's uplink explains 10 of 10 bad paths (confidence 99 %).",
    ):
        assert line in said, done.stdout
    told = json.loads(pathgrade("explain", "pacs", "radiologist", "--json", url=url).stdout)
    assert (told["grade"]["rule"], told["rules_version"]) == ("pacs.open.v1", "2026-11-01")


def test_flows_filters(url: str) -> None:
    assert "getscu" not in pathgrade("flows", "--agent", "pacs", url=url).stdout
    assert "No session fits." in pathgrade("flows", "--process", "nobody", url=url).stdout


def test_a_server_that_is_away(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for command in (
        ["status"],
        ["paths"],
        ["hops", "a", "b"],
        ["flows"],
        ["export", "paths", "--out", f"{tmp_path}/x"],
    ):
        done = pathgrade(*command, "--url", f"http://127.0.0.1:{port}")

        assert done.returncode == 69
        assert done.stdout == ""
        first, *ways = done.stderr.splitlines()
        assert first.startswith(f"error: GET http://127.0.0.1:{port}/v1/")
        assert ways == [
            "  try: start it with: pathgrade server run --data DIR",
            "  or:  name the right address with --url or PATHGRADE_URL",
        ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["hops", "nobody", "pacs"],
            65,
            ["error: no agent is called 'nobody'", "  try: one of: clinic, home,"],
        ),
        (
            ["paths", "--profile", "chess"],
            65,
            ["error: no profile is called 'chess'", "  try: one of: generic, pacs"],
        ),
        (
            ["paths", "--url", "not a url"],
            65,
            ["error: 'not a url' is not a server's URL: ", "  try: --url http://"],
        ),
        (
            ["export", "paths", "--out", "x", "--site", "moon"],
            65,
            ["error: no site is called 'moon'", "  try: one of: clinic, home,"],
        ),
        (["export", "paths", "--out", "paths.xlsx"], 2, ["Usage: ", "Try "]),
        (["export", "hops", "--out", "x", "--since", "soon"], 2, ["Usage: ", "Try "]),
        (["export", "findings", "--out", "x", "--since", "2h"], 2, ["Usage: ", "Try "]),
        (["explain", "pacs", "clinic", "--at", "soon"], 2, ["Usage: ", "Try "]),
        (["flows", "--limit", "0"], 2, ["Usage: ", "Try "]),
        (["server", "token", "--data", "x", "--expires", "soon"], 2, ["Usage: ", "Try "]),
    ],
    ids=["agent", "profile", "url", "site", "format", "since", "moment", "at", "limit", "expires"],
)
def test_each_mistake_is_one_clear_error(url: str, arguments: list[str], code: int, said: list[str]) -> None:
    done = pathgrade(*arguments, url=url)

    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for line, start in zip(done.stderr.splitlines(), said, strict=False):
        assert line.startswith(start), done.stderr


def test_a_rebuild_says_what_it_made_and_refuses_beside_a_server(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path)) as store:
        put(store, body("pacs", 1, readings=[reading()]))
        beside = pathgrade("server", "rebuild", "--data", str(tmp_path))
    assert beside.returncode == 75  # as docs/cli.md has it
    assert beside.stderr.startswith(f"error: {tmp_path} is in use by process {os.getpid()}\n")
    assert "  try: stop that server" in beside.stderr
    done = pathgrade("server", "rebuild", "--data", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == {"readings": 1, "hops": 0, "flows": 0, "receipts": 0}
    assert "state.duckdb: latest\n" in done.stderr
    assert pathgrade("server", "rebuild", "--data", str(tmp_path)).stdout.startswith(
        "1 reading, 0 hours rolled up, in "
    )


def test_something_else_at_the_url() -> None:
    class Other(FixtureCore):
        def status(self) -> object:  # type: ignore[override]  # as another program would answer
            return {"hello": "world"}

    with serve(Other()) as url:
        done = pathgrade("status", url=url)

    assert done.returncode == 65
    assert "not the answer of a pathgrade server" in done.stderr


def test_version() -> None:
    done = pathgrade("version", "--json")
    assert json.loads(done.stdout)["version"].count(".") == 2


def test_the_reference_is_not_stale() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/docs", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [["version"], ["status"], ["paths", "--json"]])
def test_an_output_that_takes_no_more_is_one_clear_error(url: str, command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pathgrade", *command],
            cwd=ROOT,
            env={**os.environ, "PATHGRADE_URL": url},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 73
    assert done.stderr.splitlines() == [
        "error: write the output: No space left on device",
        "  try: free some space there, or send it elsewhere",
    ]


def every(kind: type[Exception]) -> Iterator[type[Exception]]:
    for one in kind.__subclasses__():
        yield one
        yield from every(one)


def test_every_exit_code_is_documented_and_every_error_has_one() -> None:
    roots = (agent.errors.AgentError, server.errors.ServerError, AnalyticsError, ebpf.errors.EbpfError)
    codes = {one.exit_code for root in roots for one in (root, *every(root))}
    table = re.findall(r"^\| (\d+) \|", (ROOT / "docs/cli.md").read_text(), re.MULTILINE)
    assert codes <= {int(code) for code in table}
    assert codes >= {65, 69, 73, 74, 75, 77, 78}


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_export_writes_what_any_tool_reads(url: str, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"paths.{ending}"
    done = pathgrade("export", "paths", "--out", str(out), url=url)

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}: {out.stat().st_size:,} bytes of {ending}; columns: docs/schema.md\n"
    assert duckdb.sql(f"SELECT count(*), count(DISTINCT src || dst) FROM '{out}'").fetchone() == (30, 30)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_export_to_standard_output_is_csv_for_a_pipe(url: str) -> None:
    done = pathgrade("export", "findings", "--out", "-", url=url)
    head, first = done.stdout.splitlines()

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert head.startswith('"tenant","report_us","profile","kind","where"')
    assert "The hotel's uplink explains 10 of 10 bad paths" in first


def test_export_keeps_what_has_that_end(url: str, tmp_path: Path) -> None:
    out = tmp_path / "paths.parquet"
    done = pathgrade("export", "paths", "--site", "hotel", "--out", str(out), "--json", url=url)

    assert json.loads(done.stdout) == {"file": str(out), "format": "parquet", "bytes": out.stat().st_size}
    assert duckdb.sql(f"SELECT count(*) FROM '{out}'").fetchone() == (10,)


def test_export_to_a_folder_that_is_not_there(url: str, tmp_path: Path) -> None:
    done = pathgrade("export", "paths", "--out", str(tmp_path / "no" / "paths.parquet"), url=url)

    assert done.returncode == 73
    assert done.stderr.splitlines()[1] == "  try: name a file in a folder that can be written"
