"""The outbox on a real disk: nothing lost that was flushed, nothing sent twice under two names."""

import errno
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from agent.errors import FolderError, OutboxError
from agent.outbox import MOST_REFUSED, Outbox
from analytics.batch import Batch, check_batch, unpack_rows
from analytics.measurement import Flow


def flow(window_us: int) -> Flow:
    return Flow(tenant="default", agent="pacs", window_us=window_us, window_length_us=10_000_000)


def opened(body: bytes) -> Batch:
    return check_batch(zlib.decompress(body, wbits=31))


def drain(outbox: Outbox) -> list[tuple[str, int, list[int]]]:
    found = []
    while (waiting := outbox.oldest()) is not None:
        batch = opened(waiting.body)
        windows = [row.window_us for row in unpack_rows("flows", batch.tables["flows"])]
        found.append((batch.boot, batch.batch, windows))
        outbox.acknowledged(waiting)
    return found


def test_batches_leave_in_order_and_only_when_acknowledged(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, "pacs")
    assert not outbox.flush()
    outbox.add("flows", [flow(1), flow(2)])
    assert outbox.oldest() is None
    assert outbox.flush()
    outbox.add("flows", [flow(3)])
    assert outbox.flush()
    assert len(outbox) == 2
    first = outbox.oldest()
    assert first == outbox.oldest()
    assert drain(outbox) == [(outbox.boot, 0, [1, 2]), (outbox.boot, 1, [3])]
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_life_keeps_its_numbers(tmp_path: Path) -> None:
    first = Outbox(tmp_path, "pacs")
    first.add("flows", [flow(1)])
    first.flush()
    second = Outbox(tmp_path, "pacs")
    second.add("flows", [flow(2)])
    second.flush()
    assert first.boot != second.boot
    assert drain(second) == [(first.boot, 0, [1]), (second.boot, 0, [2])]


def test_when_it_is_full_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, "pacs", max_bytes=2_000)
    for window in range(12):
        outbox.add("flows", [flow(window)])
        outbox.flush()
    assert outbox.dropped_batches > 0
    kept = [window for _, _, windows in drain(outbox) for window in windows]
    assert kept == list(range(outbox.dropped_batches, 12))


def test_a_damaged_batch_is_set_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, "pacs")
    for window in (1, 2):
        outbox.add("flows", [flow(window)])
        outbox.flush()
    first = sorted(tmp_path.glob("*.batch"))[0]
    first.write_bytes(first.read_bytes()[:-1] + b"?")
    assert [windows for _, _, windows in drain(outbox)] == [[2]]
    assert [path.name for path in tmp_path.iterdir()] == [f"{first.name}.refused"]


def test_a_batch_that_cannot_be_read_now_is_not_damaged(tmp_path: Path, no_free_descriptor: Any) -> None:
    outbox = Outbox(tmp_path, "pacs")
    for window in (1, 2):
        outbox.add("flows", [flow(window)])
        outbox.flush()
    with no_free_descriptor(), pytest.raises(OutboxError, match=r"read the outbox .*: Too many open files"):
        outbox.oldest()
    assert [windows for _, _, windows in drain(outbox)] == [[1], [2]]


def test_a_batch_that_is_gone_is_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, "pacs")
    for window in (1, 2):
        outbox.add("flows", [flow(window)])
        outbox.flush()
    sorted(tmp_path.glob("*.batch"))[0].unlink()
    assert [windows for _, _, windows in drain(outbox)] == [[2]]
    assert outbox.dropped_batches == 1


def test_a_folder_that_turns_read_only_is_one_error_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def unlink(path: Path, **how: Any) -> None:
        if path.suffix == ".batch":
            refuse()
        really(path, **how)

    really = Path.unlink
    outbox = Outbox(tmp_path, "pacs", max_bytes=1)
    outbox.add("flows", [flow(1)])
    outbox.flush()
    waiting = outbox.oldest()
    assert waiting is not None
    with monkeypatch.context() as read_only:  # root may write anywhere, so the calls fail instead
        read_only.setattr(Path, "unlink", unlink)
        read_only.setattr(Path, "rename", refuse)
        with pytest.raises(OutboxError, match=r"remove a batch from .*: Read-only file system"):
            outbox.acknowledged(waiting)
        with pytest.raises(OutboxError, match=r"set a batch aside in .*: Read-only file system"):
            outbox.refused(waiting, "malformed")
        outbox.add("flows", [flow(2)])
        assert outbox.flush()
    assert caplog.text.count("oldest batch cannot be dropped") == 1
    assert [windows for _, _, windows in drain(outbox)] == [[1], [2]]


def test_a_row_the_server_would_refuse_does_not_spoil_its_batch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(tmp_path, "pacs")
    outbox.add("flows", [flow(1), flow(-1), flow(2)])
    assert outbox.flush()
    assert [windows for _, _, windows in drain(outbox)] == [[1, 2]]
    assert outbox.dropped_rows == 1
    assert "flows.window_us: outside 0.." in caplog.text


def test_refused_batches_are_kept_but_not_without_end(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, "pacs")
    for window in range(MOST_REFUSED + 3):
        outbox.add("flows", [flow(window)])
        outbox.flush()
        waiting = outbox.oldest()
        assert waiting is not None
        outbox.refused(waiting, "malformed")
    assert len(outbox) == 0
    assert len(list(tmp_path.glob("*.refused"))) == MOST_REFUSED


def test_what_the_disk_does_not_take_waits_in_memory(tmp_path: Path) -> None:
    """Root may write anywhere, so the folder is taken away instead."""
    outbox = Outbox(tmp_path / "outbox", "pacs")
    (tmp_path / "outbox").rmdir()
    outbox.add("flows", [flow(1)])
    assert not outbox.flush()
    (tmp_path / "outbox").mkdir()
    outbox.add("flows", [flow(2)])
    assert outbox.flush()
    assert drain(outbox) == [(outbox.boot, 1, [1, 2])]


def test_a_file_in_place_of_the_folder_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("in the way")
    with pytest.raises(FolderError, match=r"outbox.*File exists") as caught:
        Outbox(tmp_path / "outbox", "pacs")
    assert caught.value.remedy


def test_a_torn_file_is_not_a_batch(tmp_path: Path) -> None:
    (tmp_path / "00000000000000000001-aa-00000000.batch.tmp").write_bytes(b"PGOB")
    assert len(Outbox(tmp_path, "pacs")) == 0
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from pathlib import Path
from agent.outbox import Outbox
from analytics.measurement import Flow
outbox = Outbox(Path(sys.argv[1]), "pacs")
for window in range(1, 1_000_000):
    outbox.add("flows", [Flow(tenant="default", agent="pacs", window_us=window, window_length_us=1)])
    outbox.flush()
    print(window, flush=True)
"""


def test_kill_9_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert writer.stdout is not None
    flushed = [int(writer.stdout.readline()) for _ in range(50)]
    writer.send_signal(signal.SIGKILL)
    flushed += [int(line) for line in writer.stdout.read().split()]
    writer.wait(30)
    outbox = Outbox(tmp_path, "pacs")
    windows = [window for _, _, windows in drain(outbox) for window in windows]
    assert windows[: len(flushed)] == flushed
    assert len(windows) <= len(flushed) + 1
