"""Routing files: whole or refused, and the refusal names the key."""

import json
from pathlib import Path
from typing import Any

import pytest

from kvstore.addresses import Address
from kvstore.cluster.routing_file import (
    parse_routing,
    read_routing_file,
    routing_fields,
    write_routing_file,
)
from kvstore.cluster.static_routing import even_slots, static_routing
from kvstore.errors import InvalidOptionError

TWO_NODES = static_routing(
    7,
    {1: Address("10.0.0.1", 7400), 2: Address("::1", 7401)},
    {1: 1, 2: 1, 3: 2},
    even_slots([1, 2, 3], 16),
)


def fields_of(**changes: object) -> dict[str, object]:
    found = routing_fields(TWO_NODES) | changes
    return {key: value for key, value in found.items() if value != "gone"}


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"

    write_routing_file(path, TWO_NODES)

    assert TWO_NODES == read_routing_file(path)
    assert [path] == list(tmp_path.iterdir())


def test_a_file_may_be_toml(tmp_path: Path) -> None:
    path = tmp_path / "routing.toml"
    path.write_text(
        """
        format_version = 1
        routing_version = 3
        slot_count = 4
        [[nodes]]
        node = 9
        address = "node9:7400"
        [[slots]]
        first = 0
        last = 3
        node = 9
        target = 5
        """
    )

    found = read_routing_file(path)

    assert static_routing(3, {9: Address("node9", 7400)}, {5: 9}, [5] * 4) == found


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format_version": 2}, "format_version: write 1"),
        ({"routing_version": "gone"}, "routing_version: None is no whole number"),
        ({"slot_count": 12}, "a power of two"),
        ({"slot_count": 8}, r"slots\[1\].last: 10 is no whole number from 0 to 7"),
        ({"slot_count": 32}, "slot 16 is in no range"),
        ({"nodes": "gone"}, "nodes: expected a list of node, address"),
        ({"slots": []}, "slots: expected a list of first, last, node, target"),
        ({"more": 1}, "more: the keys here are format_version"),
        ({"nodes": [{"node": 1}]}, r"nodes\[0\].address is missing"),
        ({"nodes": [{"node": 1, "address": "a:1", "x": 1}]}, r"nodes\[0\].x: the keys here are"),
        ({"nodes": [{"node": 1, "address": "a"}]}, "the port is missing"),
        ({"nodes": [{"node": 1, "address": "0.0.0.0:1"}]}, "nobody can connect"),
        ({"nodes": [{"node": 1, "address": "a:1"}] * 2}, "node 1 is there twice"),
        ({"nodes": [{"node": 0, "address": "a:1"}]}, "no whole number from 1"),
        ({"nodes": [{"node": 1, "address": "a:1"}]}, r"slots\[2\].node: there is no node 2"),
    ],
)
def test_a_bad_file_names_the_key(changes: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidOptionError, match=says):
        parse_routing(fields_of(**changes))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"first": 3}, "is in another range, too"),
        ({"last": 5}, "last 5 is before first 6"),
        ({"target": 1, "node": 2}, "target 1 is on node 1 already"),
    ],
)
def test_ranges_contradict_each_other(change: dict[str, int], says: str) -> None:
    fields: Any = fields_of()
    fields["slots"][1] |= change

    with pytest.raises(InvalidOptionError, match=says):
        parse_routing(fields)


def test_an_error_of_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"
    for text in ("{", "[]", json.dumps(fields_of(slot_count=3))):
        path.write_text(text)
        with pytest.raises(InvalidOptionError, match=str(path)):
            read_routing_file(path)
    with pytest.raises(InvalidOptionError, match="No such file"):
        read_routing_file(tmp_path / "missing.toml")
