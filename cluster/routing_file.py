"""Static routing: a file, .json or .toml, that says which node and target each slot belongs to.

    format_version = 1
    routing_version = 1        # 1 more with each change
    slot_count = 1024          # a power of two; it stays what it is once there is data

    [[nodes]]
    node = 1
    address = "10.0.0.1:7400"

    [[slots]]                  # each slot is in exactly one range
    first = 0
    last = 1023
    node = 1
    target = 1

A target, whose number is the only one of its kind in the cluster, is a chain of its own here.
"""

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

from kvstore.addresses import Address
from kvstore.cluster.ids import ID_MAX, ROUTING_VERSION_MAX
from kvstore.cluster.routes import SLOT_COUNT_MAX, routes_of
from kvstore.cluster.routing import RoutingInfo, is_power_of_two
from kvstore.cluster.static_routing import SLOT_COUNT, static_routing
from kvstore.errors import InvalidOptionError
from kvstore.parsers import count_between

FORMAT_VERSION = 1
"""Of the file; that of the bytes that nodes publish is the codec's."""
FILE_SIZE_MAX = 16 << 20
VALUES = ("format_version", "routing_version", "slot_count")
ROWS = {"nodes": ("node", "address"), "slots": ("first", "last", "node", "target")}

id_of = count_between(1, ID_MAX)


def read_routing_file(path: Path) -> RoutingInfo:
    """Return the routing info of a file; raises InvalidOptionError that names file and key."""
    try:
        return parse_routing(load(path))
    except InvalidOptionError as error:
        raise InvalidOptionError(f"{path}: {error}") from error


def load(path: Path) -> dict[str, object]:
    """Return what a file says, as its suffix says it is written."""
    try:
        if path.stat().st_size > FILE_SIZE_MAX:
            raise InvalidOptionError(f"a routing file has at most {FILE_SIZE_MAX} bytes")
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise InvalidOptionError(error.strerror) from error
    except ValueError as error:  # of either syntax, or no UTF-8
        raise InvalidOptionError(
            f"no {path.suffix.removeprefix('.') or 'json'}: {error}"
        ) from error
    if not isinstance(found, dict):
        raise InvalidOptionError(
            "expected an object with the keys format_version, nodes, slots ..."
        )
    return found


def parse_routing(fields: dict[str, object]) -> RoutingInfo:
    """Return the routing info of what a file says."""
    refuse_unknown("", fields, (*VALUES, *ROWS))
    if fields.get("format_version") != FORMAT_VERSION:
        raise InvalidOptionError(f"format_version: write {FORMAT_VERSION}")
    version = count_between(1, ROUTING_VERSION_MAX)(
        "routing_version", fields.get("routing_version")
    )
    slot_count = id_of("slot_count", fields.get("slot_count"))
    check_slot_count(slot_count)
    nodes = dict(node_rows(fields))
    targets: dict[int, int] = {}
    slots = [0] * slot_count
    for at, row in rows_of(fields, "slots"):
        fill_range(at, row, slots, targets, nodes)
    if 0 in slots:
        raise InvalidOptionError(f"slots: slot {slots.index(0)} is in no range")
    return static_routing(version, nodes, targets, slots)


def check_slot_count(count: int) -> None:
    """Raise unless there may be so many slots."""
    if not is_power_of_two(count) or count > SLOT_COUNT_MAX:
        raise InvalidOptionError(
            f"the slot count is a power of two up to {SLOT_COUNT_MAX}, such as {SLOT_COUNT}; "
            f"{count} is none"
        )


def node_rows(fields: dict[str, object]) -> Iterator[tuple[int, Address]]:
    """Yield the nodes with their addresses."""
    seen: set[int] = set()
    for at, row in rows_of(fields, "nodes"):
        node = id_of(f"{at}.node", row["node"])
        if node in seen:
            raise InvalidOptionError(f"{at}.node: node {node} is there twice")
        seen.add(node)
        yield node, address_of(f"{at}.address", row["address"])


def address_of(name: str, value: object) -> Address:
    """Return an address that clients can connect to."""
    if not isinstance(value, str):
        raise InvalidOptionError(f'{name}: write "name:port", got {value!r}')
    try:
        address = Address.parse(value, port_default=None)
    except InvalidOptionError as error:
        raise InvalidOptionError(f"{name}: {error}") from error
    if address.wildcard or address.port == 0:
        raise InvalidOptionError(
            f"{name}: nobody can connect to {value}: write a name or an address"
        )
    return address


def fill_range(
    at: str,
    row: dict[str, object],
    slots: list[int],
    targets: dict[int, int],
    nodes: dict[int, Address],
) -> None:
    """Give the slots of one range to their target."""
    in_table = count_between(0, len(slots) - 1)
    first, last = in_table(f"{at}.first", row["first"]), in_table(f"{at}.last", row["last"])
    node, target = id_of(f"{at}.node", row["node"]), id_of(f"{at}.target", row["target"])
    if last < first:
        raise InvalidOptionError(f"{at}: last {last} is before first {first}")
    if node not in nodes:
        raise InvalidOptionError(f"{at}.node: there is no node {node}")
    if targets.setdefault(target, node) != node:
        raise InvalidOptionError(f"{at}: target {target} is on node {targets[target]} already")
    for slot in range(first, last + 1):
        if slots[slot]:
            raise InvalidOptionError(f"{at}: slot {slot} is in another range, too")
        slots[slot] = target


def rows_of(fields: dict[str, object], name: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield "name[index]" and the row, which has exactly the keys it should."""
    rows = fields.get(name)
    if not isinstance(rows, list) or not rows:
        raise InvalidOptionError(f"{name}: expected a list of {', '.join(ROWS[name])}")
    for index, row in enumerate(rows):
        at = f"{name}[{index}]"
        if not isinstance(row, dict):
            raise InvalidOptionError(f"{at}: expected {', '.join(ROWS[name])}")
        refuse_unknown(f"{at}.", row, ROWS[name])
        for key in ROWS[name]:
            if key not in row:
                raise InvalidOptionError(f"{at}.{key} is missing")
        yield at, row


def refuse_unknown(at: str, fields: dict[str, object], known: tuple[str, ...]) -> None:
    """Raise when a key is not one of the known ones."""
    for key in fields:
        if key not in known:
            raise InvalidOptionError(f"{at}{key}: the keys here are {', '.join(known)}")


def routing_fields(routing: RoutingInfo) -> dict[str, object]:
    """Return what a routing file says of static routing."""
    routes = routes_of(routing)
    ranges: list[dict[str, int]] = []
    for slot, chain in enumerate(routes.slots):
        target = routes.chains[chain].first
        if ranges and ranges[-1]["target"] == target:
            ranges[-1]["last"] = slot
        else:
            node = routes.targets[target]
            ranges.append({"first": slot, "last": slot, "node": node, "target": target})
    return {
        "format_version": FORMAT_VERSION,
        "routing_version": routes.routing_version,
        "slot_count": len(routes.slots),
        "nodes": [{"node": node, "address": str(a)} for node, a in routes.nodes.items()],
        "slots": ranges,
    }


def write_routing_file(path: Path, routing: RoutingInfo) -> None:
    """Write a routing file in JSON, which appears whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(json.dumps(routing_fields(routing), indent=1) + "\n", encoding="utf-8")
    os.replace(fresh, path)
