"""Active tests switched off for an agent: what still crosses its link, also over a restart of the server.

First at the server, then on the agent's own host, where no server can switch them on.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest
from lab.product import pathgrade, with_token

from tests.lab.capture import UDP, Capture, Packet, capturing
from tests.lab.fleet import PERIOD_S, Fleet, fleet, until

pytestmark = pytest.mark.lab

NAME = f"s{os.getpid()}"
AT_MOST_S = 5.0
THERE_AT_MOST_S = 2.0
QUIET_S = 4 * PERIOD_S  # a cycle begins every PERIOD_S
NORTHS_LINK = "to-1"


@pytest.fixture(scope="module")
def recorded() -> Iterator[tuple[Fleet, Capture]]:
    with fleet(NAME) as made, capturing(made.lab.plan.namespace("core"), NORTHS_LINK) as capture:
        made.start("east", "north")
        made.next_reading("east", "north", after=0, good=made.is_healthy)
        yield made, capture


def switch(made: Fleet, word: str) -> None:
    command = [pathgrade(), "mesh", word, "--agent", "north", "--url", made.lab.url]
    subprocess.run(command, env=with_token(made.lab), check=True, capture_output=True, timeout=60)


def is_test(packet: Packet) -> bool:
    """Whatever an agent sends or is sent in a test is UDP; what it says to the server is not."""
    return packet.protocol == UDP


def test_no_test_traffic_five_seconds_after_the_switch_nor_after_a_restart(
    recorded: tuple[Fleet, Capture],
) -> None:
    made, capture = recorded
    capture.wait_for(is_test, at_most_s=60, count=100)
    switch(made, "off")
    off_s = time.monotonic()
    until(off_s + AT_MOST_S + QUIET_S)
    last_s = capture.last(is_test)
    assert last_s is not None
    print(f"\nlast packet of a test {last_s - off_s:+.2f} s after the switch; {AT_MOST_S} s asked")  # noqa: T201  # the figure asked for
    assert last_s - off_s <= AT_MOST_S
    assert "active tests off" in made.log("north")

    made.end("server")
    made.start_server()
    made.wait(lambda: made.online() == 2, "both agents are back")
    back_s = time.monotonic()
    until(back_s + QUIET_S)
    after_s = capture.last(is_test)
    assert after_s == last_s

    switch(made, "on")
    capture.wait_for(is_test, at_most_s=60, count=100)
    made.assert_nobody_crashed()


def on_norths_host(made: Fleet, *words: str) -> str:
    data = str(made.data("north"))
    return made.inside("north", pathgrade(), "agent", "mesh", *words, "--data", data)


def test_no_test_traffic_two_seconds_after_the_hosts_own_switch_whatever_the_server_says(
    recorded: tuple[Fleet, Capture],
) -> None:
    made, capture = recorded
    capture.wait_for(is_test, at_most_s=60, count=100)
    on_norths_host(made, "off", "--note", "maintenance")
    off_s = time.monotonic()
    switch(made, "off")
    switch(made, "on")
    until(off_s + THERE_AT_MOST_S + QUIET_S)
    last_s = capture.last(is_test)
    assert last_s is not None
    print(f"\nlast packet of a test {last_s - off_s:+.2f} s after it; {THERE_AT_MOST_S} s asked")  # noqa: T201  # the figure asked for
    assert last_s - off_s <= THERE_AT_MOST_S

    made.end("north")
    made.start_agent("north")
    made.wait(lambda: made.online() == 2, "north is back")
    command = [pathgrade(), "agents", "north", "--url", made.lab.url]
    told = subprocess.run(
        command, env=with_token(made.lab), check=True, capture_output=True, timeout=60, text=True
    ).stdout
    assert "switched off on its own host since" in told
    until(time.monotonic() + 2 * PERIOD_S)
    assert capture.last(is_test) == last_s

    on_norths_host(made, "on")
    capture.wait_for(is_test, at_most_s=60, count=100)
    made.assert_nobody_crashed()
