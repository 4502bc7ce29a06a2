"""mgmtd as a daemon, from its start to its end.

starting ──metadata store open, listening──► running ──SIGTERM, SIGINT──► closing
                                             │  ▲ SIGHUP: the secret is read again
                                             └──┘
Guarantees: the ready file appears when it answers, as primary or by naming the primary; a stop
gives its office up, so that the next one need not wait for its lease.
"""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import fields, replace
from http import HTTPStatus

import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector

from kvstore.addresses import Address
from kvstore.cluster.metadata.connect import connect_metadata
from kvstore.cluster.metadata.port import MetadataStore
from kvstore.cluster.mgmtd.server import Mgmtd
from kvstore.errors import InvalidOptionError, KVStoreError
from kvstore.node.daemon import metrics_page
from kvstore.node.http import Endpoint, Page, open_endpoint, plain
from kvstore.node.log import Log, make_log
from kvstore.node.mgmtd_config import MgmtdConfig, MgmtdSource
from kvstore.node.mgmtd_metrics import MgmtdCollector
from kvstore.node.secret import MADE_NAME, NodeSecret, given_secret
from kvstore.shared_secret import read_or_make_secret

RELOADABLE = frozenset(("secret_file",))
"""Keys that are taken over by SIGHUP; others need a restart."""


def run_mgmtd(source: MgmtdSource, release: str) -> int:
    """Run mgmtd until a signal ends it; the exit code."""
    config = source.load()
    log = make_log(config.log, config.log_level).bind(role="mgmtd")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(MgmtdDaemon(source, config, release, log).run())


class MgmtdDaemon:
    """One mgmtd."""

    def __init__(self, source: MgmtdSource, config: MgmtdConfig, release: str, log: Log) -> None:
        """Do nothing yet."""
        self._source = source
        self._config = config
        self._release = release
        self._log = log
        self._stopping = asyncio.Event()
        self._store: MetadataStore | None = None
        self._mgmtd: Mgmtd | None = None
        self._endpoint: Endpoint | None = None

    async def run(self) -> int:
        """Start, run, stop; 1 when it did not start, or failed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        reload = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        running: asyncio.Task[None] | None = None
        reloading: asyncio.Task[None] | None = None
        failed = 0
        try:
            mgmtd = await self._start()
            running = asyncio.ensure_future(mgmtd.run())
            reloading = asyncio.ensure_future(self._reload_when(reload, mgmtd))
            stopping = asyncio.ensure_future(self._stopping.wait())
            await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if running.done():
                running.result()
        except (KVStoreError, OSError) as error:
            self._log.error("failed", error=str(error), kind=type(error).__name__)
            failed = 1
        finally:
            if reloading is not None:
                reloading.cancel()
            await self._close(running)
        return failed

    async def _reload_when(self, wanted: asyncio.Event, mgmtd: Mgmtd) -> None:
        while True:
            await wanted.wait()
            wanted.clear()
            await self._reload(mgmtd)

    async def _reload(self, mgmtd: Mgmtd) -> None:
        """Load the configuration again, and take the secret over."""
        try:
            config = await asyncio.to_thread(self._source.load)
            changed = [
                item.name
                for item in fields(MgmtdConfig)
                if getattr(self._config, item.name) != getattr(config, item.name)
            ]
            taken = replace(self._config, secret_file=config.secret_file)
            secret = await asyncio.to_thread(secret_for, taken, os.environ)
            await mgmtd.change_secret(secret.secret)
        except (KVStoreError, OSError) as error:
            self._log.error("not reloaded: it goes on as before", error=str(error))
            return
        self._config = taken
        self._log.info("reloaded", changed=[key for key in changed if key in RELOADABLE])
        if fixed := [key for key in changed if key not in RELOADABLE]:
            self._log.warning("these changes need a restart", keys=fixed)

    async def _start(self) -> Mgmtd:
        config = self._config
        secret = await asyncio.to_thread(secret_for, config, os.environ)
        store = await self._open_store()
        self._mgmtd = mgmtd = Mgmtd(
            store,
            config.settings,
            secret=secret.secret,
            log=self._log,
            primary_lease_s=config.primary_lease_s,
        )
        listening = await mgmtd.listen(config.listen, config.advertise)
        if secret.made:
            self._log.warning("secret made: nodes and clients need it", secret_file=secret.source)
        metrics = await self._open_endpoint(mgmtd)
        self._log.info(
            "listening",
            listen=str(listening),
            metrics=None if metrics is None else str(metrics),
            secret=secret.source or None,
            version=self._release,
        )
        self._write_ready_file(listening, metrics)
        return mgmtd

    async def _open_store(self) -> MetadataStore:
        self._store = await connect_metadata(self._config.metadata, os.environ)
        return self._store

    async def _open_endpoint(self, mgmtd: Mgmtd) -> Address | None:
        where = self._config.metrics
        if where is None:
            return None
        registry = CollectorRegistry(auto_describe=False)
        registry.register(MgmtdCollector(mgmtd, self._release))
        ProcessCollector(registry=registry)
        self._endpoint = await open_endpoint(
            where, {"/metrics": lambda: metrics_page(registry), "/healthz": self._health_page}
        )
        return Address(where.name, self._endpoint.port)

    def _health_page(self) -> Page:
        """Say that it runs, and whether it is primary."""
        if self._stopping.is_set() or self._mgmtd is None:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "stopping")
        return plain(HTTPStatus.OK, "primary" if self._mgmtd.reign else "standing by")

    def _write_ready_file(self, listening: Address, metrics: Address | None) -> None:
        """Say that it answers, and where; the file appears whole."""
        path = self._config.ready_file
        if path is None:
            return
        content = {
            "pid": os.getpid(),
            "listen": [str(listening)],
            "metrics": None if metrics is None else str(metrics),
        }
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(json.dumps(content) + "\n", encoding="utf-8")
        os.replace(fresh, path)

    async def _close(self, running: "asyncio.Task[None] | None") -> None:
        if self._config.ready_file is not None:
            self._config.ready_file.unlink(missing_ok=True)
        if self._endpoint is not None:
            await self._endpoint.close()
        if self._mgmtd is not None:
            await self._mgmtd.close()
        if running is not None:
            running.cancel()
            await asyncio.wait((running,))
        if self._store is not None:
            await self._store.close()
        self._log.info("stopped")


def secret_for(config: MgmtdConfig, environment: Mapping[str, str]) -> NodeSecret:
    """Return the secret of the cluster: as for a node, it is made beside the metadata store."""
    given = given_secret(
        config.secret_file, environment, open=config.open, loopback=config.listen.loopback
    )
    if given is not None:
        return given
    if config.directory is None:
        raise InvalidOptionError(
            "an mgmtd that listens beyond loopback needs a secret: write secret_file with the same"
            " secret for every mgmtd, node and client, or open = true for none"
        )
    path = config.directory.parent / MADE_NAME
    try:
        secret, made = read_or_make_secret(path)
    except OSError as error:
        raise InvalidOptionError(f"the secret {path} cannot be made: {error.strerror}") from error
    return NodeSecret(secret, str(path), made)
