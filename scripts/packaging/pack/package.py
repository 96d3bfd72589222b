"""The two Debian packages as data, and what is generated from it: control, checksums, the list of folders.

Pure: names, versions and sizes in, texts out. ``pack.deb`` puts them on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAINTAINER: Final = "The pathgrade developers <pathgrade@users.noreply.github.com>"
HOMEPAGE: Final = "https://github.com/pathgrade/pathgrade"


@dataclass(frozen=True, slots=True)
class Release:
    """A Debian release, and the Python that its packages are made for."""

    name: str
    number: int
    python: tuple[int, int]

    @property
    def python_name(self) -> str:
        """As in ``lib/python3.11``."""
        return f"python{self.python[0]}.{self.python[1]}"

    @property
    def python_depends(self) -> str:
        """Just this Python: what is compiled in the package fits no other."""
        major, minor = self.python
        return f"python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1})"


RELEASES: Final = {
    "bookworm": Release("bookworm", 12, (3, 11)),
    "trixie": Release("trixie", 13, (3, 13)),
}


@dataclass(frozen=True, slots=True)
class Package:
    """One package: what it depends on besides Python, and its files beside the environment."""

    part: str  # agent or server
    summary: str
    description: tuple[str, ...]
    depends: tuple[str, ...]
    priority: int  # of its pathgrade command where both are installed
    conffiles: tuple[str, ...] = ()
    files: tuple[tuple[str, str, int], ...] = ()  # below scripts/packaging, in the package, mode

    @property
    def name(self) -> str:
        """As apt knows it."""
        return f"pathgrade-{self.part}"

    @property
    def home(self) -> str:
        """Folder of the environment."""
        return f"/usr/lib/pathgrade-{self.part}"

    @property
    def unit(self) -> str:
        """Its systemd unit."""
        return f"pathgrade-{self.part}.service"


_COMMON: Final = ("libc6 (>= 2.36)", "libgcc-s1", "libstdc++6", "init-system-helpers (>= 1.54)")

PACKAGES: Final = {
    "agent": Package(
        part="agent",
        summary="measures network paths and TCP sessions on this host",
        description=(
            "pathgrade grades every network path between your hosts for the work people",
            "do on it, and names the leg that slows it. The agent reads the kernel's",
            "statistics of TCP sessions through eBPF, and tests other agents peer to peer.",
            "It reads metadata only, never a payload, and listens on no port.",
        ),
        depends=(*_COMMON, "python3-bpfcc", "systemd | systemd-standalone-sysusers | systemd-sysusers"),
        priority=10,
        files=(
            ("systemd/pathgrade-agent.service", "/usr/lib/systemd/system/pathgrade-agent.service", 0o644),
            ("debian/pathgrade-agent.sysusers", "/usr/lib/sysusers.d/pathgrade-agent.conf", 0o644),
            ("debian/agent.toml", "/usr/share/doc/pathgrade-agent/examples/agent.toml", 0o644),
            *(
                (f"systemd/{name}.conf", f"/usr/share/doc/pathgrade-agent/examples/{name}.conf", 0o644)
                for name in ("quoted-headers", "realtime", "polling")
            ),
        ),
    ),
    "server": Package(
        part="server",
        summary="collects, grades and shows network paths",
        description=(
            "pathgrade grades every network path between your hosts for the work people",
            "do on it, and names the leg that slows it. The server collects what agents",
            "measure, keeps it in Parquet, grades it, and serves pages, an API and alerts.",
        ),
        depends=_COMMON,
        priority=20,
        conffiles=("/etc/pathgrade/server.env",),
        files=(
            ("systemd/pathgrade-server.service", "/usr/lib/systemd/system/pathgrade-server.service", 0o644),
            ("debian/server.env", "/etc/pathgrade/server.env", 0o640),
        ),
    ),
}


def version_in(version: str, release: Release) -> str:
    """The package's version: later for a later Debian, whose own build an upgrade of the host is to bring."""
    return f"{version}+deb{release.number}"


def file_name(package: Package, version: str, release: Release, architecture: str) -> str:
    """Of the package, as dpkg-deb names them."""
    return f"{package.name}_{version_in(version, release)}_{architecture}.deb"


def control(package: Package, *, version: str, release: Release, architecture: str, size_kb: int) -> str:
    """The control file (deb-control(5))."""
    described = "\n".join(f" {line}" for line in package.description)
    return (
        f"Package: {package.name}\n"
        f"Version: {version_in(version, release)}\n"
        f"Architecture: {architecture}\n"
        f"Maintainer: {MAINTAINER}\n"
        f"Installed-Size: {size_kb}\n"
        f"Depends: {', '.join((release.python_depends, *package.depends))}\n"
        "Section: net\n"
        "Priority: optional\n"
        f"Homepage: {HOMEPAGE}\n"
        f"Description: {package.summary}\n"
        f"{described}\n"
    )


def checksums(files: dict[str, str]) -> str:
    """The md5sums file: path without its first slash -> MD5, but for what the administrator may change."""
    return "".join(f"{digest}  {path.lstrip('/')}\n" for path, digest in sorted(files.items()))


def script(template: str, package: Package) -> str:
    """Fill a maintainer script for one package."""
    filled = template
    for mark, value in {
        "@NAME@": package.name,
        "@HOME@": package.home,
        "@UNIT@": package.unit,
        "@PRIORITY@": str(package.priority),
    }.items():
        filled = filled.replace(mark, value)
    return filled
