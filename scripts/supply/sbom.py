"""The bill of materials of what a host runs: ``scripts/sbom`` writes ``docs/sbom.json`` (CycloneDX 1.6).

cyclonedx-py reads it from an environment that holds just the locked packages; what is not from there is added
here: files of others that lie in the repository, and the Debian packages that are needed but not shipped.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supply.locks import LOCKS, ROOT, RUN, blocks, normal

SBOM: Final = ROOT / "docs" / "sbom.json"
STATIC: Final = ROOT / "server" / "static"
LOCK_PROPERTY: Final = "pathgrade:lock-sha256"
KEPT: Final = ("type", "bom-ref", "name", "version", "purl", "licenses", "hashes", "scope")
"""Of a component. Addresses and descriptions are left out: they say nothing of what is installed."""
UNSAID: Final = {"jinja2": "BSD-3-Clause", "protobuf": "BSD-3-Clause", "pyopenssl": "Apache-2.0"}
"""Licences that a package's metadata does not give as an SPDX identifier, read from its LICENSE file."""


@dataclass(frozen=True, slots=True)
class Vendored:
    """Somebody else's file in the repository."""

    name: str
    version: str
    licence: str
    files: tuple[str, ...]


VENDORED: Final = (
    Vendored("htmx.org", "2.0.11", "0BSD", ("htmx.min.js",)),
    Vendored("uplot", "1.6.32", "MIT", ("uPlot.iife.min.js", "uPlot.min.css")),
    Vendored("inter", "4", "OFL-1.1", ("inter.woff2",)),
)
DEBIAN: Final = {"python3-bpfcc": "Apache-2.0"}
"""Needed on a host that watches by eBPF; of its distribution, never shipped."""


def assembled(bom: Mapping[str, Any], lock: str, files: Path = STATIC) -> dict[str, Any]:
    """Make ours of what cyclonedx-py read."""
    components = [_slim(one) for one in bom["components"]]
    components += [_vendored(one, files) for one in VENDORED]
    components += [_debian(name, licence) for name, licence in DEBIAN.items()]
    named = {"name": LOCK_PROPERTY, "value": _sha256(lock.encode())}
    root = {key: value for key, value in bom["metadata"]["component"].items() if key in KEPT}
    return {
        **{key: bom[key] for key in ("bomFormat", "specVersion", "version", "dependencies")},
        "metadata": {"component": root, "properties": [named]},
        "components": sorted(components, key=lambda one: normal(one["name"])),
    }


def stale(bom: Mapping[str, Any], lock: str, files: Path = STATIC) -> list[str]:
    """Say in what a bill differs from what it is of."""
    told = {one["name"]: one["value"] for one in bom["metadata"]["properties"]}
    faults = [] if told.get(LOCK_PROPERTY) == _sha256(lock.encode()) else ["it is of other locked packages"]
    known = {normal(one["name"]): one for one in bom["components"]}
    faults += [f"{name} is not in the lock" for name in known.keys() - set(blocks(lock)) - _ours()]
    for one in VENDORED:
        if known.get(normal(one.name), {}).get("hashes") != _vendored(one, files)["hashes"]:
            faults.append(f"the files of {one.name} are others")
    return faults


def licences(bom: Mapping[str, Any]) -> dict[str, list[str]]:
    """List the components by licence; those that name none under the empty text."""
    found: dict[str, list[str]] = {}
    for one in bom["components"]:
        found.setdefault(_licence(one), []).append(one["name"])
    return dict(sorted(found.items()))


def counted(bom: Mapping[str, Any]) -> str:
    """Say in a line how many components have which licence."""
    counts = Counter(_licence(one) or "none" for one in bom["components"])
    return ", ".join(f"{licence} {count}" for licence, count in counts.most_common())


def _licence(component: Mapping[str, Any]) -> str:
    """The SPDX one where there is one: classifiers are coarser."""
    for told in component.get("licenses", []):
        licence = told.get("expression") or told["license"].get("id", "")
        if licence:
            return str(licence)
    return ""


def _slim(component: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: component[key] for key in KEPT if key in component}
    said = _licence(found) or UNSAID.get(normal(component["name"]), "")
    return found | ({"licenses": [{"expression": said}]} if said else {})


def _vendored(one: Vendored, files: Path) -> dict[str, Any]:
    content = b"".join((files / name).read_bytes() for name in one.files)
    return {
        "type": "library",
        "bom-ref": f"{one.name}=={one.version}",
        "name": one.name,
        "version": one.version,
        "licenses": [{"expression": one.licence}],
        "hashes": [{"alg": "SHA-256", "content": _sha256(content)}],
    }


def _debian(name: str, licence: str) -> dict[str, Any]:
    licensed = [{"expression": licence}]
    return {"type": "library", "bom-ref": name, "name": name, "scope": "optional", "licenses": licensed}


def _ours() -> set[str]:
    return {normal(one.name) for one in VENDORED} | set(DEBIAN)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _installed(work: Path) -> Iterator[list[str]]:
    """Commands that make an environment of the locked packages and read it."""
    tools = Path(sys.executable).parent
    yield [str(tools / "uv"), "venv", "--quiet", "--python", "/usr/bin/python3", str(work / "env")]
    install = [str(tools / "uv"), "pip", "install", "--quiet", "--python", str(work / "env/bin/python")]
    yield [*install, "--require-hashes", "-r", str(LOCKS / f"{RUN}.txt")]
    read = [str(tools / "cyclonedx-py"), "environment", str(work / "env/bin/python"), "--output-reproducible"]
    yield [
        *read,
        "--pyproject",
        str(ROOT / "pyproject.toml"),
        "--sv",
        "1.6",
        "--of",
        "JSON",
        "-o",
        str(work / "bom"),
    ]


def faults() -> list[str]:
    """Say whether docs/sbom.json is stale."""
    try:
        bom = json.loads(SBOM.read_text())
    except OSError:
        return ["there is none"]
    return stale(bom, (LOCKS / f"{RUN}.txt").read_text())


def main(arguments: Sequence[str]) -> int:
    """Write the bill; with --check, only say whether it is stale."""
    if "--check" in arguments:
        for fault in (found := faults()):
            print(f"error: docs/sbom.json: {fault}\n  try: scripts/sbom", file=sys.stderr)
        return bool(found)
    with tempfile.TemporaryDirectory() as work:
        for command in _installed(Path(work)):
            subprocess.run(command, check=True)
        bom = json.loads((Path(work) / "bom").read_text())
    ours = assembled(bom, (LOCKS / f"{RUN}.txt").read_text())
    SBOM.write_text(json.dumps(ours, indent=1, sort_keys=True) + "\n")
    print(f"docs/sbom.json: {len(ours['components'])} components: {counted(ours)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
