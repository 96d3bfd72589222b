"""A store opened over a lake."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from analytics.errors import LakeError, LakeSetupError
from analytics.store.facts import Facts, Opening
from analytics.store.known import KnownBatches
from analytics.store.lake import Lake
from analytics.store.lake_catalog import Catalog
from analytics.store.lake_engine import give_key, load_extensions
from analytics.store.lake_files import data_files
from analytics.store.lake_ledger import Ledger
from analytics.store.lake_place import Bucket, LakePlace

log: Final = logging.getLogger(__name__)


class LakeStorage:
    """As ``Storage``. ``environment`` has the key to S3, where the data is there."""

    def __init__(self, place: LakePlace, environment: Mapping[str, str]) -> None:
        self._place = place
        self._environment = environment

    def known(self, folder: Path) -> KnownBatches:
        """As ``Storage``: the ledger in the data folder tells. Raises ``OSError`` or ``LakeSetupError``."""
        return Ledger.open(folder).known()

    def facts(self, opening: Opening) -> Facts:
        """As ``Storage``. Raises ``LakeSetupError``; the catalog may be away."""
        database = opening.engine.database
        bucket = Bucket.from_environment(self._environment) if self._place.is_s3 else None
        load_extensions(database, self._place)
        if bucket is not None:
            give_key(database, self._place, bucket)
        ledger, files = Ledger.open(opening.folder), data_files(self._place, bucket)
        catalog = Catalog(self._place, database, files, ledger.writer)
        return Lake(
            catalog,
            shelf=opening.shelf,
            ledger=ledger,
            files=files,
            keep=opening.keep,
            clock_us=opening.clock_us,
        )

    def started(self, seal: Callable[[], None]) -> None:
        """As ``Storage``: only after a seal is it certain what the lake has of the spool.

        A lake that is away is no reason not to start: agents are served, and the spool keeps what they send.
        """
        try:
            seal()
        except LakeSetupError:
            raise
        except LakeError as error:
            log.warning("started without the lake: %s (%s)", error, error.remedy)
