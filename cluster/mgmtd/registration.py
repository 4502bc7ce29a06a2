"""Who may join: the rules of a node's registration, on a draft. Pure.

Each refusal says what to do. What decides that an earlier start of a node is over is the core's;
here the node is taken to be the only one of its id.

A target is known by the uuid in its directory. One that comes back empty, with another uuid, is a
replaced disk: it joins as a target that holds nothing. While its chain still counts on what the
directory before held, it does not count as open (`Identity.replaced_by`).
"""

from collections.abc import Callable
from dataclasses import replace

from kvstore.addresses import Address
from kvstore.cluster.ids import NodeId, TargetId
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.mgmtd.ledger import DISSOLVES, Identity
from kvstore.cluster.mgmtd.messages import NodeRegistration, TargetRegistration
from kvstore.cluster.mgmtd.repair import CLAIMS
from kvstore.cluster.routing import NIL_UUID, Node, Target
from kvstore.cluster.states import NodeState
from kvstore.errors import InvalidOptionError, RegistrationError

MIB = 1 << 20
KEPT_STATES = (NodeState.DRAINING, NodeState.DISABLED)


def register_node(
    draft: Draft, registration: NodeRegistration, is_alive: Callable[[NodeId], bool]
) -> None:
    """Put a node and its targets into the draft; `is_alive` tells of the other nodes.

    Raises RegistrationError; the draft may have been changed in part then.
    """
    known = draft.nodes.get(registration.id)
    _check_node(registration, known)
    _check_apart(draft, registration, is_alive)
    state = NodeState.ACTIVE
    if known and (known.state in KEPT_STATES or known.incarnation == registration.incarnation):
        state = known.state
    node = Node(
        registration.id,
        registration.kind,
        state,
        registration.addresses,
        registration.rack,
        registration.incarnation,
    )
    if node != known:
        draft.put_node(node)
    for target in registration.targets:
        _register_target(draft, registration, target)


def check_loopback(registration: NodeRegistration, comes_from: str) -> None:
    """Refuse an address that leads everybody else to their own machine."""
    addresses = [Address.parse(text, port_default=None) for text in registration.addresses]
    if Address(comes_from, 1).loopback or not any(each.loopback for each in addresses):
        return
    raise RegistrationError(
        f"node {registration.id} comes from {comes_from} and says that it is reached at"
        f" {', '.join(registration.addresses)}: give it an address that other machines reach"
        " (listen, advertise)"
    )


def _check_node(registration: NodeRegistration, known: Node | None) -> None:
    id = registration.id
    if known and known.state is NodeState.DISABLED:
        raise RegistrationError(f"node {id} is disabled: kvstore admin resume-node {id}")
    if known and known.kind is not registration.kind:
        raise RegistrationError(
            f"node {id} is known as {known.kind.name.lower()}: give this one another id"
        )
    if not registration.addresses:
        raise RegistrationError(f"node {id} names no address: tell it where to listen")
    for text in registration.addresses:
        _check_address(id, text)
    ids = [target.id for target in registration.targets]
    uuids = [target.uuid for target in registration.targets]
    if len(set(ids)) != len(ids) or len(set(uuids)) != len(uuids):
        raise RegistrationError(f"node {id} names a target twice: give each directory its own id")


def _check_apart(
    draft: Draft, registration: NodeRegistration, is_alive: Callable[[NodeId], bool]
) -> None:
    """Refuse an address at which another node is reached."""
    for address in sorted(set(registration.addresses)):
        for other in draft.nodes_at(address):
            if other != registration.id and is_alive(other):
                raise RegistrationError(
                    f"node {registration.id} says that it is reached at {address}, which is the"
                    f" address of node {other}, which is alive: advertise another one"
                )


def _check_address(node: int, text: str) -> None:
    try:
        address = Address.parse(text, port_default=None)
    except InvalidOptionError as error:
        raise RegistrationError(f"node {node}: {error}") from error
    if address.wildcard or not address.port:
        raise RegistrationError(
            f"node {node}: nobody can connect to {text}: advertise a name or an address"
        )


def _register_target(
    draft: Draft, registration: NodeRegistration, target: TargetRegistration
) -> None:
    node = registration.id
    cluster = draft.basis.routing.cluster
    if target.cluster not in (NIL_UUID, cluster):
        raise RegistrationError(
            f"target {target.id} of node {node} belongs to cluster {target.cluster}, this is"
            f" cluster {cluster}: name the mgmtd of its own cluster, or give it an empty directory"
        )
    if target.id == DISSOLVES:
        raise RegistrationError(f"target {target.id} of node {node}: this id is not for targets")
    known = draft.targets.get(target.id)
    if known is not None and known.node != node:
        raise RegistrationError(
            f"target {target.id} is known on node {known.node}, and node {node} brings it: put its"
            " directory back to that node, or give the target an id of its own and an empty"
            " directory"
        )
    owner = draft.owner_of(target.uuid)
    if owner is not None and owner != target.id:
        raise RegistrationError(
            f"the directory of target {target.id} of node {node} is that of target {owner}:"
            f" directories were swapped, put each where it was"
        )
    _put_identity(draft, node, target)
    capacity = target.capacity_bytes // MIB
    now = Target(target.id, node, target.disk, capacity)
    if now != known:
        draft.put_target(now)


def _put_identity(draft: Draft, node: int, target: TargetRegistration) -> None:
    identity = draft.identities.get(target.id)
    if identity is None:
        if not target.empty:
            raise RegistrationError(
                f"target {target.id} of node {node} is not known in this cluster, and its directory"
                " is not empty: give it an empty one (what it holds would be lost)"
            )
        draft.put_identity(target.id, Identity(target.uuid))
    elif target.uuid == identity.uuid:
        if identity.replaced_by is not None:  # the directory before is back
            draft.put_identity(target.id, replace(identity, replaced_by=None))
    elif target.uuid != identity.replaced_by:
        if not target.empty:
            raise RegistrationError(
                f"the directory of target {target.id} of node {node} is not the one that is known,"
                " nor is it empty: mount the right one, or empty it to have it filled again"
            )
        draft.put_identity(target.id, replace(identity, replaced_by=target.uuid))
    settle_identity(draft, target.id)


def settle_identity(draft: Draft, target: TargetId) -> bool:
    """Accept an empty directory in the place of another, once nobody counts on that one.

    Returns whether the target still waits for that.
    """
    identity = draft.identities.get(target)
    if identity is None or identity.replaced_by is None:
        return False
    chain = draft.chain_of(target)
    if chain is not None and any(target in chain.in_state(state) for state in CLAIMS):
        return True
    draft.put_identity(target, Identity(identity.replaced_by))
    return False
