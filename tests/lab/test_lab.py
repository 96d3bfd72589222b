"""The lab itself: what it promises about delay, loss, rate, NAT, changes and cleaning up."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import cables, net, state
from lab.check import plausible_loss
from lab.errors import CableError, CommandError, NameTakenError
from lab.network import open_lab
from lab.processes import listens, start_time
from lab.tcp_info import Watch

pytestmark = [pytest.mark.lab, pytest.mark.alone]

HERE = Path(__file__).parent
SCENARIO = HERE / "two_sites.toml"
NAME = f"t{os.getpid()}"
TOLERANCE_MS = 0.3  # of a round trip through one cable
CROSSING_MS = 0.15  # of each cable on a longer way: waking a process on a busy machine


@pytest.fixture(scope="module")
def lab():
    lab = open_lab(SCENARIO, NAME)
    try:
        lab.begin()
        yield lab
    finally:
        lab.down()
    assert [name for name in net.existing() if name.startswith(f"pg-{NAME}-")] == []


def run_in(lab, node, *command):
    return net.run(net.inside(lab.plan.namespace(node), command))


def ping(lab, node, address, count=40, interval_s=0.02):
    """Every round trip that was answered, in ms."""
    command = ["ping", "-n", "-c", str(count), "-i", str(interval_s), "-W", "1", address]
    said = subprocess.run(
        net.inside(lab.plan.namespace(node), command),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return [float(ms) for ms in re.findall(r"time=([0-9.]+)", said.stdout)]


def median_ms(lab, node, address, count=20):
    """Median round trip. Asked three times, the least counts: what a busy host adds is not the cable's."""
    return min(sorted(ping(lab, node, address, count))[count // 2] for _ in range(3))


@contextmanager
def python_in(lab, node, *arguments):
    """Run echo.py in a node until it says that it is ready; ended at the latest with the block."""
    process = subprocess.Popen(
        net.inside(lab.plan.namespace(node), [sys.executable, str(HERE / "echo.py"), *arguments]),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(lab, node, host, *ports):
    """What each port of a host saw as our address: (own port, [(address, port) or None])."""
    own, *answers = run_in(
        lab, node, sys.executable, str(HERE / "echo.py"), "ask", host, *map(str, ports)
    ).splitlines()
    split = [answer.split() for answer in answers]
    return int(own), [(words[0], int(words[1])) if len(words) == 2 else None for words in split]


@contextmanager
def changed(lab, link, **settings):
    """Settings of a link for the length of a block; ``up__delay_us`` stands for up.delay_us."""
    before = cables.state(lab.folder, link)
    wanted = {key.replace("__", "."): value for key, value in settings.items()}
    cables.change(lab.folder, link, wanted)
    try:
        yield
    finally:
        back = {key: getattr(getattr(before, key.split(".")[0]), key.split(".")[1]) for key in wanted}
        cables.change(lab.folder, link, back)


def test_a_whole_path_is_exact_to_a_fraction_of_a_millisecond_a_cable(lab):
    path = lab.truth().path("east-1", "west-1")
    gateway = lab.plan.hosts["west-1"].public_address
    seen = sorted(ping(lab, "east-1", gateway))
    assert len(seen) == 40
    to_gateway_ms = path.rtt_base_us / 1000  # west's gateway answers, beyond the last cable
    assert median_ms(lab, "east-1", gateway) == pytest.approx(to_gateway_ms, abs=8 * CROSSING_MS)
    assert seen[0] >= to_gateway_ms - 0.05  # a cable may be late, but never early


def test_delay_is_exact_to_a_third_of_a_millisecond(lab):
    hosts = lab.plan.hosts["east-1"]
    assert median_ms(lab, "east-1", hosts.provider_customer) == pytest.approx(15, abs=TOLERANCE_MS)
    assert median_ms(lab, "east-1", hosts.core_address) == pytest.approx(20, abs=4 * CROSSING_MS)


def test_set_takes_effect_with_the_next_packet_and_truth_follows(lab):
    with changed(lab, "west-uplink", up__delay_us=40_000, down__delay_us=20_000):
        assert median_ms(lab, "west-1", lab.plan.server_address) == pytest.approx(60, abs=TOLERANCE_MS)
        assert lab.truth().path("west-1", "east-1").legs["source-access"] == 60_000
    assert median_ms(lab, "west-1", lab.plan.server_address) == pytest.approx(2, abs=TOLERANCE_MS)


def test_a_setting_that_is_none_changes_nothing(lab):
    before = cables.state(lab.folder, "west-uplink").up.delay_us
    with pytest.raises(CableError, match=r"not a setting: up\.colour=3"):
        cables.change(lab.folder, "west-uplink", {"up.delay_us": 5, "up.colour": 3})
    with pytest.raises(CableError):
        cables.change(lab.folder, "west-uplink", {"up.loss_ppm": 2_000_000})
    assert cables.state(lab.folder, "west-uplink").up.delay_us == before


def test_loss_is_binomial_and_of_its_direction_only(lab):
    before = cables.state(lab.folder, "west-backbone")
    with changed(lab, "west-backbone", up__loss_ppm=50_000):
        answered = ping(lab, "west-1", lab.plan.server_address, count=1_000, interval_s=0.002)
    now = cables.state(lab.folder, "west-backbone")
    lost = now.up.lost - before.up.lost
    assert now.up.packets - before.up.packets == 1_000
    assert plausible_loss(lost, 1_000, 0.05)
    assert len(answered) == 1_000 - lost
    assert now.down.lost == before.down.lost


def test_the_same_seed_loses_the_same_packets():
    def lost_in_a_row(name):
        lab = open_lab(SCENARIO, name)
        try:
            cables.change(lab.folder, "west-backbone", {"up.loss_ppm": 200_000})
            said = run_in(
                lab, "west-1", "ping", "-n", "-c", "60", "-i", "0.01", "-W", "1", lab.plan.server_address
            )
        finally:
            lab.down()
        return re.findall(r"icmp_seq=(\d+)", said)

    first = lost_in_a_row(f"{NAME}a")
    assert 30 < len(first) < 60
    assert lost_in_a_row(f"{NAME}b") == first


@pytest.mark.parametrize("rate_kbps", [2_000, 20_000])
def test_a_burst_leaves_at_the_rate(lab, rate_kbps):
    count, size = 100, 1_172  # 1,200 bytes at the IP layer
    address = lab.plan.hosts["open-1"].address
    allow_unasked(lab, "open")
    with (
        changed(lab, "open-uplink", down__rate_kbps=rate_kbps, down__queue_us=5_000_000),
        python_in(lab, "open-1", "listen", "5000") as listener,
    ):
        send = [sys.executable, str(HERE / "echo.py"), "burst", address, "5000", str(count), str(size)]
        run_in(lab, "server", *send)
        received, apart_ns = map(int, listener.stdout.readline().split())
    assert received == count
    assert apart_ns == pytest.approx(1_200 * 8 * 1e6 / rate_kbps, rel=0.02)


def allow_unasked(lab, site):
    """Open a gateway's firewall."""
    run_in(lab, f"gw-{site}", "nft", "add rule ip firewall through accept")


def test_a_full_queue_drops_and_counts(lab):
    address = lab.plan.server_address
    before = cables.state(lab.folder, "west-uplink").up
    with changed(lab, "west-uplink", up__rate_kbps=1_000, up__queue_us=20_000):
        run_in(lab, "west-1", sys.executable, str(HERE / "echo.py"), "burst", address, "9", "50", "1172")
        now = cables.state(lab.folder, "west-uplink").up
    dropped = now.queue_dropped - before.queue_dropped
    assert now.packets - before.packets == 50
    assert 40 < dropped < 50  # 20 ms at 1 Mbit/s hold two packets, and the line takes one more


def test_an_ordinary_gateway_keeps_the_port_for_every_destination(lab):
    with python_in(lab, "server", "serve", "30", "7001", "7002"):
        own, seen = ask(lab, "east-1", lab.plan.server_address, 7001, 7002)
    assert seen == [(lab.plan.hosts["east-1"].public_address, own)] * 2


def test_a_symmetric_gateway_has_a_new_port_for_every_destination(lab):
    with python_in(lab, "server", "serve", "30", "7001", "7002"):
        _, seen = ask(lab, "west-1", lab.plan.server_address, 7001, 7002)
    assert {address for address, _ in seen} == {lab.plan.hosts["west-1"].public_address}
    assert seen[0][1] != seen[1][1]


def test_an_open_site_shows_its_own_addresses(lab):
    with python_in(lab, "server", "serve", "30", "7001"):
        own, seen = ask(lab, "open-1", lab.plan.server_address, 7001)
    assert seen == [(lab.plan.hosts["open-1"].address, own)]


def test_a_gateway_answers_nobody_it_was_not_asked_for(lab):
    with python_in(lab, "east-1", "serve", "30", "7001"):
        _, seen = ask(lab, "server", lab.plan.hosts["east-1"].public_address, 7001)
    assert seen == [None]


def test_a_forwarded_port_leads_to_its_host_and_others_do_not(lab):
    public = lab.plan.hosts["east-1"].public_address
    command = [sys.executable, "-m", "http.server", "8042", "--directory", str(HERE)]
    server = lab.parts.start("web", command, namespace=lab.plan.namespace("east-1"))
    lab.parts.wait_until(lambda: listens(server.process.pid, "tcp", 8042), what="it listens", at_most_s=60)
    got = run_in(lab, "west-1", "curl", "-s", "--max-time", "5", f"http://{public}:8042/two_sites.toml")
    assert "Two sites" in got
    with pytest.raises(CommandError):
        run_in(lab, "west-1", "curl", "-s", "--max-time", "1", f"http://{public}:8043/")


def test_a_watch_hears_the_last_word_of_every_session(lab):
    talk = (
        "import socket; l = socket.create_server(('127.0.0.1', 7999))\n"
        "for _ in range(3):\n"
        "    c = socket.create_connection(('127.0.0.1', 7999)); a, _ = l.accept()\n"
        "    c.sendall(b'x'); a.recv(1); a.close(); c.close()"
    )
    with Watch({"server": lab.plan.namespace("server")}, 7999) as watch:
        run_in(lab, "server", sys.executable, "-c", talk)
    assert 1 <= len(watch.samples["server"]) <= 6  # the first is waited for; both ends of three
    assert all(0 < sample.srtt_us < 100_000 for sample in watch.samples["server"])


def test_hosts_of_one_site_share_a_lan(lab):
    assert median_ms(lab, "east-1", lab.plan.hosts["east-2"].address) < TOLERANCE_MS


def test_routers_answer_with_the_addresses_of_the_truth(lab):
    lab.apply_due_faults()
    path = lab.truth().path("east-1", "open-1")
    for ttl, address in enumerate(path.hops[:-1], start=1):
        command = ["ping", "-n", "-c", "1", "-t", str(ttl), "-W", "1", lab.plan.hosts["open-1"].address]
        said = subprocess.run(
            net.inside(lab.plan.namespace("east-1"), command),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert f"From {address} " in said.stdout


def test_faults_come_at_their_time(lab):
    lab.parts.wait_until(
        lambda: cables.state(lab.folder, "open-backbone").up.delay_us == 7_000, what="the fault", at_most_s=30
    )
    assert lab.truth().path("open-1", "west-1").legs["transit"] == 7_000


def test_a_name_in_use_is_refused_and_the_lab_stays(lab):
    other = subprocess.run(
        [sys.executable, "-m", "lab.main", "up", "--bare", "--name", NAME, "--scenario", str(SCENARIO)],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1] / "scripts")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert other.returncode == NameTakenError.exit_code
    assert f"error: lab '{NAME}' is up" in other.stderr
    assert "try: scripts/lab/run down" in other.stderr
    assert cables.state(lab.folder, "west-uplink")


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "lab.main", *arguments],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1] / "scripts")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def background():
    """A lab held by a process of its own."""
    name = f"{NAME}k"
    made = command("up", "--bare", "--name", name, "--scenario", str(SCENARIO))
    assert made.returncode == 0, made.stderr
    yield name
    command("down", "--name", name)


