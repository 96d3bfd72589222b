"""In processes of their own: what they set belongs to the whole process."""

import subprocess
import sys

import pytest

IMPORTS = "import os, threading\nfrom agent import footprint\nfrom analytics import memory"


def run(code: str, *before: str) -> str:
    done = subprocess.run(
        [
            *before,
            sys.executable,
            "-c",
            f"import os, threading\nfrom agent import footprint\nfrom analytics import memory\n{code}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout + done.stderr


def test_it_runs_before_ordinary_processes_and_so_do_its_threads() -> None:
    said = run(
        "assert footprint.be_prompt()\n"
        "print(os.sched_getscheduler(0) == os.SCHED_RR)\n"
        "t = threading.Thread(target=lambda: print(os.sched_getscheduler(0) == os.SCHED_RR))\n"
        "t.start(); t.join()"
    )
    assert said == "True\nTrue\n"


def test_a_run_without_a_wait_makes_it_ordinary_again() -> None:
    said = run(
        "footprint.LONGEST_RUN_US = 50_000\n"
        "footprint.be_prompt()\n"
        "while os.sched_getscheduler(0) != os.SCHED_OTHER: pass\n"
        "print('ordinary')"
    )
    assert "without a wait" in said
    assert "ordinary\n" in said


def test_without_the_privilege_it_goes_on_as_it_is() -> None:
    said = run("print(footprint.be_prompt())", "setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice")
    assert said.startswith("False\n")
    assert "CAP_SYS_NICE" in said


@pytest.mark.parametrize("times", [1, 2])
def test_it_gives_large_blocks_back(times: int) -> None:
    said = run(
        "def rss(): return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        f"for _ in range({times}): memory.be_small()\n"
        "before = rss()\n"
        "blocks = [bytearray(b'x') * 4_000_000 for _ in range(4)]; del blocks\n"
        "print(rss() - before < 4_000_000)"
    )
    assert said == "True\n"


def test_what_is_loaded_is_looked_through_no_more_and_what_comes_later_is() -> None:
    said = run(
        "import gc\n"
        "class Ring:\n"
        "    def __init__(self): self.me = self\n"
        "    def __del__(self): print('gone')\n"
        "kept = [[n] for n in range(10_000)]\n"
        "memory.settle(); memory.settle()\n"
        "print(len(gc.get_objects()) < 1_000)\n"
        "Ring(); memory.tidy()\n"
    )
    assert said == "True\ngone\n"
