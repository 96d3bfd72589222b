"""A leg goes bad in a lab: when it is on the overview, in an alert, and at a webhook.

READ FIRST: ``stages``. The lab is ``scenarios/leg.toml``; the service's paths are marked as important, as an
operator marks what matters, so they are tested between cycles too.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from lab import cables, product
from lab.network import Lab
from lab.report import Reader
from lab.scenario import FOLDER

SCENARIO: Final = FOLDER / "leg.toml"
RULES: Final = Path(__file__).resolve().parents[2] / "server" / "alerts" / "rules.toml"
PROFILE: Final = "generic"
SERVICE, PERSON, LEG = "records", "doctor", "hotel-uplink"
PORT: Final = 9099
SECRET: Final = "a secret between the lab and its webhook"
BAD_US: Final = 250_000
GOOD_US: Final = 3_000
READY_S: Final = 240.0  # a busy machine spoils samples, and withholds letters
MOST_S: Final = 300.0
LOOK_S: Final = 0.25


class Stages(NamedTuple):
    """Seconds from the leg's going bad."""

    overview: float
    alert: float
    webhook: float


def start(lab: Lab, rules: str, **settings: str) -> None:
    """Start every part, a webhook in the server's namespace, and mark what matters.

    ``rules``: text of the rules of alerts; ``settings``: of the server, as ``WATCH_S="2"``.
    """
    environment = _configure(lab, rules, settings)
    lab.parts.start(
        "webhook",
        [sys.executable, str(Path(__file__).with_name("webhook.py")), str(PORT), str(_log(lab)), SECRET],
        namespace=lab.plan.namespace("server"),
    )
    product.start_turn(lab)
    product.start_server(lab, environment)
    product.start_agents(lab)
    lab.begin()
    command = [product.pathgrade(), "mesh", "mark", SERVICE, "--url", lab.url]
    subprocess.run(command, check=True, capture_output=True, timeout=READY_S, env=product.with_token(lab))


def start_again(lab: Lab, rules: str, **settings: str) -> None:
    """End the server and start it on the same data: what it remembers of the watched paths is gone."""
    part = lab.parts.running.pop("server")
    part.process.send_signal(signal.SIGTERM)
    part.process.wait(READY_S)
    product.start_server(lab, _configure(lab, rules, settings))


def rules_with(*, hold_s: int | None = None, quiet_s: int) -> str:
    """The built-in rules with other times; None = as they are."""
    text = re.sub(r"quiet_s = \d+", f"quiet_s = {quiet_s}", RULES.read_text())
    return text if hold_s is None else re.sub(r"hold_s = (\d+|\{.*\})", f"hold_s = {hold_s}", text)


def wait_until_well(lab: Lab, *people: str, watched: bool = True) -> None:
    """Until these people can work, the path that matters is watched, and no alert is open."""
    _wait(lab, lambda: _is_well(lab, people, watched=watched), "all is well", READY_S)


def _is_well(lab: Lab, people: Sequence[str], *, watched: bool) -> bool:
    report = Reader(lab.url).report(PROFILE)
    ready = {(row["src"], row["dst"]) for row in report["paths"] if row["watched"] or not watched}
    well = set(report["verdict"]["can"]) >= set(people)
    return well and (SERVICE, PERSON) in ready and not _get(lab, "alerts")["open"]


def degrade(lab: Lab) -> None:
    """Switch the leg bad."""
    cables.change(lab.folder, LEG, {"up.delay_us": BAD_US})


def mend(lab: Lab) -> None:
    """Switch the leg good."""
    cables.change(lab.folder, LEG, {"up.delay_us": GOOD_US})


def stages(lab: Lab, at_most_s: float = MOST_S) -> Stages:
    """Switch the leg bad and wait for it to be seen: on the overview, in an alert, at the webhook."""
    before, began_s = len(notices(lab)), time.time()
    degrade(lab)
    seen: dict[str, float] = {}
    ready: dict[str, Callable[[], float | None]] = {
        "overview": lambda: time.time() if _cannot(lab) else None,
        "alert": lambda: time.time() if alerts(lab) else None,
        "webhook": lambda: next((one["at_s"] for one in notices(lab)[before:] if one["good"]), None),
    }

    def look() -> bool:
        for name in ready.keys() - seen.keys():
            at_s = ready[name]()
            if at_s is not None:
                seen[name] = at_s - began_s
        return len(seen) == len(ready)

    _wait(lab, look, "the webhook is told", at_most_s)
    return Stages(**seen)


def notices(lab: Lab) -> list[dict[str, Any]]:
    """What the webhook was sent so far: when, what, and whether its signature was good."""
    log = _log(lab)
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def alerts(lab: Lab) -> list[dict[str, Any]]:
    """Open alerts that say that somebody cannot work."""
    return [one for one in _get(lab, "alerts")["open"] if PERSON in one["cannot"]]


def _cannot(lab: Lab) -> bool:
    return PERSON in _get(lab, f"verdict?profile={PROFILE}")["cannot"]


def _get(lab: Lab, path: str) -> Any:
    return Reader(lab.url)._get(path)


def _wait(lab: Lab, ready: Callable[[], bool], what: str, at_most_s: float) -> None:
    lab.parts.wait_until(ready, what=what, at_most_s=at_most_s, look_every_s=LOOK_S)


def _log(lab: Lab) -> Path:
    return lab.folder / "webhook.jsonl"


def _configure(lab: Lab, rules: str, settings: dict[str, str]) -> dict[str, str]:
    """Write the receivers and the rules; returns the server's environment."""
    secret, receivers, own = (
        lab.folder / name for name in ("hook-secret", "alerts.toml", "alert-rules.toml")
    )
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    receivers.write_text(
        "[receivers.lab]\n"
        'kind = "webhook"\n'
        f'url = "http://127.0.0.1:{PORT}/"\n'
        f'secret_file = "{secret}"\n'
        'match = { rule = "cause" }\n'
    )
    own.write_text(rules)
    given = {"ALERTS": str(receivers), "ALERT_RULES": str(own), **settings}
    return {f"PATHGRADE_{name}": value for name, value in given.items()}
