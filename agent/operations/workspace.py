"""What every operation works with: the data folder and what is in it, opened when first needed."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from agent.config import Config, ConfigError, load
from agent.home import Home
from agent.log import get_logger

if TYPE_CHECKING:
    from agent.archive.folder import Archive
    from agent.archive.history import History
    from agent.engine.backup import Origin
    from agent.operations.bundle_files import BundleFiles
    from agent.peers.clones import Clones
    from agent.tables.catalogue import Catalogue
    from certs.store import Store

log = get_logger(__name__)


def utc_now() -> datetime:
    """The present time, UTC."""
    return datetime.now(UTC)


class Workspace:
    """One data folder. Making the object reads nothing; each part is opened when it is first asked for."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._complaint = ""  # what was wrong with the settings when they were last looked at

    def anew(self) -> Workspace:
        """The same folder opened afresh, for who works for long: with the present settings. Blocking.

        Where these cannot be used, with those of this workspace, and the log says so once. Raises ``ConfigError`` where
        it has none either.
        """
        fresh = Workspace(self.home)
        try:
            fresh.config = load(self.home)
        except ConfigError as error:
            if "config" not in self.__dict__:
                raise
            fresh.config = self.config
            fresh._complaint = str(error)
            if fresh._complaint != self._complaint:
                log.warning("the settings cannot be used: the last good ones stay", reason=fresh._complaint)
        return fresh

    @cached_property
    def config(self) -> Config:
        """The settings; raises ``NotSetUpError`` before ``backroom init``."""
        return load(self.home)

    @property
    def database_url(self) -> str:
        """The address of the platform's database, with its password."""
        return self.config.database()

    @cached_property
    def store(self) -> Store:
        """Identity and shop."""
        from certs.store import Store

        return Store(self.home.path)

    @cached_property
    def clones(self) -> Clones:
        """The clone alarms, and what tells this data folder from a copy of it."""
        from agent.peers.clones import Clones

        return Clones(self.home, self.store)

    @cached_property
    def archive(self) -> Archive:
        from agent.archive.folder import Archive

        return Archive(self.home, self.bundle_files.encoder)

    @cached_property
    def bundle_files(self) -> BundleFiles:
        """How bundle files are read, sealed or not."""
        from agent.operations.bundle_files import BundleFiles

        return BundleFiles(self)

    @asynccontextmanager
    async def history(self) -> AsyncIterator[History]:
        """The history database, closed on the way out."""
        from agent.archive.history import History

        url = self.config.history_url
        async with History.open(self.home, url.get_secret_value() if url else None) as history:
            yield history

    def catalogue(self) -> Catalogue:
        """The classification by name: ours, with the user's ``tables.toml`` over it."""
        from agent.tables.catalogue import load_catalogue
        from agent.tables.errors import BadCatalogue

        path = self.config.tables_file or self.home.tables
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return load_catalogue()
        except (OSError, UnicodeDecodeError) as error:
            raise BadCatalogue(f"{path} cannot be read: {error}.") from error
        return load_catalogue(text)

    def origin(self) -> Origin:
        """Who makes backups here: the device's identity and shop, and the user of this computer."""
        from agent.engine.backup import Origin

        identity = self.store.identity()
        shop = self.store.shop()
        return Origin(
            node_id=identity.node_id,
            device=self.config.device_name(),
            created_by=person(),
            sign=identity.sign,
            certificate=identity.certificate,
            shop_id=shop.shop_id if shop else None,
            shop_name=shop.shop_name if shop else None,
        )


def person() -> str:
    """The name under which the user of this computer is logged in; "unknown" where the system does not say."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
