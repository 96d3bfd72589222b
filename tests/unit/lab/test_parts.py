import subprocess
import sys

import pytest
from lab.cables import parse_setting
from lab.dicom import write_ct
from lab.errors import CableError, PartError
from lab.processes import Parts, end_stranger, start_time
from lab.tcp_info import Sample, parse

FOREVER = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest.fixture
def parts(tmp_path):
    seen = []
    made = Parts(tmp_path, lambda name, pid: seen.append((name, pid)))
    yield made
    made.stop()
    assert all(start_time(pid) is None for _, pid in seen)


def test_a_part_that_ends_is_said_with_its_last_words(parts):
    parts.start("teller", [sys.executable, "-c", "print('no more paper'); raise SystemExit(3)"])
    with pytest.raises(PartError, match=r"(?s)teller: ended with exit code 3.*no more paper"):
        parts.wait_until(lambda: False, what="never", at_most_s=20)


def test_waiting_has_an_end(parts):
    parts.start("quiet", FOREVER)
    with pytest.raises(PartError, match=r"the moon: not within 0\.2 s"):
        parts.wait_until(lambda: False, what="the moon", at_most_s=0.2)


def test_a_part_that_does_not_end_on_sigterm_is_killed(parts, monkeypatch):
    monkeypatch.setattr("lab.processes.END_S", 0.2)
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    part = parts.start("deaf", [sys.executable, "-c", deaf])
    parts.wait_until(lambda: "deaf" in part.log_tail(), what="it says so", at_most_s=20)
    parts.stop()
    assert part.process.returncode == -9


def test_a_stranger_with_the_same_number_is_left_alone():
    stranger = subprocess.Popen(FOREVER)
    started = start_time(stranger.pid)
    assert started is not None
    end_stranger(stranger.pid, started - 1)
    assert stranger.poll() is None
    end_stranger(stranger.pid, started)
    assert stranger.wait(30) == -15


def test_a_setting_without_a_direction_is_for_both():
    assert parse_setting("delay_ms=1.5") == {"up.delay_us": 1_500, "down.delay_us": 1_500}
    assert parse_setting("down.loss_percent=0.3") == {"down.loss_ppm": 3_000}


@pytest.mark.parametrize(
    "text", ["", "delay_ms", "sideways.delay_ms=1", "delay_us=1", "up.delay_ms=soon", "up.delay_ms=inf"]
)
def test_what_is_not_a_setting_is_an_error_with_a_remedy(text):
    with pytest.raises(CableError) as caught:
        parse_setting(text)
    assert caught.value.remedy


def test_tcp_info_as_ss_prints_it():
    text = (
        "ESTAB 0 0 10.20.0.10:4242 203.0.113.6:40110 cubic wscale:7,7 rto:464 rtt:260.9/1.5 ato:40 mss:1448"
        " cwnd:20 minrtt:258.75\nESTAB 0 0 10.20.0.10:4242 203.0.113.6:40112 cubic\n"
    )
    assert parse(text) == [Sample(260_900, 258_750)]


def test_a_synthetic_study_is_the_same_for_the_same_seed(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (write_ct(tmp_path / name, 2, seed=7) for name in ("one", "two"))
    files = [sorted(path.read_bytes() for path in study.folder.iterdir()) for study in (one, two)]
    assert files[0] == files[1]
    assert len(one.instances) == 2
    assert one.bytes > 2 * 512 * 512 * 2
    assert all(file[128:132] == b"DICM" for file in files[0])
