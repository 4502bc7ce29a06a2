"""How a node is configured: by a TOML file, by flags, or by both; flags win.

    node = 1
    listen = ["10.0.0.1:7400"]      # or one text; "127.0.0.1:7400" unless given
    metrics = "127.0.0.1:9400"
    secret_file = "/etc/kvstore/secret"
    mgmtd = "mgmtd.example.org:7300"  # of the cluster that it joins; without it, it is on its own
    memory = "8GiB"                 # what targets have in common

    [[targets]]
    target = 1
    directory = "/mnt/nvme0/kvstore"
    capacity = "1TB"                # and what one has for itself

Guarantees: what loads makes sense as a whole; an error names the file and the key, or the flag, and
what to write. Relative paths are relative to the file, those of flags to the working directory.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from pathlib import Path

from kvstore.addresses import MGMTD_PORT_DEFAULT, PORT_DEFAULT, Address
from kvstore.cluster.routing import NAME_SIZE_MAX
from kvstore.errors import InvalidOptionError
from kvstore.options import Driver, Durability, Eviction, NodeOptions, ReactorDriver, StoreOptions
from kvstore.parsers import (
    UINT32_MAX,
    UINT64_MAX,
    boolean_of,
    choice_from,
    count_between,
    seconds_of,
    size_of,
    text_of,
    unknown_option,
)

TARGETS_MAX = 64
REACTORS_MAX = 256
DEPTH_MAX = 4096
DRAIN_TIMEOUT_S = 30.0
PROTOCOL_VERSION_LIMIT = 255
"""Of any release; one that it does not know yet holds nothing back."""


class LogStyle(IntEnum):
    """Whom log lines are for."""

    AUTO = 0
    """People where stderr is a terminal, programs where it is not."""
    JSON = 1
    PEOPLE = 2


class LogLevel(IntEnum):
    """The least that is logged."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Everything that a node is told."""

    targets: Mapping[int, StoreOptions]
    node: int = 1
    listen: tuple[Address, ...] = (Address("127.0.0.1", PORT_DEFAULT),)
    advertise: Address | None = None
    """Where clients reach it, when that is not where it listens; port 0: the port it listens at."""
    metrics: Address | None = None
    secret_file: Path | None = None
    open: bool = False
    """Whether everybody who reaches it may use it: no secret is made."""
    mgmtd: tuple[Address, ...] = ()
    """Where the mgmtd of its cluster are; none: it is on its own."""
    rack: str = ""
    """Nodes of one rack fail together; mgmtd keeps the targets of a chain apart."""
    resync_bytes_per_s: int = 0
    """How much a target sends at most to bring its successor up to date; 0: as much as goes."""
    routing: Path | None = None
    log: LogStyle = LogStyle.AUTO
    log_level: LogLevel = LogLevel.INFO
    ready_file: Path | None = None
    drain_timeout_s: float = DRAIN_TIMEOUT_S
    reactor: ReactorDriver = ReactorDriver.AUTO
    reactors: int = 0
    connections_max: int = 0
    requests_max: int = 0
    requests_memory: int = 0
    stall_timeout_s: float = 0.0
    idle_timeout_s: float = 0.0
    hello_timeout_s: float = 0.0
    protocol_version_max: int = 0
    """The newest version that it speaks with clients and nodes; 0: that of this release."""

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return all(address.loopback for address in self.listen)

    def options(self, secret: bytes) -> NodeOptions:
        """Return what the core is told."""
        return NodeOptions(
            node=self.node,
            secret=secret,
            reactors=self.reactors,
            reactor=self.reactor,
            connections_max=self.connections_max,
            requests_max=self.requests_max,
            requests_memory=self.requests_memory,
            stall_timeout_s=self.stall_timeout_s,
            idle_timeout_s=self.idle_timeout_s,
            hello_timeout_s=self.hello_timeout_s,
            protocol_version_max=self.protocol_version_max,
        )


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Where a configuration comes from; it may be loaded again."""

    path: Path | None
    flags: Mapping[str, object] = field(default_factory=dict)
    """By the names of the file's keys; None stands for a flag that is not given."""

    def load(self) -> NodeConfig:
        """Return the configuration; raises InvalidOptionError."""
        in_file = {} if self.path is None else read_toml(self.path)
        base = Path() if self.path is None else self.path.parent
        given = {key: value for key, value in self.flags.items() if value is not None}

        values = parse_keys(in_file, NODE_PARSERS, f"{self.path}: ", base)
        values |= parse_keys(given, NODE_PARSERS, "--", Path())
        common = parse_keys(in_file, TARGET_PARSERS, f"{self.path}: ", base)
        common |= parse_keys(given, TARGET_PARSERS, "--", Path())

        rows = in_file.get("targets", [])
        targets = dict(
            targets_of_flags(given["targets"], common)
            if "targets" in given
            else targets_of_file(f"{self.path}: ", rows, common, base)
        )
        if not targets:
            where = "--target DIRECTORY" if self.path is None else f"{self.path}: [[targets]]"
            raise InvalidOptionError(f"a node needs a target: write {where} with a directory")
        check_targets(targets)
        config = NodeConfig(targets=targets, **values)  # type: ignore[arg-type]
        check_config(config)
        return config


