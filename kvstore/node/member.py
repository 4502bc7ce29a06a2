"""A daemon's place in a cluster: identities, registration, and the agent that keeps it there."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kvstore.addresses import Address
from kvstore.cluster.ids import NodeId, TargetId
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.cluster.mgmtd.messages import NodeRegistration, RegisterAnswer, TargetRegistration
from kvstore.cluster.routing import ADDRESSES_MAX
from kvstore.native.node import NativeNode
from kvstore.node.agent import Agent
from kvstore.node.config import NodeConfig
from kvstore.node.healing import Healer, fetch_with
from kvstore.node.identity import (
    Identity,
    begin,
    check_cluster,
    claim,
    join_cluster,
    refuse_members,
)
from kvstore.node.log import Log
from kvstore.node.routing import advertised

CONNECT_TIMEOUT_S = 0.3
"""Of one address of mgmtd: a lease must outlast the search for another primary."""


def identities_of(config: NodeConfig) -> dict[int, Identity]:
    """Return the identities of a node's targets; none, and a check, where it is on its own."""
    directories = {id: Path(options.directory) for id, options in config.targets.items()}
    if not config.mgmtd:
        refuse_members(directories)
        return {}
    claimed = {id: claim(directory, config.node, id) for id, directory in directories.items()}
    return begin(directories, claimed, time.time_ns())


class Member:
    """A node of a cluster."""

    def __init__(
        self,
        node: NativeNode,
        config: NodeConfig,
        identities: Mapping[int, Identity],
        listening: Sequence[Address],
        secret: bytes,
        log: Log,
    ) -> None:
        """Do nothing yet."""
        self._config = config
        self._identities = identities
        self._mgmtd = MgmtdClient(config.mgmtd, secret=secret, connect_timeout_s=CONNECT_TIMEOUT_S)
        registration = registration_of(node, config, identities, listening)
        self.agent = Agent(node, self._mgmtd, registration, log)
        self._secret = secret
        fetch = fetch_with(lambda: self._secret)
        self.healer = Healer(node, lambda: self.agent.routing, fetch, log)

    def change_secret(self, secret: bytes) -> None:
        """Prove another secret to mgmtd and to other nodes, from new connections on."""
        self._secret = secret
        self._mgmtd.change_secret(secret)

    async def take_part(self, on_lease: Callable[[int], None]) -> None:
        """Join, and stay until cancelled; *on_lease* hears the routing version at the beginning."""
        answer = await self.agent.join()
        await asyncio.to_thread(self._write_identities, answer)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.agent.run())
            group.create_task(self.healer.run())
            await self.agent.renewed()
            on_lease(self.agent.routing.version)

    def _write_identities(self, answer: RegisterAnswer) -> None:
        directories = {id: Path(options.directory) for id, options in self._config.targets.items()}
        for id, identity in self._identities.items():
            check_cluster(directories[id], identity, answer.cluster)
        for id, identity in self._identities.items():
            join_cluster(directories[id], identity, answer.cluster)

    async def close(self) -> None:
        """End the connections to mgmtd."""
        with suppress(OSError):
            await self._mgmtd.close()


def registration_of(
    node: NativeNode,
    config: NodeConfig,
    identities: Mapping[int, Identity],
    listening: Sequence[Address],
) -> NodeRegistration:
    """Return what a node says of itself when it joins."""
    disks = disks_of({id: Path(options.directory) for id, options in config.targets.items()})
    return NodeRegistration(
        id=NodeId(config.node),
        incarnation=max(identity.start for identity in identities.values()),
        addresses=addresses_of(config, listening),
        rack=config.rack,
        targets=tuple(
            TargetRegistration(
                id=TargetId(id),
                uuid=identities[id].uuid,
                disk=disks[id],
                capacity_bytes=options.capacity,
                empty=node.target_statistics(id).objects == 0,
                cluster=identities[id].cluster,
            )
            for id, options in config.targets.items()
        ),
    )


def addresses_of(config: NodeConfig, listening: Sequence[Address]) -> tuple[str, ...]:
    """Return where others reach a node: the address for clients, then its other networks."""
    first = advertised(config, listening)
    others = [address for address in listening if not address.wildcard]
    every = [first] if config.advertise is not None else [first, *others]
    return tuple(map(str, dict.fromkeys(every)))[:ADDRESSES_MAX]


def disks_of(directories: Mapping[int, Path]) -> dict[int, int]:
    """Return the disk of each target: those of one file system are of one disk."""
    devices = {id: os.stat(directory).st_dev for id, directory in directories.items()}
    numbers = {device: number for number, device in enumerate(dict.fromkeys(devices.values()))}
    return {id: numbers[device] for id, device in devices.items()}
