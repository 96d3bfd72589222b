"""Reading the BPF ring buffer in bulk, without a wake-up or a call per record.

The layout is fixed by the kernel (kernel/bpf/ringbuf.c)::

    page 0      consumer position u64   (ours to write)
    page 1      producer position u64
    pages 2..   data, mapped twice in a row, so that a record never wraps

    record      length u32 (bit 31: being written, bit 30: discarded), page u32, data, padding to 8 bytes

Positions only grow. All records of our ring are of one size, so that a run of them is one slice.
"""

from __future__ import annotations

import mmap
from typing import Final

_BUSY: Final = 1 << 31
_HEADER_SIZE: Final = 8
_WORD: Final = 4


class Ring:
    """The reader's end of one ring buffer map."""

    def __init__(self, descriptor: int, *, ring_bytes: int, record_size: int) -> None:
        """Map the ring: ``ring_bytes`` is a power of two and of whole pages. Raises OSError."""
        self._mask = ring_bytes - 1
        self._record_size = record_size
        self._stride = _HEADER_SIZE + (record_size + 7) // 8 * 8
        page = mmap.PAGESIZE
        self._consumer_pages = mmap.mmap(descriptor, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._pages = mmap.mmap(
            descriptor, page + 2 * ring_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        # Views, because an access through one is a single aligned load or store, as the kernel's side needs.
        self._consumer = memoryview(self._consumer_pages).cast("Q")
        self._producer = memoryview(self._pages)[:page].cast("Q")
        self._data = memoryview(self._pages)[page:]
        self._words = self._data.cast("I")

    def read(self) -> bytes:
        """Take the records written by now, oldest first, one after the other without gaps."""
        start, end = self._consumer[0], self._producer[0]
        taken = []
        while start < end:
            # A pass ends where the ring does, so that at most one ring's worth is copied at once.
            count = self._finished(start, min(end, start + self._mask + 1))
            if not count:
                break
            taken.append(self._copy(start, count))
            start += count * self._stride
            self._consumer[0] = start
        return b"".join(taken)

    def close(self) -> None:
        """Unmap the ring. Closing twice is no error."""
        for view in (self._words, self._data, self._producer, self._consumer):
            view.release()
        self._pages.close()
        self._consumer_pages.close()

    def _finished(self, start: int, end: int) -> int:
        """Count the records from ``start`` that are completely written.

        Headers are looked at before any data is copied: on x86 loads keep their order, so data is then whole.
        """
        count = 0
        for position in range(start, end, self._stride):
            length = self._words[(position & self._mask) // _WORD]
            if length & _BUSY:
                break
            # Our programs never discard, and write records of one size.
            assert length == self._record_size, f"ring record of {length:#x} bytes"
            count += 1
        return count

    def _copy(self, start: int, count: int) -> bytes:
        first = start & self._mask
        run = bytes(self._data[first : first + count * self._stride])
        bodies = range(_HEADER_SIZE, len(run), self._stride)
        return b"".join(run[at : at + self._record_size] for at in bodies)