def check_config(config: NodeConfig) -> None:
    """Raise where two keys contradict each other."""
    if config.open and config.secret_file is not None:
        raise InvalidOptionError("open and secret_file contradict each other: choose one")
    if config.mgmtd and config.routing is not None:
        raise InvalidOptionError(
            "mgmtd and routing contradict each other: mgmtd says where keys are"
        )


def read_toml(path: Path) -> dict[str, object]:
    """Return what a file says; raises for a key that there is not."""
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise InvalidOptionError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise InvalidOptionError(f"{path}: {error}") from error
    known = [*NODE_PARSERS, *TARGET_PARSERS, "targets"]
    for key in found:
        if key not in known:
            raise InvalidOptionError(f"{path}: {unknown_option(key, known)}")
    return found


Parser = Callable[[str, object], object]


def parse_keys(
    given: Mapping[str, object], parsers: Mapping[str, Parser], where: str, base: Path
) -> dict[str, object]:
    """Return the values of the keys that *parsers* knows."""
    parsed: dict[str, object] = {}
    for key, parser in parsers.items():
        if key in given:
            name = f"{where}{key.replace('_', '-') if where == '--' else key}"
            value = parser(name, given[key])
            parsed[key] = base / value if isinstance(value, Path) else value
    return parsed


def targets_of_flags(
    given: object, common: dict[str, object]
) -> Iterator[tuple[int, StoreOptions]]:
    """Yield the targets of flags: DIRECTORY, or ID=DIRECTORY; without ids they count from 1."""
    assert isinstance(given, list)
    for place, text in enumerate(given, 1):
        number, equals, directory = str(text).partition("=")
        if not (equals and number.isdecimal()):
            number, directory = str(place), str(text)
        target = id_of("--target", number)
        if not directory:
            raise InvalidOptionError(f"--target: {text!r} names no directory")
        yield target, store_options(Path(directory), common)


def targets_of_file(
    where: str, rows: object, common: dict[str, object], base: Path
) -> Iterator[tuple[int, StoreOptions]]:
    """Yield the targets of [[targets]]."""
    if not isinstance(rows, list):
        raise InvalidOptionError(f"{where}targets: write [[targets]], once for each")
    known = ["target", "directory", *TARGET_PARSERS]
    for place, row in enumerate(rows):
        at = f"{where}targets[{place}]"
        if not isinstance(row, dict):
            raise InvalidOptionError(f"{at}: write target = 1 and directory = ...")
        for key in row:
            if key not in known:
                raise InvalidOptionError(f"{at}: {unknown_option(key, known)}")
        target = id_of(f"{at}.target", row.get("target", place + 1))
        directory = text_of(f"{at}.directory", row.get("directory"))
        own = parse_keys(row, TARGET_PARSERS, f"{at}.", base)
        yield target, store_options(base / directory, common | own)


def store_options(directory: Path, values: dict[str, object]) -> StoreOptions:
    """Return the options of one target."""
    return StoreOptions(directory=str(directory.absolute()), **values)  # type: ignore[arg-type]


def check_targets(targets: Mapping[int, StoreOptions]) -> None:
    """Raise where two targets share a directory, or there are too many."""
    if len(targets) > TARGETS_MAX:
        raise InvalidOptionError(f"{len(targets)} targets, {TARGETS_MAX} is the limit of a node")
    seen: dict[str, int] = {}
    for target, options in targets.items():
        other = seen.setdefault(options.directory, target)
        if other != target:
            raise InvalidOptionError(
                f"targets {other} and {target} share the directory {options.directory}"
            )


