"""How storage nodes, clients and commands talk to mgmtd: they find the primary and follow it."""

from collections.abc import AsyncGenerator, Sequence

from kvstore.addresses import Address
from kvstore.cluster.ids import NodeId, TargetId
from kvstore.cluster.mgmtd.messages import (
    Heartbeat,
    HeartbeatAnswer,
    NodeRegistration,
    RegisterAnswer,
)
from kvstore.cluster.routing import RoutingInfo

CALL_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 1.0


class MgmtdClient:
    """One process's way to mgmtd. Used from one event loop; close it, or use `async with`.

    Calls are sent to the primary, over one connection. Where it is not known, lost, or no longer
    primary, each address of each name is tried, names are resolved anew, and redirects are
    followed, with jittered pauses, until the call's deadline. What a caller may get from every
    call: MgmtdUnavailableError, when no primary answered by then; StoreAccessError, when the secret
    is wrong; NotMgmtdError, when something else than mgmtd listens at every address.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        secret: bytes = b"",
        timeout_s: float = CALL_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        """Do nothing yet. `timeout_s` is the deadline of each call that names none."""
        raise NotImplementedError

    async def register(
        self, registration: NodeRegistration, *, timeout_s: float | None = None
    ) -> RegisterAnswer:
        """Join the cluster. RegistrationError says why not, and what to do about it."""
        raise NotImplementedError

    async def heartbeat(
        self, heartbeat: Heartbeat, *, timeout_s: float | None = None
    ) -> HeartbeatAnswer:
        """Report, and renew the lease. NotRegisteredError: register again."""
        raise NotImplementedError

    async def leave(
        self, node: NodeId, incarnation: int, *, timeout_s: float | None = None
    ) -> None:
        """Say that the node serves no more, from now on: its targets leave their chains at once.

        The node has stopped serving before it calls this.
        """
        raise NotImplementedError

    async def suspect(
        self, node: NodeId, target: TargetId | None, why: str, *, timeout_s: float | None = None
    ) -> None:
        """Tell that a node, or one of its targets, does not answer: mgmtd looks at once."""
        raise NotImplementedError

    async def routing(self, *, timeout_s: float | None = None) -> RoutingInfo:
        """Return the whole routing info that is in force."""
        raise NotImplementedError

    def subscribe(self, known: RoutingInfo | None = None) -> AsyncGenerator[RoutingInfo, None]:
        """Yield the routing info, then each newer one, for ever; close it with `aclosing`.

        Versions that a slow reader missed are left out, never the newest. It reconnects by itself,
        raises nothing but StoreAccessError, and starts from `known` where the caller has it.
        """
        raise NotImplementedError

    async def admin(
        self, operation: str, *, timeout_s: float | None = None, **parameters: object
    ) -> dict[str, object]:
        """Do an operator's operation, and return what came of it; `admin` lists the operations.

        Raises InvalidOptionError for what makes no sense, ChainChangeError and PlacementError for
        what would lose data or cannot be placed; the messages say what to do.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """End the connection and every subscription."""
        raise NotImplementedError

    async def __aenter__(self) -> "MgmtdClient":
        """Return itself."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close."""
        await self.close()
