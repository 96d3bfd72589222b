"""A Debian package: an environment made inside a root of its release, and what ``pack.package`` generates."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Final

from pack import roots, wheels
from pack.errors import PackError
from pack.package import (
    PACKAGES,
    Package,
    Release,
    checksums,
    control,
    file_name,
    script,
    version_in,
)
from pack.programs import require, run
from pack.requirements import LEFT_OUT, agents_of, all_of

HERE: Final = Path(__file__).resolve().parents[1]
IMPORTED: Final = {
    "agent": "agent.run, agent.mesh.pair, agent.mesh.deep, agent.passive.watch, ebpf.load, pathgrade",
    "server": "server.app, server.settings, agent.run, duckdb, pyarrow",
}
"""What must load from the finished environment, before it is packed."""

NOT_PACKED: Final = (
    "**/__pycache__",
    "**/pyarrow/include",
    "**/pyarrow/tests",
    "include",
    "**/direct_url.json",
    ".gitignore",  # of the environment, by Python 3.13
)


def build(part: str, release: Release, out: Path, *, wheel: Path, quick: bool = False) -> Path:
    """Build one package into ``out``; ``quick``: not compressed. Raises ``PackError``."""
    require("dpkg-deb", "dpkg")
    package = PACKAGES[part]
    pyproject = (wheels.ROOT / "pyproject.toml").read_text()
    asked = agents_of(pyproject) if part == "agent" else all_of(pyproject)
    fetched = wheels.libraries(release)
    with (
        roots.copy_of(roots.base(release), f"build-{part}") as root,
        tempfile.TemporaryDirectory(prefix="pathgrade-deb-") as made,
    ):
        _environment(root, package, wheel, fetched, asked)
        tree = Path(made) / "tree"
        _gather(root, package, tree)
        return _packed(tree, package, release, out, version=wheel.name.split("-")[1], quick=quick)


def _environment(root: Path, package: Package, wheel: Path, fetched: Path, asked: list[str]) -> None:
    """Make the environment where it will stand on every host: paths in it are that place's."""
    home = package.home
    (root / "own").mkdir()
    shutil.copy2(wheel, root / "own")
    roots.inside(root, "python3", "-m", "venv", "/tool")
    roots.inside(root, "python3", "-m", "venv", "--without-pip", home)
    pip = (
        "/tool/bin/pip",
        "--python",
        f"{home}/bin/python3",
        "--no-cache-dir",
        "--disable-pip-version-check",
    )
    with roots.bound(fetched, root / "wheels"):
        offline = ("install", "--quiet", "--no-index", "--no-compile", "--find-links", "/wheels")
        roots.inside(root, *pip, *offline, *asked)
    roots.inside(
        root, *pip, "install", "--quiet", "--no-index", "--no-compile", "--no-deps", f"/own/{wheel.name}"
    )
    roots.inside(root, *pip, "uninstall", "--yes", *LEFT_OUT)
    roots.inside(root, f"{home}/bin/python3", "-B", "-c", f"import {IMPORTED[package.part]}")
    _slim(root / home.lstrip("/"))
    # Byte code for just this Python: no host compiles 5,000 files while packages are installed, and dpkg
    # knows each of them. Valid whatever the times of the files are.
    compiled = ("-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", f"{home}/lib")
    roots.inside(root, f"{home}/bin/python3", *compiled)


def _slim(home: Path) -> None:
    """Leave out what only a person at a shell, or who builds with the libraries, would use."""
    keep = {"python", "python3", "pathgrade"}
    for path in (home / "bin").iterdir():
        if path.name not in keep and not path.is_symlink():
            path.unlink()
        elif path.is_symlink() and path.readlink().is_absolute():
            to = path.readlink()
            path.unlink()
            path.symlink_to(f"../../..{str(to).removeprefix('/usr')}")  # Debian's policy, 10.5
    for pattern in NOT_PACKED:
        for path in list(home.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _gather(root: Path, package: Package, tree: Path) -> None:
    """Put the package's files where they will be installed."""
    home = tree / package.home.lstrip("/")
    shutil.copytree(root / package.home.lstrip("/"), home, symlinks=True)
    for source, target, mode in package.files:
        place = tree / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(HERE / source, place)
        place.chmod(mode)
    documents = tree / "usr/share/doc" / package.name
    documents.mkdir(parents=True, exist_ok=True)
    (documents / "copyright").write_text((HERE / "debian/copyright").read_text())


def _overrides(tree: Path, package: Package) -> None:
    place = tree / "usr/share/lintian/overrides" / package.name
    place.parent.mkdir(parents=True)
    files = (HERE / "debian/lintian-overrides", HERE / f"debian/lintian-overrides.{package.part}")
    texts = [file.read_text() for file in files if file.exists()]
    place.write_text(script("".join(texts), package))


def _packed(tree: Path, package: Package, release: Release, out: Path, *, version: str, quick: bool) -> Path:
    architecture = run("dpkg", "--print-architecture").strip()
    _changelog(tree, package, version_in(version, release))
    _overrides(tree, package)
    _modes(tree, package)
    size_kb = sum(path.lstat().st_size for path in tree.rglob("*")) // 1024 + 1
    debian = tree / "DEBIAN"
    sums = _sums(tree, package)
    debian.mkdir(mode=0o755)
    told = control(package, version=version, release=release, architecture=architecture, size_kb=size_kb)
    (debian / "control").write_text(told)
    (debian / "md5sums").write_text(sums)
    if package.conffiles:
        (debian / "conffiles").write_text("".join(f"{path}\n" for path in package.conffiles))
    for name, template in {
        "postinst": "postinst",
        "prerm": "prerm",
        "postrm": f"{package.part}.postrm",
    }.items():
        (debian / name).write_text(script((HERE / "debian" / template).read_text(), package))
        (debian / name).chmod(0o755)
    out.mkdir(parents=True, exist_ok=True)
    target = out / file_name(package, version, release, architecture)
    compressed = "-Znone" if quick else "-Zxz"
    run("dpkg-deb", "--root-owner-group", compressed, "--build", tree, target)
    return target


def _changelog(tree: Path, package: Package, version: str) -> None:
    text = (
        (HERE / "debian/changelog").read_text().replace("@NAME@", package.name).replace("@VERSION@", version)
    )
    place = tree / "usr/share/doc" / package.name / "changelog.gz"
    place.write_bytes(gzip.compress(text.encode(), mtime=0))


def _modes(tree: Path, package: Package) -> None:
    """Nothing writable for others, nothing executable that is no program; the listed modes stay."""
    given = {tree / target.lstrip("/") for _, target, _ in package.files}
    for path in (tree, *tree.rglob("*")):
        if path.is_symlink() or path in given:
            continue
        program = path.is_dir() or (path.parent == tree / package.home.lstrip("/") / "bin")
        path.chmod(0o755 if program else 0o644)


def _sums(tree: Path, package: Package) -> str:
    sums = {}
    for path in tree.rglob("*"):
        place = f"/{path.relative_to(tree)}"
        if path.is_file() and not path.is_symlink() and place not in package.conffiles:
            sums[place] = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if not sums:
        raise PackError(f"pack {package.name}: there is nothing in it")
    return checksums(sums)
