"""The lab's PACS: a real Orthanc on an agent's host, a synthetic CT in it, real fetches from elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lab import tcp_info
from lab.dicom import Study, write_ct
from lab.errors import NeedsError
from lab.network import Lab
from lab.processes import listens
from lab.scenario import Fetch, FetchTool
from lab.tcp_info import Sample

DICOM_PORT: Final = 4242
WEB_PORT: Final = 8042
PLUGIN: Final = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
READY_S: Final = 60.0
STORE_S: Final = 120.0
FETCH_S: Final = 180.0
PORTS: Final = {FetchTool.GETSCU: DICOM_PORT, FetchTool.CURL: WEB_PORT}


@dataclass(frozen=True, slots=True)
class Fetched:
    """One fetch that was made, and what the kernel's TCP_INFO said at both ends while it ran."""

    agent: str
    tool: str
    port: int
    images: int
    seconds: float
    client_tcp: list[Sample] = field(default_factory=list)
    server_tcp: list[Sample] = field(default_factory=list)


def start(lab: Lab) -> Study:
    """Start Orthanc beside the scenario's agent and store a study in it."""
    assert lab.scenario.pacs
    host = lab.scenario.pacs.agent
    namespace = lab.plan.namespace(host)
    config = write_config(lab.folder / "orthanc", "pathgrade lab")
    part = lab.parts.start("orthanc", [_program(), str(config)], namespace=namespace)
    pid = part.process.pid
    lab.parts.wait_until(
        lambda: listens(pid, "tcp", DICOM_PORT) and listens(pid, "tcp", WEB_PORT),
        what="Orthanc listens",
        at_most_s=READY_S,
    )
    study = _write_study(lab)
    command = ["storescu", "+sd", "-aec", "PACS", "127.0.0.1", str(DICOM_PORT), str(study.folder)]
    lab.parts.run("storescu", command, namespace=namespace, at_most_s=STORE_S)
    return study


def _program() -> str:
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if not program or not PLUGIN.exists():
        raise NeedsError("Orthanc or its DICOMweb plug-in is missing", remedy="scripts/setup installs both")
    return program


def write_config(folder: Path, name: str, **more: object) -> Path:
    """Say how Orthanc is to run in a new folder, reachable from its own namespaces only."""
    folder.mkdir()
    config = {
        "Name": name,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "DicomAet": "PACS",
        "DicomPort": DICOM_PORT,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowGet": True,
        "HttpPort": WEB_PORT,
        "HttpCompressionEnabled": False,  # a fetch moves the bytes that it names
        "RemoteAccessAllowed": True,
        "AuthenticationEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **more,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(config, indent=1))
    return path


def _write_study(lab: Lab) -> Study:
    assert lab.scenario.pacs
    folder = lab.folder / "study"
    folder.mkdir()
    return write_ct(folder, lab.scenario.pacs.images, lab.scenario.seed)


def fetch(lab: Lab, study: Study, order: Fetch) -> Fetched:
    """Fetch images through the hospital's forwarded port, watching TCP_INFO at both ends."""
    assert lab.scenario.pacs
    pacs = lab.plan.hosts[lab.scenario.pacs.agent]
    into = lab.folder / f"fetched-{order.agent}-{order.tool}"
    into.mkdir()
    port = PORTS[order.tool]
    client, server = lab.plan.namespace(order.agent), lab.plan.namespace(pacs.agent)
    with tcp_info.Watch({"client": client, "server": server}, port) as watch:
        seconds = lab.parts.run(
            f"fetch-{order.agent}-{order.tool}",
            COMMANDS[order.tool](pacs.public_address, study, order.images, into),
            namespace=client,
            at_most_s=FETCH_S,
            watch=watch.look,
        )
    images = _count_images(into, order.tool)
    shutil.rmtree(into)
    seen = watch.samples
    return Fetched(order.agent, order.tool, port, images, seconds, seen["client"], seen["server"])


def _getscu(address: str, study: Study, images: int, into: Path) -> list[str]:
    keys = {
        "QueryRetrieveLevel": "IMAGE",
        "StudyInstanceUID": study.study_uid,
        "SeriesInstanceUID": study.series_uid,
        "SOPInstanceUID": "\\".join(study.instances[:images]),
    }
    options = [word for key, value in keys.items() for word in ("-k", f"{key}={value}")]
    return ["getscu", "-S", "-aec", "PACS", *options, "-od", str(into), address, str(DICOM_PORT)]


def _curl(address: str, study: Study, images: int, into: Path) -> list[str]:
    base = f"http://{address}:{WEB_PORT}/dicom-web/studies/{study.study_uid}"
    whole = images == len(study.instances)
    one_by_one = [
        f"{base}/series/{study.series_uid}/instances/{instance}" for instance in study.instances[:images]
    ]
    urls: Sequence[str] = [base] if whole else one_by_one
    accept = 'Accept: multipart/related; type="application/dicom"'
    outputs = [word for number, url in enumerate(urls) for word in ("-o", str(into / f"{number}"), url)]
    return ["curl", "--silent", "--show-error", "--fail", "--header", accept, *outputs]


COMMANDS: Final = {FetchTool.GETSCU: _getscu, FetchTool.CURL: _curl}


def _count_images(folder: Path, tool: FetchTool) -> int:
    """Images that arrived: getscu writes one file each, curl keeps the multipart bodies."""
    files = list(folder.iterdir())
    if tool is FetchTool.GETSCU:
        return len(files)
    return sum(path.read_bytes().count(b"DICM\x02\x00\x00\x00") for path in files)
