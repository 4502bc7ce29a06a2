"""A node as a daemon, from its start to its end.

starting ──targets open, listening──► joining ──first lease──► serving ──SIGHUP──► serving
    │                                   │    (only with mgmtd)    │ SIGTERM, SIGINT
    │                                   │                      leaving    (only with mgmtd)
    │                                   │                         │ out of its chains, or late
    └──SIGTERM, SIGINT──► closing ◄─────┴──idle, late, or again── draining

Guarantees: the ready file appears when clients are served, and not before; a stop that drains loses
no answer; a configuration that does not load leaves the running one as it is.
"""

import asyncio
import json
import os
import signal
from dataclasses import replace
from http import HTTPStatus
from time import monotonic

import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from kvstore.addresses import Address
from kvstore.cluster.codec import encode_routing
from kvstore.errors import ClusterError, KVStoreError, StoreAccessError
from kvstore.native.node import NativeNode
from kvstore.node.config import ConfigSource, NodeConfig, changes
from kvstore.node.events import EventLog
from kvstore.node.http import Endpoint, Page, open_endpoint, plain
from kvstore.node.log import Log, make_log
from kvstore.node.member import Member, identities_of
from kvstore.node.metrics import NodeCollector
from kvstore.node.routing import routing_to_publish, targets_of
from kvstore.node.secret import secret_for

DRAIN_STEP_S = 0.1
"""How long a second signal may go unnoticed while a node drains."""
CLOSE_TIMEOUT_S = 10.0
"""How long connections that are left may take to end."""
LEAVE_TIMEOUT_S = 3.0
"""How long chains may take to go on without the node: a takeover of mgmtd, and a change."""
EVENT_ROUNDS_MAX = 16
"""Takings of events before the loop does something else."""
RELOADABLE = frozenset(("secret_file", "routing", "log", "log_level", "drain_timeout_s"))


def run_node(source: ConfigSource, config: NodeConfig, release: str) -> int:
    """Run a node until a signal ends it; the exit code."""
    log = make_log(config.log, config.log_level).bind(node=config.node)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Daemon(source, config, release, log).run())


