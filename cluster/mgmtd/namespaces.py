"""Namespaces and their policies: list, create, set."""

import re

from kvstore.cluster.ids import ROUTING_VERSION_MAX
from kvstore.cluster.mgmtd.parameters import Parameters
from kvstore.cluster.mgmtd.situation import Situation
from kvstore.cluster.routing import CHAIN_TARGETS_MAX, NAMESPACES_MAX, NamespacePolicy
from kvstore.errors import InvalidOptionError, PlacementError

NAME_SIZE_MAX = 63
"""As the core limits names (KV_NAME_SIZE_MAX)."""
NAME_PATTERN = re.compile(r"[A-Za-z0-9_.-]+")


def list_namespaces(situation: Situation, parameters: Parameters) -> dict[str, object]:
    """Return every namespace."""
    del parameters  # there are none; what is given is refused
    policies = sorted(situation.draft.namespaces.items())
    return {"namespaces": [policy_fields(policy) for _, policy in policies]}


def create_namespace(situation: Situation, parameters: Parameters) -> dict[str, object]:
    """Make a namespace, on chains of as many replicas as it asks for."""
    draft = situation.draft
    name = _name(parameters)
    if name in draft.namespaces:
        raise InvalidOptionError(f"namespace {name!r} exists: ns set changes it")
    if sum(1 for _ in draft.namespaces.values()) >= NAMESPACES_MAX:
        raise InvalidOptionError(f"there are {NAMESPACES_MAX} namespaces, the limit")
    tables = {count: table for table, count in sorted(draft.replicas.items(), reverse=True)}
    if not tables:
        raise PlacementError("there are no chains yet: kvstore admin create-chains first")
    default = draft.replicas[min(tables.values())]
    replicas = parameters.count("replicas", default, 1, CHAIN_TARGETS_MAX)
    if replicas not in tables:
        raise PlacementError(
            f"no chains have {replicas} replicas, there are chains of"
            f" {', '.join(map(str, sorted(tables)))}: make some of spare targets first"
            f" (create-chains with {replicas} replicas)"
        )
    policy = _changed(NamespacePolicy(name, tables[replicas], replicas), parameters)
    draft.namespaces[name] = policy
    return {"namespace": policy_fields(policy)}


def set_namespace(situation: Situation, parameters: Parameters) -> dict[str, object]:
    """Change a namespace's policy."""
    draft = situation.draft
    name = _name(parameters)
    before = draft.namespaces.get(name)
    if before is None:
        raise InvalidOptionError(f"there is no namespace {name!r}: ns create makes it")
    replicas = parameters.count("replicas", before.replicas, 1, CHAIN_TARGETS_MAX)
    if replicas != before.replicas:
        raise InvalidOptionError(
            f"namespace {name!r} is on chains of {before.replicas} replicas: make another one with"
            f" {replicas}, and copy"
        )
    policy = _changed(before, parameters)
    if policy != before:
        draft.namespaces[name] = policy
    return {"namespace": policy_fields(policy)}


def policy_fields(policy: NamespacePolicy) -> dict[str, object]:
    """Return a policy as plain values."""
    return {
        "name": policy.name,
        "slot_table": policy.slot_table,
        "replicas": policy.replicas,
        "durability": policy.durability.name.lower(),
        "eviction": policy.eviction.name.lower(),
        "ttl_ms": policy.ttl_ms,
        "size_max": policy.size_max,
        "objects_max": policy.objects_max,
    }


def _changed(before: NamespacePolicy, parameters: Parameters) -> NamespacePolicy:
    return NamespacePolicy(
        before.name,
        before.slot_table,
        before.replicas,
        parameters.choice("durability", before.durability),
        parameters.choice("eviction", before.eviction),
        parameters.count("ttl_ms", before.ttl_ms, 0, ROUTING_VERSION_MAX),
        parameters.count("size_max", before.size_max, 0, ROUTING_VERSION_MAX),
        parameters.count("objects_max", before.objects_max, 0, ROUTING_VERSION_MAX),
    )


def _name(parameters: Parameters) -> str:
    name = parameters.text("name", NAME_SIZE_MAX)
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidOptionError(f"name: {name!r}: letters, digits, '-', '_' and '.'")
    return name