def changes(old: NodeConfig, new: NodeConfig) -> list[str]:
    """Return the keys whose values differ."""
    return [
        item.name
        for item in fields(NodeConfig)
        if getattr(old, item.name) != getattr(new, item.name)
    ]


def address_of(name: str, value: object) -> Address:
    """Parse an address; without a port it gets the default one."""
    if not isinstance(value, str):
        raise InvalidOptionError(f'{name}: write "address:port", got {value!r}')
    try:
        return Address.parse(value)
    except InvalidOptionError as error:
        raise InvalidOptionError(f"{name}: {error}") from error


def advertised_of(name: str, value: object) -> Address:
    """Parse an address for clients; without a port it gets the one that is listened at."""
    if not isinstance(value, str):
        raise InvalidOptionError(f'{name}: write "name:port", got {value!r}')
    try:
        address = Address.parse(value, port_default=0)
    except InvalidOptionError as error:
        raise InvalidOptionError(f"{name}: {error}") from error
    if address.wildcard:
        raise InvalidOptionError(f"{name}: nobody can connect to {value}: write a name")
    return address


def addresses_of(name: str, value: object) -> tuple[Address, ...]:
    """Parse one address or a list of them."""
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise InvalidOptionError(f'{name}: write at least one "address:port"')
    return tuple(dict.fromkeys(address_of(name, text) for text in texts))


def mgmtd_of(name: str, value: object) -> tuple[Address, ...]:
    """Parse the addresses of mgmtd: texts with commas between them, one or several."""
    texts = value if isinstance(value, list) else [value]
    parts: list[str] = []
    for text in texts:
        if not isinstance(text, str):
            raise InvalidOptionError(f'{name}: write "name:port", got {text!r}')
        parts += text.split(",")
    try:
        addresses = [Address.parse(part, port_default=MGMTD_PORT_DEFAULT) for part in parts]
    except InvalidOptionError as error:
        raise InvalidOptionError(f"{name}: {error}") from error
    for address in addresses:
        if address.wildcard or address.port == 0:
            raise InvalidOptionError(f"{name}: nobody can connect to {address}: write a name")
    return tuple(dict.fromkeys(addresses))


def rack_of(name: str, value: object) -> str:
    """Take the name of a rack; empty: racks do not matter."""
    if isinstance(value, str) and len(value.encode()) <= NAME_SIZE_MAX and "\0" not in value:
        return value
    raise InvalidOptionError(f"{name}: expected a name of up to {NAME_SIZE_MAX} bytes")


def path_of(name: str, value: object) -> Path:
    """Parse the name of a file."""
    return value if isinstance(value, Path) else Path(text_of(name, value))


id_of = count_between(1, UINT32_MAX)

NODE_PARSERS: Mapping[str, Parser] = {
    "node": id_of,
    "listen": addresses_of,
    "advertise": advertised_of,
    "metrics": address_of,
    "secret_file": path_of,
    "open": boolean_of,
    "mgmtd": mgmtd_of,
    "rack": rack_of,
    "resync_bytes_per_s": size_of,
    "routing": path_of,
    "log": choice_from(LogStyle),
    "log_level": choice_from(LogLevel),
    "ready_file": path_of,
    "drain_timeout_s": seconds_of,
    "reactor": choice_from(ReactorDriver),
    "reactors": count_between(0, REACTORS_MAX),
    "connections_max": count_between(0, UINT32_MAX),
    "requests_max": count_between(0, UINT32_MAX),
    "requests_memory": size_of,
    "stall_timeout_s": seconds_of,
    "idle_timeout_s": seconds_of,
    "hello_timeout_s": seconds_of,
    "protocol_version_max": count_between(0, PROTOCOL_VERSION_LIMIT),
}
TARGET_PARSERS: Mapping[str, Parser] = {
    "memory": size_of,
    "capacity": size_of,
    "objects_max": count_between(0, UINT64_MAX),
    "durability": choice_from(Durability),
    "eviction": choice_from(Eviction),
    "driver": choice_from(Driver),
    "depth": count_between(1, DEPTH_MAX),
    "ttl_s": seconds_of,
    "timeout_s": seconds_of,
    "scrub_bytes_per_s": size_of,
}
