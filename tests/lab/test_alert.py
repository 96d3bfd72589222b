"""A leg that goes bad raises one alert, and the webhook hears of it: the product's own parts, sped up.

How soon with everything as it comes: scripts/bench alert.
"""

import os

import pytest
from lab import alarm, net
from lab.network import open_lab

pytestmark = pytest.mark.lab

NAME = f"a{os.getpid()}"
MOST_S = 180.0
QUICK = {  # a pair of agents that is tested every few seconds, so that a letter follows the next test
    "CYCLE_S": "10",
    "WATCH_S": "0",
    "PLAN": '{"hop_rounds": 2, "trains": 0, "interval_us": 10000}',
    "BUDGET_CPU_BP": "10000",
    "BUDGET_BYTES_PER_HOUR": "1000000000",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    scenario = tmp_path_factory.mktemp("alert") / "leg.toml"
    scenario.write_text(alarm.SCENARIO.read_text().rpartition("[[sites]]")[0])  # two of its three sites
    made = open_lab(scenario, NAME, report=True)
    try:
        yield made
    finally:
        made.down()
    assert [name for name in net.existing() if name.startswith(f"pg-{NAME}-")] == []


def test_a_bad_leg_is_one_alert_on_the_page_and_at_the_webhook(lab):
    alarm.start(lab, alarm.rules_with(hold_s=2, quiet_s=60), **QUICK)
    alarm.wait_until_well(lab, alarm.PERSON, watched=False)
    seen = alarm.stages(lab, MOST_S)
    print(f"overview {seen.overview:.0f} s, alert {seen.alert:.0f} s, webhook {seen.webhook:.0f} s")  # noqa: T201  # the figures of this run
    (alert,) = alarm.alerts(lab)
    assert "hotel" in alert["where"] or alert["where"] == alarm.PERSON
    assert "The doctor (hotel) cannot" in alert["text"]
    opened = [one for one in alarm.notices(lab) if one["notice"]["event"] == "opened"]
    assert [one["good"] for one in opened] == [True]
    assert opened[0]["notice"]["alert"]["id"] == alert["id"]
