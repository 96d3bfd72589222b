"""A PostgreSQL of a test's own: in a temporary folder, on a Unix socket, as an unprivileged user."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

_CONFIGURED = "-c listen_addresses= -c fsync=off -c shared_buffers=16MB -c max_connections=60"


class Postgres:
    """A cluster. Debian's, whatever its version; root may not run one, so root lets ``postgres`` do it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._binaries = max(Path("/usr/lib/postgresql").glob("*/bin/postgres")).parent
        self._user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        self._numbers = count(1)
        if self._user:
            shutil.chown(folder, "postgres", "postgres")
        options = ["--auth=trust", "--username=pathgrade", "--no-sync", "--locale=C", "--encoding=UTF8"]
        self._run("initdb", "--pgdata", self._data, *options)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def start(self) -> None:
        log, options = str(self._folder / "log"), f"{_CONFIGURED} -c unix_socket_directories={self._folder}"
        self._run("pg_ctl", "--pgdata", self._data, "--wait", "--log", log, "--options", options, "start")

    def stop(self) -> None:
        """As a host that goes down: nobody is waited for."""
        self._run("pg_ctl", "--pgdata", self._data, "--wait", "--mode", "immediate", "stop")

    def new_catalog(self) -> str:
        """Make a database, and name it as ``lake_catalog`` does."""
        name = f"lake{next(self._numbers)}"
        self._run("createdb", "--host", str(self._folder), "--username", "pathgrade", name)
        return f"postgres:host={self._folder} user=pathgrade dbname={name}"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            **self._user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # A server that pg_ctl starts would hold the pipe open.
            stderr=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (program, arguments, done.stderr)


@contextmanager
def running() -> Iterator[Postgres]:
    # Not pytest's folder: a socket's path may have 107 bytes, and another user must reach it.
    with tempfile.TemporaryDirectory(prefix="pathgrade-pg-") as folder:
        Path(folder).chmod(0o755)
        postgres = Postgres(Path(folder))
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()
