"""Reading the BPF ring buffer in bulk, without a wake-up or a step per record.

The layout is fixed by the kernel (kernel/bpf/ringbuf.c)::

    page 0      consumer position u64   (ours to write)
    page 1      producer position u64
    pages 2..   data; the kernel maps it twice in a row, so that a record never wraps. We map it once, because
                both would count as resident, and join the one that wraps

    record      length u32 (bit 31: being written, bit 30: discarded), page u32, data, padding to 8 bytes

Positions only grow. All records of our ring are of one size, so a run of them is one slice, and so are their
first words, with a stride. Records are handed on with their headers, which costs nothing.

Headers are looked at before data is copied: on x86, where loads keep their order, the data is then whole.
Weakly ordered machines would need a barrier that Python has not; bcc's own reader is for those.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final

_BUSY: Final = 1 << 31
_HEADER_SIZE: Final = 8
_LENGTH: Final = struct.Struct("=I")
_WORD: Final = _LENGTH.size


class Ring:
    """The reader's end of one ring buffer map."""

    def __init__(self, descriptor: int, *, ring_bytes: int, record_size: int) -> None:
        """Map the ring: ``ring_bytes`` is a power of two and of whole pages. Raises OSError."""
        self._size = ring_bytes
        self._record_size = record_size
        self._whole = _LENGTH.pack(record_size)
        self._stride = _HEADER_SIZE + (record_size + 7) // 8 * 8
        page = mmap.PAGESIZE
        self._consumer_pages = mmap.mmap(descriptor, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._pages = mmap.mmap(descriptor, page + ring_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        # Views, because an access through one is a single aligned load or store, as the kernel's side needs.
        self._consumer = memoryview(self._consumer_pages).cast("Q")
        self._producer = memoryview(self._pages)[:page].cast("Q")
        self._data = memoryview(self._pages)[page:]
        self._words = self._data.cast("I")

    @property
    def waiting(self) -> float:
        """How full the ring is, 0 to 1."""
        return (self._producer[0] - self._consumer[0]) / self._size

    def read(self) -> bytes:
        """Take the records written by now, oldest first, each with its header."""
        start, end = self._consumer[0], self._producer[0]
        taken = []
        while start < end:
            # A pass ends where the ring does, so that at most one ring's worth is copied at once.
            count = self._finished(start, min(end, start + self._size))
            if not count:
                break
            taken.append(self._copy(start, count * self._stride))
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
        """Count the records from ``start`` that are completely written."""
        first, step = start % self._size // _WORD, self._stride // _WORD
        lengths = bytes(self._words[first : first + (end - start) // _WORD : step])
        past_end = first + len(lengths) // _WORD * step - self._size // _WORD
        if len(lengths) // _WORD * self._stride < end - start:
            lengths += bytes(self._words[past_end : (end % self._size) // _WORD : step])
        count = len(lengths) // _WORD
        if lengths == self._whole * count:
            return count
        return self._whole_at_first(lengths)

    def _whole_at_first(self, lengths: bytes) -> int:
        """Count up to the first that is being written. Our programs never discard, and write one size."""
        for count, (length,) in enumerate(_LENGTH.iter_unpack(lengths)):
            if length & _BUSY:
                return count
            assert length == self._record_size, f"ring record of {length:#x} bytes"
        return len(lengths) // _WORD

    def _copy(self, start: int, length: int) -> bytes:
        first = start % self._size
        before_wrap = bytes(self._data[first : first + length])
        return before_wrap + bytes(self._data[: length - len(before_wrap)])