def test_the_command_shows_changes_and_ends_a_lab(background, tmp_path):
    name = background
    shown = command("status", "--name", name)
    assert "east-1 -> west-1" in shown.stdout
    assert command("set", "--name", name, "east-uplink", "up.delay_ms=50").returncode == 0
    assert command("truth", "--name", name, str(tmp_path / "truth.json")).returncode == 0
    assert '"source-access": 55000' in (tmp_path / "truth.json").read_text()
    refused = command("set", "--name", name, "east-downlink", "delay_ms=1")
    assert refused.returncode == 1
    assert "one of: east-uplink, east-backbone" in refused.stderr

    found = state.read(name)
    assert command("down", "--name", name).returncode == 0
    assert_nothing_left(found)
    assert "is not up" in command("down", "--name", name).stdout


def test_a_lab_whose_holder_was_killed_is_swept(background):
    found = state.read(background)
    os.kill(found.keeper.pid, signal.SIGKILL)
    assert command("down", "--name", background).returncode == 0
    assert_nothing_left(found)


def test_the_next_lab_of_a_name_clears_what_a_crash_left(background):
    found = state.read(background)
    os.kill(found.keeper.pid, signal.SIGKILL)
    while start_time(found.keeper.pid) == found.keeper.started:
        os.sched_yield()
    lab = open_lab(SCENARIO, background)
    lab.down()
    assert_nothing_left(found)


def assert_nothing_left(found):
    assert net.existing().isdisjoint(found.namespaces)
    assert [one for one in found.processes if start_time(one.pid) == one.started] == []
    assert not Path(found.folder).exists()
    assert state.read(found.name) is None


def test_a_plan_that_cannot_be_made_leaves_nothing(monkeypatch):
    def fail(_plan):
        raise CommandError("ip: no")

    monkeypatch.setattr("lab.net.bring_up", fail)
    with pytest.raises(CommandError):
        open_lab(SCENARIO, f"{NAME}x")
    assert [name for name in net.existing() if name.startswith(f"pg-{NAME}x-")] == []
    assert state.read(f"{NAME}x") is None
