"""READ FIRST for ``scripts/demo``: the radiologist lab, from nothing to a sentence, and back to nothing."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

from lab import outcome, pacs, product
from lab.errors import LabError
from lab.needs import check_machine
from lab.network import Lab, end_own, open_lab
from lab.pacs import Fetched
from lab.report import Reader, Row
from lab.scenario import FOLDER, load
from lab.signals import interrupt_once
from lab.terminal import Steps, keep_logs, say_error

CYCLE_S: Final = 600.0  # 15 pair tests, of which one site's run one after the other
LOOK_S: Final = 0.5
DEFAULT_PORT: Final = 8080  # where pathgrade's commands look when no URL is given
EXIT_INTERRUPTED: Final = 130


def main() -> NoReturn:
    """Run the demo; whatever happens, leave nothing behind."""
    given = _arguments()
    interrupt_once()
    try:
        check_machine()
        wrong = run(given.scenario, given.name, port=given.port, once=given.once)
    except LabError as error:
        say_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\nInterrupted: everything is ended and removed.")
        sys.exit(EXIT_INTERRUPTED)
    finally:
        end_own(given.name)
    sys.exit(_conclude(wrong, once=given.once))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.partition(": ")[2].strip())
    parser.add_argument("--once", action="store_true", help="one full cycle; check it against the truth; end")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="port of the page, on 127.0.0.1 [%(default)s]"
    )
    parser.add_argument("--scenario", type=Path, default=FOLDER / "radiologist.toml", metavar="FILE")
    parser.add_argument("--name", default="demo", help="name of the lab [%(default)s]")
    return parser.parse_args()


def run(scenario: Path, name: str, *, port: int, once: bool) -> list[str]:
    """One demo, from nothing to nothing; returns what did not hold."""
    steps = Steps()
    places = ", ".join(["public core", *(site.name for site in load(scenario).sites)])
    with steps.step("Lab", places):
        lab = open_lab(scenario, name, port=port, report=True)
    try:
        fetched = measure(lab, steps)
        wrong = _show(lab, fetched) if once else _stay(lab)
    except LabError as error:
        keep_logs(lab, error)
        raise
    finally:
        with steps.step("End", "processes, namespaces, eBPF programs"):
            lab.down()
    return wrong + outcome.left_behind(lab)


def measure(lab: Lab, steps: Steps) -> list[Fetched]:
    """Start every part, wait for one full cycle of the mesh, then fetch from the PACS."""
    with steps.step("Server", "server, STUN, coturn"):
        product.start_turn(lab)
        product.start_server(lab)
    study = None
    if lab.scenario.pacs:
        with steps.step("PACS", f"Orthanc with a synthetic CT of {lab.scenario.pacs.images} images"):
            study = pacs.start(lab)
    with steps.step("Agents", f"{len(lab.plan.hosts)} enrolled, passive on, mesh on"):
        product.start_agents(lab)
        lab.bpf_programs = product.bpf_programs(lab)
    lab.begin()
    wait_for_cycle(lab, steps)
    if not study:
        return []
    with steps.step("Fetches", "from the PACS") as say:
        fetched = [pacs.fetch(lab, study, order) for order in lab.scenario.fetches]
        say("; ".join(_say_fetch(one) for one in fetched))
    return fetched


def _say_fetch(one: Fetched) -> str:
    return f"{one.agent} {one.images} images by {one.tool} in {one.seconds:.1f} s"


def wait_for_cycle(lab: Lab, steps: Steps) -> None:
    """Wait until every directed path has a reading and no test runs."""
    reader, agents = Reader(lab.url), len(lab.plan.hosts)
    with steps.progress("Mesh", "directed paths") as show:

        def complete() -> bool:
            status = reader.status()
            if status is None:
                return False
            show(status["paths_measured"], agents * (agents - 1))
            return status["paths_measured"] >= agents * (agents - 1) and not status["cycle_running"]

        lab.parts.wait_until(
            complete, what="one full cycle of the mesh", at_most_s=CYCLE_S, look_every_s=LOOK_S
        )


def _show(lab: Lab, fetched: list[Fetched]) -> list[str]:
    """Print the report as anyone would read it; returns what does not agree with the truth."""
    wrong = outcome.find_faults(lab, fetched)
    print()
    subprocess.run([product.pathgrade(), "paths", "--url", lab.url, "--profile", outcome.PROFILE], check=True)
    report = Reader(lab.url).report(outcome.PROFILE)
    _say_verdict(report)
    print(f"\n{outcome.say_agreement(lab, report)}")
    return wrong


def _stay(lab: Lab) -> list[str]:
    """Say the verdict and stay until Ctrl-C, which is the good end of a demo."""
    _say_verdict(Reader(lab.url).report(outcome.PROFILE))
    print(
        f"\nOpen {lab.url}   ·   .venv/bin/pathgrade hops {_worst_pair(lab)}{_url_option(lab)}   ·   "
        "Ctrl-C ends it and leaves nothing behind",
        flush=True,
    )
    try:
        while True:
            lab.parts.check()
            lab.apply_due_faults()
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        print()
        return []


def _worst_pair(lab: Lab) -> str:
    """The slowest path to the service, or of all where there is none: worth a look."""
    service = lab.scenario.pacs.agent if lab.scenario.pacs else None
    paths = [path for path in lab.truth().paths if service in {None, path.dst}]
    worst = max(paths, key=lambda path: path.rtt_median_us)
    return f"{worst.src} {worst.dst}"


def _url_option(lab: Lab) -> str:
    return "" if lab.state.port == DEFAULT_PORT else f" --url {lab.url}"


def _say_verdict(report: Row) -> None:
    print()
    for sentence in [report["verdict"]["headline"], *report["verdict"]["details"]]:
        print(f" {sentence}")


def _conclude(wrong: list[str], *, once: bool) -> int:
    for fault in wrong:
        print(f"  not so: {fault}")
    if once:
        print("FAILED" if wrong else "OK: everything agrees with the lab's truth; nothing was left behind.")
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
