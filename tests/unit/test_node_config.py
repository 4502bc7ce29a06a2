"""The configuration of a node: files, flags, defaults, and errors that say what to write."""

from pathlib import Path

import pytest

from kvstore.addresses import Address
from kvstore.cluster.routes import routes_of
from kvstore.errors import InvalidOptionError
from kvstore.node.config import ConfigSource, LogLevel, LogStyle, NodeConfig, changes
from kvstore.node.routing import advertised, routing_to_publish
from kvstore.node.secret import secret_for
from kvstore.options import Durability, Eviction, ReactorDriver, StoreOptions

FULL = """
node = 3
listen = ["127.0.0.1:0", "[::1]:7401"]
advertise = "node3.example.org"
metrics = "127.0.0.1:9400"
secret_file = "secret"
routing = "routing.toml"
log = "json"
log_level = "debug"
reactor = "epoll"
reactors = 2
requests_memory = "64MiB"
stall_timeout_s = 5
memory = "1GiB"
durability = "sync"

[[targets]]
target = 7
directory = "/mnt/a"

[[targets]]
target = 8
directory = "b"
durability = "memory"
eviction = "cache"
"""


def load(tmp_path: Path, text: str, **flags: object) -> NodeConfig:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return ConfigSource(path, flags).load()


def test_flags_alone_are_enough() -> None:
    config = ConfigSource(None, {"targets": ["/d"], "memory": None}).load()

    assert NodeConfig(targets={1: StoreOptions(directory="/d")}) == config
    assert (Address("127.0.0.1", 7400),) == config.listen
    assert config.loopback


def test_every_kind_of_key_is_read_from_a_file(tmp_path: Path) -> None:
    config = load(tmp_path, FULL)

    expected = NodeConfig(
        targets={
            7: StoreOptions(directory="/mnt/a", durability=Durability.SYNC, memory=1 << 30),
            8: StoreOptions(
                directory=str(tmp_path / "b"),
                durability=Durability.MEMORY,
                eviction=Eviction.CACHE,
                memory=1 << 30,
            ),
        },
        node=3,
        listen=(Address("127.0.0.1", 0), Address("::1", 7401)),
        advertise=Address("node3.example.org", 0),
        metrics=Address("127.0.0.1", 9400),
        secret_file=tmp_path / "secret",
        routing=tmp_path / "routing.toml",
        log=LogStyle.JSON,
        log_level=LogLevel.DEBUG,
        reactor=ReactorDriver.EPOLL,
        reactors=2,
        requests_memory=64 << 20,
        stall_timeout_s=5.0,
    )
    assert expected == config


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, FULL, node=4, memory="2GiB", targets=["9=/x", "/y"], reactors=None)

    assert 4 == config.node
    assert {9: "/x", 2: "/y"} == {t: options.directory for t, options in config.targets.items()}
    assert {2 << 30} == {options.memory for options in config.targets.values()}
    assert {Durability.SYNC} == {options.durability for options in config.targets.values()}
    assert 2 == config.reactors


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"node.toml: \[\[targets\]\] with a directory"),
        ("x", "node.toml: "),
        ("nod = 1", "node.toml: unknown option 'nod' .did you mean 'node'"),
        ("node = 0", "node.toml: node: 0 is no whole number from 1"),
        ("listen = 5", 'node.toml: listen: write "address:port"'),
        ('listen = "a:b:c"', "in brackets"),
        ("listen = []", "listen: write at least one"),
        ('advertise = "0.0.0.0"', "nobody can connect"),
        ('log = "loud"', "log: 'loud' is none of auto, json, people"),
        ('memory = "much"', "memory: 'much' is no size"),
        ("open = 3", "neither true nor false"),
        ("targets = 5", r"write \[\[targets\]\]"),
        ("[[targets]]\ntarget = 1", r"targets\[0\].directory: expected text"),
        ('[[targets]]\ndirectory = "a"\nmemry = 1', r"targets\[0\]: unknown option 'memry'"),
        ('[[targets]]\ndirectory = "a"\ndepth = 0', r"targets\[0\].depth: 0 is no whole"),
        ('[[targets]]\ndirectory = "a"\n[[targets]]\ndirectory = "a"', "share the directory"),
        ('secret_file = "s"\nopen = true\n[[targets]]\ndirectory = "a"', "contradict each other"),
        ('mgmtd = "m"\nrouting = "r"\n[[targets]]\ndirectory = "a"', "mgmtd says where keys are"),
        ('mgmtd = "0.0.0.0:7300"', "mgmtd: nobody can connect to"),
        ('mgmtd = "m:0"', "mgmtd: nobody can connect to m:0"),
        ("mgmtd = [7300]", 'mgmtd: write "name:port", got 7300'),
        ('mgmtd = "m,:1"', "mgmtd: .*is no address"),
        ("rack = 7", "rack: expected a name"),
    ],
)
def test_a_bad_file_names_the_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidOptionError, match=says):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({}, "write --target DIRECTORY"),
        ({"targets": ["1="]}, "names no directory"),
        ({"targets": ["0=/d"]}, "--target: '0' is no whole number"),
        ({"targets": ["/d"], "memory": "lots"}, "--memory: 'lots' is no size"),
        ({"targets": ["/d"], "log_level": "loud"}, "--log-level: 'loud'"),
    ],
)
def test_a_bad_flag_is_named(flags: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidOptionError, match=says):
        ConfigSource(None, flags).load()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match=r"missing.toml: No such file"):
        ConfigSource(tmp_path / "missing.toml").load()


