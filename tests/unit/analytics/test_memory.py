"""What a process has let go of is given back: each in a process of its own, as an allocator is."""

import subprocess
import sys
from textwrap import dedent

RSS = """
    def rss_mb():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096 // 1_000_000
"""


def said(program: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", dedent(RSS) + dedent(program)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return [int(word) for word in done.stdout.split()]


def test_a_database_gives_back_what_was_dropped_without_another_question() -> None:
    before, full, after = said("""
        import time
        from pathlib import Path
        from tempfile import gettempdir
        from analytics.store.query import Limits, connect
        database = connect(Limits(), Path(gettempdir()))
        print(before := rss_mb())
        database.execute("CREATE TABLE rows AS SELECT hash(i) AS n FROM range(6_000_000) AS rows(i)")
        print(rss_mb())
        database.execute("DROP TABLE rows")
        until = time.monotonic() + 20
        while rss_mb() > before + 20 and time.monotonic() < until:
            time.sleep(0.1)
        print(rss_mb())
    """)
    assert full > before + 40
    assert after <= before + 20


def test_what_arrow_took_in_many_threads_is_given_back() -> None:
    """Its own pool kept two thirds of it, and counted none of that."""
    own, before, full, after = said("""
        import ctypes, threading
        from analytics.memory import be_small, give_back, one_pool
        one_pool()
        be_small(2)
        import pyarrow as pa
        print(int(pa.default_memory_pool().backend_name != "system"))
        together = threading.Barrier(9, timeout=30)
        def work():
            taken = [pa.allocate_buffer(200_000) for _ in range(25)]
            for buffer in taken:
                ctypes.memset(buffer.address, 1, buffer.size)
            together.wait()
            taken.clear()
            del buffer
            together.wait()
            together.wait()
        threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
        print(rss_mb())
        for thread in threads:
            thread.start()
        together.wait()
        print(rss_mb())
        together.wait()
        give_back()
        print(rss_mb())
        together.wait()
    """)
    assert not own
    assert full > before + 30
    assert after <= before + 10
