"""What one cycle came to: read through the report API, compared with the truth; and what was left behind."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from typing import Final

from lab import check, net
from lab.check import FlowClaim
from lab.errors import NeedsError, PartError
from lab.network import Lab
from lab.pacs import Fetched
from lab.processes import start_time
from lab.report import Reader, Row
from lab.scenario import FetchTool

PROFILE: Final = "pacs"
UPLOADED_S: Final = 60.0  # a 10 s window, an upload every 2 s, and room
GONE_S: Final = 20.0
PROCESS_OF: Final = {FetchTool.GETSCU.value: "getscu", FetchTool.CURL.value: "curl"}
SERVICE_PROCESS: Final = "Orthanc"


def find_faults(lab: Lab, fetched: Sequence[Fetched]) -> list[str]:
    """Everything that does not agree with the truth; empty is good. Waits for the passive rows."""
    claims = claims_of(lab, fetched)
    wait_for_flows(lab, claims)
    report, truth = Reader(lab.url).report(PROFILE), lab.truth()
    wrong = check.check_paths(truth, report["paths"]) + check.check_legs(truth, report["paths"])
    if lab.scenario.pacs:
        wrong += check.check_verdict(truth, report, lab.scenario.pacs.agent)
    wrong += check.check_flows(claims, flows_of(lab))
    return wrong if lab.bpf_programs else [*wrong, "no agent held an eBPF program"]


def claims_of(lab: Lab, fetched: Sequence[Fetched]) -> list[FlowClaim]:
    """Passive rows that the fetches must have caused, at both ends of each."""
    claims = []
    for one in fetched:
        assert lab.scenario.pacs
        client = [sample.srtt_us for sample in one.client_tcp]
        server = [sample.srtt_us for sample in one.server_tcp]
        claims.append(FlowClaim(one.agent, PROCESS_OF[one.tool], "out", one.port, client))
        claims.append(FlowClaim(lab.scenario.pacs.agent, SERVICE_PROCESS, "in", one.port, server))
    return claims


def flows_of(lab: Lab) -> dict[str, list[Row]]:
    """Passive rows by agent."""
    reader = Reader(lab.url)
    return {agent: reader.flows(agent) for agent in lab.plan.hosts}


def wait_for_flows(lab: Lab, claims: Sequence[FlowClaim]) -> None:
    """Wait until the last fetch's window is uploaded; what is missing even then, the check says."""
    try:
        lab.parts.wait_until(
            lambda: not check.check_flows(claims, flows_of(lab)),
            what="passive rows of all fetches",
            at_most_s=UPLOADED_S,
            look_every_s=1.0,
        )
    except PartError:
        lab.parts.check()  # a part that died is an error of its own


def say_agreement(lab: Lab, report: Row) -> str:
    """One sentence on how near the direct round trips came."""
    truth = lab.truth()
    apart_us = [
        abs(row["rtt_p50_us"] - path.rtt_median_us)
        for row in report["paths"]
        if not (path := truth.path(row["src"], row["dst"])).relayed and row["rtt_p50_us"] is not None
    ]
    return (
        f"Compared with the lab's truth: {len(report['paths'])} directed paths; {len(apart_us)} are direct, "
        f"and their median RTT is at most {max(apart_us, default=0) / 1000:.2f} ms off."
    )


def left_behind(lab: Lab) -> list[str]:
    """What a lab that is down should have removed and did not."""
    wrong = [f"namespace {name} is still there" for name in net.existing().intersection(lab.state.namespaces)]
    wrong += [
        f"process {one.name} ({one.pid}) still runs"
        for one in lab.state.processes
        if start_time(one.pid) == one.started
    ]
    return wrong + [f"eBPF program {program} is still loaded" for program in _still_loaded(lab.bpf_programs)]


def _still_loaded(programs: set[int]) -> set[int]:
    """The kernel frees programs a moment after their last holder is gone."""
    deadline = time.monotonic() + GONE_S
    left = {one for one in programs if _is_loaded(one)}
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = {one for one in left if _is_loaded(one)}
    return left


def _is_loaded(program: int) -> bool:
    shown = subprocess.run(["bpftool", "prog", "show", "id", str(program)], capture_output=True, check=False)
    if shown.returncode != 0 and b"No such file" not in shown.stderr + shown.stdout:
        said = shown.stderr.decode(errors="replace").strip()
        raise NeedsError(
            f"bpftool cannot tell which eBPF programs are loaded: {said}",
            remedy="install the bpftool of the running kernel (Ubuntu: linux-tools-$(uname -r))",
        )
    return shown.returncode == 0