class Daemon:
    """One node."""

    def __init__(self, source: ConfigSource, config: NodeConfig, release: str, log: Log) -> None:
        """Do nothing yet."""
        self._release = release
        self._source = source
        self._config = config
        self._log = log
        self._events = EventLog(log)
        self._stopping = asyncio.Event()
        self._signals = 0
        self._node: NativeNode | None = None
        self._listening: list[Address] = []
        self._endpoint: Endpoint | None = None
        self._metrics: Address | None = None
        self._routing_version = 0
        self._member: Member | None = None
        self._failed = False

    async def run(self) -> int:
        """Start, serve, stop; 1 when it did not start or did not end well."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop, number)
        # A reload that comes while targets are opened waits for the node.
        reload_wanted = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, reload_wanted.set)
        try:
            await self._start()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._reload_when(reload_wanted))]
                if self._member is not None:
                    tasks.append(group.create_task(self._take_part(self._member)))
                await self._stopping.wait()
                await self._leave()
                for task in tasks:
                    task.cancel()
        except (KVStoreError, OSError, MemoryError) as error:
            self._log.error("cannot start", error=str(error), kind=type(error).__name__)
            await self._close()
            return 1
        await self._drain()
        closed = await self._close()
        return 0 if closed and not self._failed else 1

    # Starting.

    async def _start(self) -> None:
        config = self._config
        secret = secret_for(config, os.environ)
        identities = await asyncio.to_thread(identities_of, config)
        self._node = node = NativeNode(config.options(secret.secret))
        for target, options in config.targets.items():
            start = monotonic()
            await asyncio.to_thread(node.add_target, target, options)
            self._log.info(
                "target open",
                target=target,
                directory=options.directory,
                objects=node.target_statistics(target).objects,
                seconds=round(monotonic() - start, 3),
            )
            if self._stopping.is_set():
                return
        asyncio.get_running_loop().add_reader(node.event_descriptor, self._on_events)
        if config.mgmtd:
            node.set_chains(0, (), ())  # a node of a cluster serves nobody until mgmtd says so
            node.set_resync_rate(config.resync_bytes_per_s)
        self._listening = [await asyncio.to_thread(node.listen, each) for each in config.listen]
        if secret.made:
            self._log.warning("secret made: clients need it", secret_file=secret.source)
        self._metrics = await self._open_endpoint(node, config)
        if config.mgmtd:
            self._member = Member(
                node, config, identities, self._listening, secret.secret, self._log
            )
            return
        await self._publish(config)
        self._say_serving(node, secret.source)

    def _say_serving(self, node: NativeNode, secret_source: str) -> None:
        self._log.info(
            "serving",
            listen=[str(address) for address in self._listening],
            metrics=None if self._metrics is None else str(self._metrics),
            secret=secret_source or None,
            version=self._release,
            code=node.describe(),
        )
        self._write_ready_file()

    async def _take_part(self, member: Member) -> None:
        """Join the cluster and stay in it; being refused ends the node."""
        assert self._node is not None
        node, source = self._node, secret_for(self._config, os.environ).source

        def on_lease(routing_version: int) -> None:
            self._routing_version = routing_version
            self._say_serving(node, source)

        try:
            await member.take_part(on_lease)
        except* (ClusterError, StoreAccessError, OSError) as errors:
            for error in errors.exceptions:
                self._log.error("cannot take part", error=str(error), kind=type(error).__name__)
            self._failed = True
            self._stopping.set()

    async def _publish(self, config: NodeConfig) -> None:
        assert self._node is not None
        routing = await asyncio.to_thread(routing_to_publish, config, self._listening)
        self._node.publish_routing(encode_routing(routing))
        self._routing_version = routing.version
        self._log.info(
            "routing info published",
            routing_version=routing.version,
            nodes=len(routing.nodes),
            file=None if config.routing is None else str(config.routing),
        )
        if not targets_of(routing, config.node):
            self._log.warning("no slot belongs to this node", file=str(config.routing))

    async def _open_endpoint(self, node: NativeNode, config: NodeConfig) -> Address | None:
        if config.metrics is None:
            return None
        registry = CollectorRegistry(auto_describe=False)
        registry.register(NodeCollector(node, config.node, tuple(config.targets), self._release))
        ProcessCollector(registry=registry)
        self._endpoint = await open_endpoint(
            config.metrics,
            {"/metrics": lambda: metrics_page(registry), "/healthz": self._health_page},
        )
        return Address(config.metrics.name, self._endpoint.port)

    def _health_page(self) -> Page:
        """Say whether the node can serve every key that is asked of it."""
        assert self._node is not None
        if self._stopping.is_set():
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "stopping")
        if self._member is not None and self._member.agent.lease_left_s == 0:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "no lease of mgmtd")
        for target in self._config.targets:
            if self._node.target_statistics(target).offline:
                return plain(HTTPStatus.SERVICE_UNAVAILABLE, f"target {target} is offline")
        return plain(HTTPStatus.OK, "ok")

    def _write_ready_file(self) -> None:
        """Say that the node serves, where, and by which routing info; the file appears whole."""
        path = self._config.ready_file
        if path is None:
            return
        fresh = path.with_name(f".{path.name}.new")
        content = {
            "node": self._config.node,
            "pid": os.getpid(),
            "listen": [str(address) for address in self._listening],
            "metrics": None if self._metrics is None else str(self._metrics),
            "routing_version": self._routing_version,
        }
        fresh.write_text(json.dumps(content) + "\n", encoding="utf-8")
        os.replace(fresh, path)

    # Serving.

    def _on_events(self) -> None:
        assert self._node is not None
        for _ in range(EVENT_ROUNDS_MAX):
            events = self._node.take_events()
            if not events:
                break
            self._events.write(events)
            if self._member is not None:
                self._member.agent.on_events(events)

    async def _reload_when(self, wanted: asyncio.Event) -> None:
        while True:
            await wanted.wait()
            wanted.clear()
            await self._reload()

    async def _reload(self) -> None:
        """Load the configuration again, and take over what can be."""
        assert self._node is not None
        try:
            config = await asyncio.to_thread(self._source.load)
            changed = changes(self._config, config)
            fixed = [key for key in changed if key not in RELOADABLE]
            taken = replace(
                self._config, **{key: getattr(config, key) for key in RELOADABLE & set(changed)}
            )
            secret = secret_for(taken, os.environ)
            if self._member is None:
                await self._publish(taken)
            self._node.set_secret(secret.secret)
        except (KVStoreError, OSError) as error:
            self._log.error("not reloaded: it goes on as before", error=str(error))
            return
        self._config = taken
        self._log = make_log(taken.log, taken.log_level).bind(node=taken.node)
        self._events.log = self._log
        if self._member is not None:
            self._member.agent.log = self._member.healer.log = self._log
            self._member.change_secret(secret.secret)
        self._write_ready_file()
        self._log.info("reloaded", changed=[key for key in changed if key in RELOADABLE])
        if fixed:
            self._log.warning("these changes need a restart", keys=fixed)

    # Stopping.

    def _on_stop(self, number: signal.Signals) -> None:
        self._signals += 1
        again = "" if self._signals == 1 else ", again: not waiting for clients any more"
        self._log.info(f"stopping{again}", signal=number.name)
        self._stopping.set()

    async def _leave(self) -> None:
        """Have the chains go on without this node before its connections end."""
        if self._member is not None and not self._failed:
            await self._member.agent.leave(LEAVE_TIMEOUT_S)

    async def _drain(self) -> None:
        """Let connections finish, until they have, it takes too long, or a signal comes again."""
        assert self._node is not None
        deadline = monotonic() + self._config.drain_timeout_s
        while self._listening and self._signals < 2 and monotonic() < deadline:
            if await asyncio.to_thread(self._node.drain, DRAIN_STEP_S):
                return
        if left := self._node.statistics().connections:
            self._log.warning("connections are left", count=left)

    async def _close(self) -> bool:
        """Close everything; whether that went well."""
        if self._member is not None:
            await self._member.close()
        if self._endpoint is not None:
            await self._endpoint.close()
        if self._config.ready_file is not None:
            self._config.ready_file.unlink(missing_ok=True)
        node = self._node
        if node is None:
            return True
        if self._listening:
            self._on_events()
        try:
            asyncio.get_running_loop().remove_reader(node.event_descriptor)
            await asyncio.to_thread(node.close, CLOSE_TIMEOUT_S)
        except KVStoreError as error:
            self._log.error("not closed well", error=str(error))
            return False
        self._events.tell_left_out()
        self._log.info("stopped")
        return True


def metrics_page(registry: CollectorRegistry) -> Page:
    """Return every metric as text."""
    return Page(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry))
