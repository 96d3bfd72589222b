"""A real PACS on the right host of a chain, and viewers on the left one that fetch from it.

Orthanc with its DICOMweb plug-in and a synthetic CT (scripts/lab); DCMTK's getscu and curl fetch. The
congestion control of the PACS's host is set for each fetch: it is the one that sends.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.dicom import Study, write_ct
from lab.pacs import DICOM_PORT, PLUGIN, WEB_PORT, write_config
from lab.processes import listens

from analytics.tcp_rates import Sender
from benches.chain import Chain
from benches.errors import NeedsError, PartError
from benches.net import inside, run

READY_S: Final = 20.0
STORE_S: Final = 120.0
PARALLEL: Final = 6  # connections that a browser opens to one server
SEED: Final = 7
ACCEPT: Final = 'Accept: multipart/related; type="application/dicom"'
LOOPBACK: Final = "127.0.0.1"
PROGRAMS: Final = ("getscu", "storescu", "curl")


@dataclass(frozen=True, slots=True)
class Pacs:
    """A PACS that serves; ``studies`` by number of images, all with images of ``image_bytes``."""

    namespace: str
    folder: Path
    studies: dict[int, Study]

    def image_bytes(self, images: int) -> int:
        """Mean size of a file of this study."""
        return self.studies[images].bytes // images


def needs() -> None:
    """Raise ``NeedsError`` if a program is missing."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing or not PLUGIN.exists() or not _orthanc():
        raise NeedsError("Orthanc, DCMTK or curl is missing", remedy="scripts/setup installs them")


def congestion_controls() -> list[str]:
    """Those that this kernel has."""
    return Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()


def set_sender(made: Chain, sender: Sender) -> None:
    """Let b send so on new connections to a. A route may name its congestion control; a namespace not any."""
    network, _, gateway, *_ = run(["ip", "-n", made.b, "route", "show", made.a_network]).split()
    run(["ip", "-n", made.b, "route", "change", network, "via", gateway, "congctl", str(sender)])
    run(["ip", "-n", made.b, "tcp_metrics", "flush"])  # what earlier connections learnt does not count


def _orthanc() -> str | None:
    return shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def serving(namespace: str, folder: Path, sizes: Sequence[int]) -> Iterator[Pacs]:
    """Run Orthanc in a namespace with one study a size (in images); gone afterwards. Raises ``PartError``."""
    home = folder / "orthanc"
    config = write_config(home, "pathgrade bench", OverwriteInstances=True)
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(
            inside(namespace, [_orthanc() or "Orthanc", config]),
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            _wait(process)
            yield Pacs(namespace, folder, {size: _store(namespace, folder, size) for size in sizes})
        finally:
            process.kill()


def _wait(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while not all(listens(process.pid, "tcp", port) for port in (DICOM_PORT, WEB_PORT)):
        if process.poll() is not None or time.monotonic() > deadline:
            raise PartError("Orthanc does not listen", remedy="start it by hand and read what it says")
        time.sleep(0.05)


def _store(namespace: str, folder: Path, images: int) -> Study:
    into = folder / f"study-{images}"
    into.mkdir()
    study = write_ct(into, images, SEED + images)
    command = ["storescu", "+sd", "-aec", "PACS", LOOPBACK, str(DICOM_PORT), str(into)]
    run(inside(namespace, command), within_s=STORE_S)
    return study


# --- fetching -------------------------------------------------------------------------------------------


def fetch_s(pacs: Pacs, protocol: str, images: int, *, viewer: str, address: str, most_s: float) -> float:
    """Fetch a study from a viewer's namespace; returns its seconds. Raises ``PartError``."""
    study = pacs.studies[images]
    into = pacs.folder / "fetched"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    command = inside(viewer, COMMANDS[protocol](address, study, into))
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=most_s, check=False)
    except subprocess.TimeoutExpired:
        raise PartError(f"a fetch took over {most_s:.0f} s", remedy="fetch fewer images") from None
    took = time.monotonic() - began
    found = ARRIVED[protocol](into)
    if done.returncode or found != images:
        said = done.stderr.strip()[-500:]
        raise PartError(f"{protocol}: {found} images of {images} came: {said}", remedy="run it by hand")
    return took


def _getscu(address: str, study: Study, into: Path) -> list[str]:
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study.study_uid}
    options = [word for key, value in keys.items() for word in ("-k", f"{key}={value}")]
    return ["getscu", "-S", "-aec", "PACS", *options, "-od", str(into), address, str(DICOM_PORT)]


def _series(address: str, study: Study, into: Path) -> list[str]:
    return [*_curl(), "-o", str(into / "0"), _base(address, study)]


def _instances(address: str, study: Study, into: Path) -> list[str]:
    base = f"{_base(address, study)}/instances"
    outputs = [
        word
        for name, uid in enumerate(study.instances)
        for word in ("-o", str(into / str(name)), f"{base}/{uid}")
    ]
    return [*_curl(), "--parallel", "--parallel-immediate", "--parallel-max", str(PARALLEL), *outputs]


def _curl() -> list[str]:
    return ["curl", "--silent", "--show-error", "--fail", "--http1.1", "--header", ACCEPT]


def _base(address: str, study: Study) -> str:
    return f"http://{address}:{WEB_PORT}/dicom-web/studies/{study.study_uid}/series/{study.series_uid}"


def _count_parts(folder: Path) -> int:
    return sum(path.read_bytes().count(b"DICM\x02\x00\x00\x00") for path in folder.iterdir())


COMMANDS: Final[dict[str, Callable[[str, Study, Path], list[str]]]] = {
    "c_get_nagle": _getscu,
    "wado_series": _series,
    "wado_instances": _instances,
}
ARRIVED: Final[dict[str, Callable[[Path], int]]] = {
    "c_get_nagle": lambda folder: len(list(folder.iterdir())),
    "wado_series": _count_parts,
    "wado_instances": _count_parts,
}
