"""mgmtd in this process or in its own, and storage nodes that only talk to it."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

from kvstore.addresses import Address
from kvstore.cluster.ids import ChainVersion, NodeId, TargetId
from kvstore.cluster.metadata.port import MetadataStore
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.cluster.mgmtd.messages import (
    Heartbeat,
    HeartbeatAnswer,
    NodeRegistration,
    RegisterAnswer,
    TargetRegistration,
    TargetReport,
)
from kvstore.cluster.mgmtd.server import Mgmtd
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.routing import Chain, RoutingInfo
from kvstore.cluster.states import LocalState

SECRET = b"the secret of the cluster"
TIMEOUT_S = 60.0
LOOPBACK = Address("127.0.0.1", 0)


@dataclass(slots=True)
class Lines:
    """A log that tests can read."""

    events: list[str] = field(default_factory=list)

    def info(self, event: str, **about: object) -> None:
        self.events.append(event)

    def warning(self, event: str, **about: object) -> None:
        self.events.append(event)

    def error(self, event: str, **about: object) -> None:
        self.events.append(event)


@asynccontextmanager
async def running(
    store: MetadataStore, settings: Settings, secret: bytes = SECRET
) -> AsyncIterator[tuple[Mgmtd, Address]]:
    """Run an mgmtd in this process; it leaves its store open."""
    mgmtd = Mgmtd(store, settings, secret=secret, log=Lines())
    address = await mgmtd.listen(LOOPBACK)
    task = asyncio.ensure_future(mgmtd.run())
    try:
        yield mgmtd, address
    finally:
        await mgmtd.close()
        task.cancel()
        await asyncio.wait((task,))


class FakeNode:
    """A storage node that only talks to mgmtd; it listens, so that a probe finds it."""

    def __init__(
        self, id: int, mgmtd: list[Address], targets: int = 1, secret: bytes = SECRET
    ) -> None:
        self.id = NodeId(id)
        self.client = MgmtdClient(mgmtd, secret=secret, timeout_s=TIMEOUT_S, name=f"node {id}")
        self.incarnation = 1
        self.routing = RoutingInfo()
        self.targets = {TargetId(10 * id + index): uuid4() for index in range(1, targets + 1)}
        self.local = LocalState.ONLINE
        self.epoch = 0
        self._listening: asyncio.Server | None = None

    async def start(self, *, empty: bool = True, cluster: UUID | None = None) -> RegisterAnswer:
        self._listening = await asyncio.start_server(_nothing, "127.0.0.1", 0)
        port = self._listening.sockets[0].getsockname()[1]
        answer = await self.client.register(
            NodeRegistration(
                id=self.id,
                incarnation=self.incarnation,
                addresses=(f"127.0.0.1:{port}",),
                targets=tuple(
                    TargetRegistration(id=id, uuid=uuid, empty=empty)
                    for id, uuid in self.targets.items()
                ),
            )
        )
        self.routing = answer.routing
        return answer

    async def beat(self, timeout_s: float | None = None) -> HeartbeatAnswer:
        """Say how all targets are; know what mgmtd knows afterwards."""
        reports = tuple(
            TargetReport(
                target=target,
                local=self.local,
                chain_version=self.chain_version(target),
                used_bytes=1000 * target,
            )
            for target in self.targets
        )
        answer = await self.client.heartbeat(
            Heartbeat(
                node=self.id,
                incarnation=self.incarnation,
                routing_version=self.routing.version,
                targets=reports,
            ),
            timeout_s=timeout_s,
        )
        self.epoch = answer.epoch
        if answer.routing_version != self.routing.version:
            self.routing = await self.client.routing()
        return answer

    def chain_version(self, target: TargetId) -> ChainVersion:
        for chain in self.routing.chains.values():
            if any(place.target == target for place in chain.targets):
                return chain.version
        return ChainVersion(0)

    async def die(self) -> None:
        """Be gone as a process is that was killed: nothing listens, the connection ends."""
        assert self._listening is not None
        self._listening.close()
        await self._listening.wait_closed()
        await self.client.close()

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.close()
        await self.client.close()


async def until(client: MgmtdClient, holds: Callable[[RoutingInfo], bool]) -> RoutingInfo:
    """Return the first routing info of which something holds."""
    async with aclosing(client.subscribe()) as versions:
        async for routing in versions:
            if holds(routing):
                return routing
    raise AssertionError("the subscription ended")


def states_of(chain: Chain) -> list[tuple[int, str]]:
    return [(place.target, place.state.name.lower()) for place in chain.targets]


class MgmtdProcess:
    """mgmtd as a process of its own."""

    def __init__(self, folder: Path, metadata: str, *flags: str) -> None:
        self.ready = folder / "ready.json"
        self.ready.unlink(missing_ok=True)
        self.log = folder / "log"
        secret = folder / "secret"
        secret.write_bytes(SECRET)
        secret.chmod(0o600)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "kvstore", "mgmtd", "--metadata", metadata),
                    *("--listen", "127.0.0.1:0", "--ready-file", str(self.ready)),
                    *("--secret-file", str(secret), "--log", "json", *flags),
                ],
                stderr=log,
            )

    async def address(self) -> Address:
        """Return where it answers, once it does."""
        while not self.ready.exists():
            assert self.process.poll() is None, self.log.read_text()
            await asyncio.sleep(0.01)
        return Address.parse(json.loads(self.ready.read_text())["listen"][0])

    async def logged(self, event: str) -> None:
        """Return once it has said so in its log."""
        while f'"{event}"' not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            await asyncio.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Stop it as an operator would; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=TIMEOUT_S)


async def _nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del reader
    writer.close()
