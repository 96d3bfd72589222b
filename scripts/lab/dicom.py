"""Writes a synthetic CT study: real DICOM files (PS3.10, explicit VR little endian) of a phantom.

A slice is 512 x 512 pixels of 16 bits, 525 kB with its header, as a real CT's is. The same seed gives
the same bytes.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SIDE: Final = 512  # pixels
CT_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
UID_ROOT: Final = "2.25.84120337"  # under the UUID arc (PS3.5 B.2), which needs no registration

AIR_HU: Final = -1_000
TISSUE_HU: Final = 40
NOISE_HU: Final = 12
LONG_LENGTH_VRS: Final = {b"OB", b"OW"}

Element = tuple[int, int, bytes, bytes]
"""Group, element, value representation, value."""


@dataclass(frozen=True, slots=True)
class Study:
    """What was written. ``instances`` are the SOP instance UIDs in slice order."""

    folder: Path
    study_uid: str
    series_uid: str
    instances: tuple[str, ...]
    bytes: int


def write_ct(folder: Path, images: int, seed: int) -> Study:
    """Write one study with one series of ``images`` slices into ``folder``."""
    study, series = f"{UID_ROOT}.{seed}.1", f"{UID_ROOT}.{seed}.1.1"
    instances = tuple(f"{series}.{number}" for number in range(1, images + 1))
    noise = _noise(seed)
    written = 0
    for number, instance in enumerate(instances, start=1):
        pixels = _phantom(number / images, noise, random.Random(seed * 1_000 + number))
        written += (folder / f"slice-{number:04}.dcm").write_bytes(
            _file(study, series, instance, number, pixels)
        )
    return Study(folder, study, series, instances, written)


def _noise(seed: int) -> array[int]:
    """A stretch of noisy tissue to cut rows from."""
    draw = random.Random(seed).gauss
    return array("h", (round(draw(TISSUE_HU, NOISE_HU)) for _ in range(16 * SIDE)))


def _phantom(height: float, noise: array[int], draw: random.Random) -> bytes:
    """A round body in air, thicker in the middle of the stack; ``height`` runs from 0 to 1."""
    radius = SIDE * (0.30 + 0.15 * (1 - abs(2 * height - 1)))
    air = array("h", [AIR_HU]) * SIDE
    rows = bytearray()
    for y in range(SIDE):
        half = int(max(0.0, radius**2 - (y - SIDE / 2) ** 2) ** 0.5)
        start = draw.randrange(len(noise) - 2 * half)
        margin = air[: SIDE // 2 - half]
        rows += (margin + noise[start : start + 2 * half] + margin).tobytes()
    return bytes(rows)


def _file(study: str, series: str, instance: str, number: int, pixels: bytes) -> bytes:
    data = _encode(_elements(study, series, instance, number, pixels))
    meta = _encode(_meta(instance))
    length = _encode([(0x0002, 0x0000, b"UL", struct.pack("<I", len(meta)))])
    return bytes(128) + b"DICM" + length + meta + data


def _meta(instance: str) -> list[Element]:
    return [
        (0x0002, 0x0001, b"OB", b"\x00\x01"),
        (0x0002, 0x0002, b"UI", _uid(CT_IMAGE_STORAGE)),
        (0x0002, 0x0003, b"UI", _uid(instance)),
        (0x0002, 0x0010, b"UI", _uid(EXPLICIT_LITTLE_ENDIAN)),
        (0x0002, 0x0012, b"UI", _uid(f"{UID_ROOT}.0")),
    ]


def _elements(study: str, series: str, instance: str, number: int, pixels: bytes) -> list[Element]:
    """The data set, in the order of tags that PS3.5 asks for."""
    return [
        (0x0008, 0x0016, b"UI", _uid(CT_IMAGE_STORAGE)),
        (0x0008, 0x0018, b"UI", _uid(instance)),
        (0x0008, 0x0020, b"DA", _text("20260101")),
        (0x0008, 0x0030, b"TM", _text("080000")),
        (0x0008, 0x0050, b"SH", _text("LAB")),
        (0x0008, 0x0060, b"CS", _text("CT")),
        (0x0008, 0x0070, b"LO", _text("pathgrade lab")),
        (0x0010, 0x0010, b"PN", _text("Phantom^Synthetic")),
        (0x0010, 0x0020, b"LO", _text("PHANTOM")),
        (0x0018, 0x0050, b"DS", _text("1.0")),
        (0x0020, 0x000D, b"UI", _uid(study)),
        (0x0020, 0x000E, b"UI", _uid(series)),
        (0x0020, 0x0011, b"IS", _text("1")),
        (0x0020, 0x0013, b"IS", _text(str(number))),
        (0x0020, 0x0032, b"DS", _text(f"0\\0\\{number}")),
        (0x0020, 0x0037, b"DS", _text("1\\0\\0\\0\\1\\0")),
        (0x0028, 0x0002, b"US", struct.pack("<H", 1)),
        (0x0028, 0x0004, b"CS", _text("MONOCHROME2")),
        (0x0028, 0x0010, b"US", struct.pack("<H", SIDE)),
        (0x0028, 0x0011, b"US", struct.pack("<H", SIDE)),
        (0x0028, 0x0030, b"DS", _text("0.7\\0.7")),
        (0x0028, 0x0100, b"US", struct.pack("<H", 16)),
        (0x0028, 0x0101, b"US", struct.pack("<H", 16)),
        (0x0028, 0x0102, b"US", struct.pack("<H", 15)),
        (0x0028, 0x0103, b"US", struct.pack("<H", 1)),
        (0x0028, 0x1052, b"DS", _text("0")),
        (0x0028, 0x1053, b"DS", _text("1")),
        (0x7FE0, 0x0010, b"OW", pixels),
    ]


def _encode(elements: Iterable[Element]) -> bytes:
    out = bytearray()
    for group, element, vr, value in elements:
        out += struct.pack("<HH2s", group, element, vr)
        out += struct.pack("<HI", 0, len(value)) if vr in LONG_LENGTH_VRS else struct.pack("<H", len(value))
        out += value
    return bytes(out)


def _uid(value: str) -> bytes:
    return _even(value.encode(), b"\x00")


def _text(value: str) -> bytes:
    return _even(value.encode(), b" ")


def _even(value: bytes, pad: bytes) -> bytes:
    return value + pad if len(value) % 2 else value
