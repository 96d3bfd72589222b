"""READ FIRST for the faults: each is done to a world, and says what was expected and what was seen.

A fault may assume that all agents are on line and that nothing waits; it leaves the world so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from benches import net
from benches.mesh_fleet import AGENTS_PORT, SERVER, pathgrade

from faults import world as worlds
from faults.world import HERD, World

FAKETIME: Final = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketimeMT.so.1")


class Seen(NamedTuple):
    """What was seen, in words; whether it is as expected."""

    words: str
    good: bool


class Fault(NamedTuple):
    """One row of the table."""

    name: str
    words: str
    expected: str
    do: Callable[[World], Seen]


# --- the server ---------------------------------------------------------------------------------------------


def kill_server(made: World) -> Seen:
    back = []
    for _ in range(2):
        time.sleep(1.5)
        made.kill_server()
        began = time.monotonic()
        made.start_server()
        made.all_online()
        back.append(time.monotonic() - began)
    made.drained()
    return Seen(f"twice; all on line again after {max(back):.0f} s", True)


def stop_server(made: World) -> Seen:
    time.sleep(1)
    began = time.monotonic()
    code = made.stop_server()
    took = time.monotonic() - began
    made.start_server()
    made.all_online()
    made.drained()
    return Seen(f"exit {code} after {took:.1f} s", code == 0 and took < 20)


def herd(made: World) -> Seen:
    part = made.replay("herd", [f"h{number:03d}" for number in range(HERD)], every_s=0)
    try:
        made.all_online(HERD)
        made.kill_server()
        began = time.monotonic()
        made.start_server()
        slowest = 0.0
        while made.online() < made.everyone + HERD and time.monotonic() - began < worlds.PATIENCE_S:
            slowest = max(slowest, made.answer_s() or 99.0)
            time.sleep(0.2)
        took = time.monotonic() - began
    finally:
        part.process.terminate()
        part.process.wait(30)
    made.until(lambda: made.online() <= made.everyone, "the herd is gone")
    made.all_online()
    made.drained()
    return Seen(
        f"{HERD} more on line {took:.0f} s after a kill; a page took {slowest:.1f} s at most",
        took < 60 and slowest < 10,
    )


# --- its disk -----------------------------------------------------------------------------------------------


def disk_full(made: World) -> Seen:
    filler = made.data / "filler"
    net.run(["fallocate", "-l", f"{_free(made) - 4096}", str(filler)], within_s=60)
    try:
        with filler.with_name("filler-2").open("wb") as rest:
            _fill(rest)
        made.until(lambda: made.metric("batches_not_stored") > 0, "batches are not stored")
        refused = made.metric("batches_not_stored")
        answer = made.answer_s()
    finally:
        for one in made.data.glob("filler*"):
            one.unlink()
    took = made.drained()
    return Seen(
        f"{refused:.0f} batches not stored, kept by agents, taken {took:.0f} s after there was room;"
        f" a page meanwhile in {answer or 99:.1f} s",
        answer is not None,
    )


def _free(made: World) -> int:
    return shutil.disk_usage(made.data).free


def _fill(file: Any) -> None:
    try:
        while True:
            file.write(bytes(4096))
            file.flush()
    except OSError:
        return


def disk_readonly(made: World) -> Seen:
    net.run(["mount", "-o", "remount,abort", str(made.data)])
    made.until(lambda: made.waiting() > 3 * made.size.replayed, "agents keep what is not taken")
    answer = made.answer_s()
    try:
        code = str(made.stop_server(30))
    except Exception:  # it hangs: seen, and said
        code = "hangs"
        made.kill_server()
    made.repair_disk()
    made.start_server()
    made.all_online()
    made.drained()
    return Seen(
        f"nothing acknowledged, a page in {answer or 99:.1f} s, exit {code}; all taken after a repair",
        answer is not None and code != "hangs",
    )


def disk_slow(made: World) -> Seen:
    made.slow_disk(400)
    slowest, most = 0.0, 0
    began = time.monotonic()
    while time.monotonic() - began < 8:
        slowest = max(slowest, made.answer_s() or 99.0)
        most = max(most, made.waiting())
        time.sleep(0.2)
    made.slow_disk(0)
    took = made.drained()
    return Seen(
        f"up to {most} batches waited, none after {took:.0f} s; a page took {slowest:.1f} s at most",
        slowest < 5,
    )


# --- time and names -----------------------------------------------------------------------------------------


def clock_jumps(made: World) -> Seen:
    clock = made.folder / "clock"
    clock.write_text("+0")
    made.stop_server()
    preload = f"{FAKETIME}:{made.folder / 'slow_sync.so'}"
    made.start_server(
        LD_PRELOAD=preload,
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_CACHE_DURATION="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        DONT_FAKE_MONOTONIC="1",
    )
    made.all_online()
    told = []
    for jump in ("+3600", "-3600"):
        clock.write_text(jump)
        made.until(_more(made), f"tests go on after {jump} s")
        told.append(f"{jump} s: {made.online()} on line")
        made.drained()
    clock.write_text("+0")
    made.stop_server()
    made.start_server()
    made.all_online()
    made.drained()
    return Seen("; ".join(told) + ", tests go on", True)


def _more(made: World) -> Callable[[], bool]:
    """Whether more pairs are tested than by now."""
    before = made.tests()
    return lambda: made.tests() > before + 2


def dns_gone(made: World) -> Seen:
    hosts, resolv = made.folder / "hosts", made.folder / "resolv.conf"
    hosts.write_text("127.0.0.1 localhost\n")
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    config = made.folder / "named.toml"
    data = made.folder / "named"
    config.write_text(
        f'server = "https://pathgrade.test:{AGENTS_PORT}"\ntoken = "{made.token(1)}"\nname = "named"\n'
        f'site = "named"\ndata = "{data}"\npassive = "off"\n'
    )
    mounts = f"mount --bind {hosts} /etc/hosts && mount --bind {resolv} /etc/resolv.conf"
    command = f"{mounts} && exec {pathgrade()} agent run --config {config}"
    log = made.folder / "named.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            net.inside(made.stranger, ["unshare", "-m", "sh", "-c", command]), stdout=out, stderr=out
        )
    try:
        made.until(lambda: "not enrolled" in log.read_text(errors="replace"), "it says that it cannot enrol")
        said = re.search(r"not enrolled .*", log.read_text(errors="replace"))
        alive = process.poll() is None
        hosts.write_text(f"127.0.0.1 localhost\n{SERVER} pathgrade.test\n")
        took = made.all_online(1)
    finally:
        process.terminate()
        process.wait(30)
    made.until(lambda: made.online() <= made.everyone, "it is gone")
    return Seen(f"{said[0][:60] if said else ''}...; on line {took:.0f} s after the name resolves", alive)


# --- the network --------------------------------------------------------------------------------------------


@contextmanager
def dropped(made: World, address: str) -> Iterator[None]:
    """Drop all that is to and from an address, on the router: neither end is told."""
    rules = (
        "table inet chaos {\nchain drops {\ntype filter hook forward priority 0;\n"
        f"ip saddr {address} drop\nip daddr {address} drop\n}}\n}}\n"
    )
    net.run(net.inside(made.router, ["nft", "-f", "-"]), stdin=rules)
    try:
        yield
    finally:
        net.run(net.inside(made.router, ["nft", "delete", "table", "inet", "chaos"]))


def half_open(made: World) -> Seen:
    with dropped(made, worlds.address(1)):
        noticed = made.until(lambda: made.online() < made.everyone, "the server notices")
    took = made.all_online()
    return Seen(f"noticed after {noticed:.0f} s; back {took:.0f} s after the way was", noticed < 45)


# --- strangers ----------------------------------------------------------------------------------------------


def connections(made: World) -> Seen:
    before = made.metric("connections_refused_total")
    found = made.attack("connections")
    refused = made.metric("connections_refused_total") - before
    answer, online = made.answer_s(), made.online()
    took = made.drained()
    return Seen(
        f"{found['made']} made, {found['held']} held, {found['left']} left; {refused:.0f} turned away;"
        f" {online} agents on line, a page in {answer or 99:.1f} s, nothing waits {took:.0f} s later",
        online == made.everyone and found["left"] <= 600 and answer is not None,
    )


def slowloris(made: World) -> Seen:
    found = made.attack("slowloris", patience_s=50)
    answer = made.answer_s()
    longest = max(found.values())
    words = ", ".join(f"{kind} {lasted:.0f} s" for kind, lasted in found.items())
    return Seen(f"let go after: {words}; a page in {answer or 99:.1f} s", longest < 45 and answer is not None)


def bombs(made: World) -> Seen:
    made.look()
    before = made.most_rss_kb
    found = made.attack("bombs", token=made.token(1))
    made.drained()
    answers = found.get("answers", {})
    good = bool(answers) and "200" not in answers and not any(code.startswith("5") for code in answers)
    grown = (made.most_rss_kb - before) / 1000
    return Seen(f"{_counts(answers)}; server's peak memory +{max(0, grown):.0f} MB", good and grown < 300)


def malformed(made: World) -> Seen:
    found = made.attack("malformed", token=made.token(1))
    made.drained()
    batches = found.get("batches", {})
    good = not any(code.startswith("5") for code in batches) and found.get("stun_answered") == 0
    good = good and made.online() == made.everyone
    return Seen(
        f"batches {_counts(batches)}; control {_counts(found.get('control', {}))};"
        f" {found.get('stun')} STUN, {found.get('stun_answered')} answered",
        good,
    )


def forged_peers(made: World) -> Seen:
    before, of_before = len(made.fleet.server_log), _refused(made)
    found = made.attack("forge", where=made.router, seconds=25, ports=[AGENTS_PORT, 3478, 3479])
    log = made.fleet.server_log[before:]
    ended = re.findall(r" test ended .* rung=(\w+) error=(.*)", log)
    well = sum(rung == "lan" and error == "''" for rung, error in ended)
    made.until(lambda: _refused(made) != of_before, "agents tell what they refused")
    kinds = {kind: count - of_before.get(kind, 0) for kind, count in _refused(made).items()}
    return Seen(
        f"{found.get('replayed', 0)} packets sent again, {found.get('forged', 0)} changed; agents refused"
        f" {_counts(kinds)}; {well} of {len(ended)} tests ended well",
        bool(found) and bool(ended) and well == len(ended),
    )


def _refused(made: World) -> dict[str, int]:
    """Packets that the real agents refused, by kind, as their health says."""
    told: Counter[str] = Counter()
    for part in made.fleet.agents.values():
        said = re.findall(r"packets_refused=(\S+)", part.log.read_text(errors="replace"))
        for kind, count in re.findall(r"(\w+):(\d+)", said[-1] if said else ""):
            told[kind] += int(count)
    return dict(told)


def brute_force(made: World) -> Seen:
    found = made.attack("brute")["answers"]
    counted = made.metric("enrolments_put_off")
    refused = found.get("401", 0)
    return Seen(
        f"{refused} of {sum(found.values())} looked at, {found.get('429', 0)} put off, {counted:.0f} counted",
        0 < refused < 40 and counted > 0 and set(found) <= {"401", "429"},
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in sorted(counts.items()))


# --- agents -------------------------------------------------------------------------------------------------


def kill_agent(made: World) -> Seen:
    name = next(iter(made.fleet.agents))
    started = len(re.findall(r"cycle started", made.fleet.server_log))
    made.until(lambda: len(re.findall(r"cycle started", made.fleet.server_log)) > started, "a cycle starts")
    time.sleep(0.5)
    victim = made.fleet.agents[name]
    victim.process.kill()
    victim.process.wait()
    noticed = made.until(lambda: made.online() < made.everyone, "the server notices")
    before = made.tests()
    made.until(lambda: made.tests() > before, "the others' tests go on")
    made.fleet.start_again(name)
    made.all_online()
    return Seen(f"noticed after {noticed:.1f} s, the others' tests went on, it is back", True)


FAULTS: Final = (
    Fault(
        "kill-server",
        "server: SIGKILL, under load",
        "agents come back, every row is there once",
        kill_server,
    ),
    Fault("stop-server", "server: SIGTERM, under load", "exit 0 within 20 s, nothing lost", stop_server),
    Fault(
        "disk-full",
        "no room on the server's disk",
        "not acknowledged, agents keep it; pages answer",
        disk_full,
    ),
    Fault("disk-slow", "each fsync takes 400 ms more", "late, none lost; pages within 5 s", disk_slow),
    Fault(
        "disk-readonly",
        "the server's file system fails and is read-only",
        "not acknowledged; pages answer; it ends when told",
        disk_readonly,
    ),
    Fault("clock", "server's clock +1 h, then -1 h", "agents stay, tests go on", clock_jumps),
    Fault(
        "dns",
        "the server's name does not resolve",
        "the agent says so, waits, enrols when it does",
        dns_gone,
    ),
    Fault(
        "half-open",
        "packets of an agent vanish",
        "noticed within 45 s; it comes back by itself",
        half_open,
    ),
    Fault(
        "connections",
        "10,000 bad connections, 2,000 held",
        "agents stay, pages answer, strangers bounded",
        connections,
    ),
    Fault(
        "slowloris",
        "150 slow handshakes, heads, bodies",
        "each let go within 45 s, pages answer",
        slowloris,
    ),
    Fault("bombs", "oversized and compressed-bomb bodies", "refused (4xx), memory bounded", bombs),
    Fault("malformed", "STUN, batches, control messages", "refused (4xx, 400x) or dropped", malformed),
    Fault(
        "forged-peers",
        "on the way between agents: packets again, and changed",
        "refused and counted, tests end well",
        forged_peers,
    ),
    Fault(
        "brute-force",
        "300 guessed enrolment tokens",
        "a few looked at, the rest put off and counted",
        brute_force,
    ),
    Fault(
        "kill-agent",
        "agent: SIGKILL in the midst of tests",
        "noticed, others go on, it comes back",
        kill_agent,
    ),
    Fault("herd", f"{HERD} more agents come back at once", "all within 60 s, pages answer", herd),
)
