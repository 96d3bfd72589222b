"""The reader's end of the ring, over a file that is laid out as the kernel lays the ring out."""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebpf.ring import Ring

PAGE = mmap.PAGESIZE
SIZE = PAGE
HEADER = 8
RECORD = 60  # padded to 64, with its header: a stride that does not divide the ring, so that records wrap
STRIDE = 72
BUSY = 1 << 31
MARK = b"last"  # of each record, so that a wrongly joined one is seen
ROOM = SIZE // STRIDE


class Kernel:
    """Writes records as the kernel does; one that wraps goes on at the start of the data."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("ring")
        os.ftruncate(self.descriptor, 2 * PAGE + SIZE)
        self.produced = 0

    def write(self, number: int, *, busy: bool = False) -> int:
        position = self.produced
        header = struct.pack("<II", RECORD | (BUSY if busy else 0), 0)
        self._put(position, header + struct.pack("<I", number).ljust(STRIDE - HEADER - 4, b"\xee") + MARK)
        self.produced += STRIDE
        os.pwrite(self.descriptor, struct.pack("=Q", self.produced), PAGE)
        return position

    def finish(self, position: int) -> None:
        self._put(position, struct.pack("<I", RECORD))

    def consumed(self) -> int:
        return int(struct.unpack("=Q", os.pread(self.descriptor, 8, 0))[0])

    def _put(self, position: int, data: bytes) -> None:
        for offset, byte in enumerate(data):
            os.pwrite(self.descriptor, bytes([byte]), 2 * PAGE + (position + offset) % SIZE)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    os.close(made.descriptor)


@pytest.fixture
def ring(kernel: Kernel) -> Iterator[Ring]:
    made = Ring(kernel.descriptor, ring_bytes=SIZE, record_size=RECORD)
    yield made
    made.close()


def numbers(run: bytes) -> list[int]:
    """Take a run apart: records with their headers, nothing between."""
    assert len(run) % STRIDE == 0
    told = []
    for at in range(0, len(run), STRIDE):
        length, _, number = struct.unpack_from("<III", run, at)
        assert length == RECORD
        assert run[at : at + STRIDE].endswith(MARK)
        told.append(number)
    return told


def test_records_come_out_once_and_in_order(kernel: Kernel, ring: Ring) -> None:
    assert ring.read() == b""
    for number in range(5):
        kernel.write(number)
    assert numbers(ring.read()) == [0, 1, 2, 3, 4]
    assert ring.read() == b""
    assert kernel.consumed() == kernel.produced


def test_reading_stops_before_a_record_that_is_being_written(kernel: Kernel, ring: Ring) -> None:
    kernel.write(1)
    unfinished = kernel.write(2, busy=True)
    kernel.write(3)
    assert numbers(ring.read()) == [1]
    assert numbers(ring.read()) == []
    kernel.finish(unfinished)
    assert numbers(ring.read()) == [2, 3]


@pytest.mark.parametrize("every", [1, 5, ROOM - 1, ROOM])
def test_the_ring_wraps(kernel: Kernel, ring: Ring, every: int) -> None:
    """Often enough for a record to be cut at each place there is."""
    count = 4 * SIZE // 8 + 7
    told = []
    for number in range(count):
        kernel.write(number)
        if number % every == 0:
            told += numbers(ring.read())
    told += numbers(ring.read())
    assert told == list(range(count))


def test_a_busy_record_behind_the_wrap_is_waited_for(kernel: Kernel, ring: Ring) -> None:
    for number in range(ROOM):
        kernel.write(number)
    ring.read()
    kernel.write(1)  # this one wraps
    unfinished = kernel.write(2, busy=True)
    kernel.write(3)
    assert numbers(ring.read()) == [1]
    kernel.finish(unfinished)
    assert numbers(ring.read()) == [2, 3]


def test_a_full_ring_is_read_in_one_go(kernel: Kernel, ring: Ring) -> None:
    for number in range(ROOM):
        kernel.write(number)
    assert numbers(ring.read()) == list(range(ROOM))


def test_how_full_it_is(kernel: Kernel, ring: Ring) -> None:
    assert ring.waiting == 0
    for number in range(ROOM // 2):
        kernel.write(number)
    assert ring.waiting == pytest.approx(0.5, abs=STRIDE / SIZE)
    ring.read()
    assert ring.waiting == 0


def test_a_record_of_another_size_is_not_passed_on(kernel: Kernel, ring: Ring) -> None:
    kernel.write(1)
    position = kernel.write(2)
    kernel._put(position, struct.pack("<I", RECORD + 8))
    with pytest.raises(AssertionError, match="ring record of 0x44 bytes"):
        ring.read()


def test_the_data_is_mapped_once(kernel: Kernel, ring: Ring) -> None:
    """Mapped twice it would count as resident twice."""
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:ring" in line]
    sizes = [int(end, 16) - int(start, 16) for start, end in (one[0].split("-") for one in maps)]
    assert sum(sizes) == 2 * PAGE + SIZE


def test_closing_twice_is_no_error(kernel: Kernel) -> None:
    ring = Ring(kernel.descriptor, ring_bytes=SIZE, record_size=RECORD)
    ring.close()
    ring.close()