def test_changes_are_named(tmp_path: Path) -> None:
    old, new = load(tmp_path, FULL), load(tmp_path, FULL, reactors=3, log_level="info")

    assert [] == changes(old, old)
    assert ["log_level", "reactors"] == changes(old, new)


# Secrets.


@pytest.mark.parametrize("given", ["a:1,b", ["a:1", "b"], ["a:1,b", "b:7300"]])
def test_mgmtd_may_be_several(tmp_path: Path, given: object) -> None:
    flags = {"mgmtd": given, "targets": [str(tmp_path)], "rack": "r1"}

    config = ConfigSource(None, flags).load()

    assert (Address("a", 1), Address("b", 7300)) == config.mgmtd
    assert "r1" == config.rack


def config_at(listen: str, directory: Path, **flags: object) -> NodeConfig:
    flags = {"targets": [str(directory / "target")], "listen": [listen], **flags}
    return ConfigSource(None, flags).load()


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.9.9.9:0", "[::1]:0", "localhost:0"])
def test_on_loopback_no_secret_is_needed(tmp_path: Path, listen: str) -> None:
    assert b"" == secret_for(config_at(listen, tmp_path), {}).secret
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "node1:0"])
def test_beyond_loopback_a_secret_is_made_once(tmp_path: Path, listen: str) -> None:
    config = config_at(listen, tmp_path)

    first, second = secret_for(config, {}), secret_for(config, {})

    path = tmp_path / "kvstore.secret"
    assert (str(path), True, False) == (first.source, first.made, second.made)
    assert first.secret == second.secret
    assert len(first.secret) == 64
    assert 0o600 == path.stat().st_mode & 0o777
    assert [path] == list(tmp_path.iterdir())
    assert first.secret.decode() not in repr(first)


def test_a_node_of_a_cluster_makes_no_secret_of_its_own(tmp_path: Path) -> None:
    config = config_at("0.0.0.0:7400", tmp_path / "target", mgmtd="m")

    with pytest.raises(InvalidOptionError, match="needs the cluster's secret"):
        secret_for(config, {})
    assert b"s" == secret_for(config, {"KVSTORE_SECRET": "s"}).secret


def test_a_given_secret_is_asked_for_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("mine\n")
    path.chmod(0o600)
    config = config_at("127.0.0.1:0", tmp_path, secret_file=path)

    assert b"mine" == secret_for(config, {"KVSTORE_SECRET": "other"}).secret
    environment = {"KVSTORE_SECRET": "other"}
    assert b"other" == secret_for(config_at("127.0.0.1:0", tmp_path), environment).secret


def test_open_stands_for_no_secret(tmp_path: Path) -> None:
    config = config_at("0.0.0.0:0", tmp_path, open=True)

    assert b"" == secret_for(config, {}).secret
    with pytest.raises(InvalidOptionError, match="contradict each other"):
        secret_for(config, {"KVSTORE_SECRET": "other"})


# Routing info.


def test_a_node_alone_has_every_slot(tmp_path: Path) -> None:
    config = ConfigSource(None, {"node": 5, "targets": ["3=/a", "4=/b"]}).load()

    routes = routes_of(routing_to_publish(config, [Address("127.0.0.1", 1234)]))

    assert {5: Address("127.0.0.1", 1234)} == routes.nodes
    assert {3: 5, 4: 5} == routes.targets
    assert (512, 512) == (routes.slots.count(3), routes.slots.count(4))


@pytest.mark.parametrize(
    ("listening", "expected"),
    [
        (["127.0.0.1:1"], "127.0.0.1:1"),
        (["127.0.0.1:1", "10.0.0.1:2"], "10.0.0.1:2"),
        (["0.0.0.0:1", "10.0.0.1:2"], "10.0.0.1:2"),
    ],
)
def test_the_address_that_reaches_furthest_is_advertised(
    tmp_path: Path, listening: list[str], expected: str
) -> None:
    config = config_at("127.0.0.1:0", tmp_path)

    assert expected == str(advertised(config, [Address.parse(text) for text in listening]))


def test_an_advertised_address_wins(tmp_path: Path) -> None:
    listening = [Address("0.0.0.0", 7405)]
    with_port = config_at("0.0.0.0:0", tmp_path, advertise="node1:9")
    without = config_at("0.0.0.0:0", tmp_path, advertise="node1")

    assert Address("node1", 9) == advertised(with_port, listening)
    assert Address("node1", 7405) == advertised(without, listening)


def test_a_routing_file_may_not_name_targets_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "routing.toml"
    path.write_text(
        "format_version = 1\nrouting_version = 1\nslot_count = 1\n"
        '[[nodes]]\nnode = 1\naddress = "a:1"\n'
        "[[slots]]\nfirst = 0\nlast = 0\nnode = 1\ntarget = 9\n"
    )
    config = config_at("127.0.0.1:0", tmp_path, routing=path)

    with pytest.raises(InvalidOptionError, match=r"target 9 of node 1, which has the targets 1"):
        routing_to_publish(config, [])
