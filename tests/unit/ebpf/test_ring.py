"""The reader's end of the ring, over a file that is laid out as the kernel lays the ring out."""

import mmap
import os
import struct
from collections.abc import Iterator

import pytest

from ebpf.ring import Ring

PAGE = mmap.PAGESIZE
SIZE = PAGE
RECORD = 20  # padded to 24, with a header of 8: a stride that does not divide the ring
STRIDE = 32 + 0
BUSY = 1 << 31


class Kernel:
    """Writes records as the kernel does: the data pages appear twice."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("ring")
        os.ftruncate(self.descriptor, 2 * PAGE + 2 * SIZE)
        self.produced = 0

    def write(self, number: int, *, busy: bool = False) -> int:
        position = self.produced
        header = struct.pack("<II", RECORD | (BUSY if busy else 0), 0)
        self._put(position, header + struct.pack("<I", number).ljust(24, b"\0"))
        self.produced += 32
        os.pwrite(self.descriptor, struct.pack("=Q", self.produced), PAGE)
        return position

    def finish(self, position: int) -> None:
        self._put(position, struct.pack("<I", RECORD))

    def consumed(self) -> int:
        return int(struct.unpack("=Q", os.pread(self.descriptor, 8, 0))[0])

    def _put(self, position: int, data: bytes) -> None:
        for offset, byte in enumerate(data):
            at = (position + offset) % SIZE
            for copy in (0, SIZE):
                os.pwrite(self.descriptor, bytes([byte]), 2 * PAGE + copy + at)


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


def numbers(data: bytes) -> list[int]:
    return [struct.unpack_from("<I", data, at)[0] for at in range(0, len(data), RECORD)]


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


def test_the_ring_wraps(kernel: Kernel, ring: Ring) -> None:
    told = []
    for number in range(3 * SIZE // STRIDE + 7):
        kernel.write(number)
        if number % 5 == 0:
            told += numbers(ring.read())
    told += numbers(ring.read())
    assert told == list(range(3 * SIZE // STRIDE + 7))


def test_a_full_ring_is_read_in_one_go(kernel: Kernel, ring: Ring) -> None:
    for number in range(SIZE // STRIDE):
        kernel.write(number)
    assert numbers(ring.read()) == list(range(SIZE // STRIDE))
