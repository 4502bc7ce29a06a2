"""How mgmtd is configured: by a TOML file, by flags, or by both; flags win.

    metadata = "/var/lib/kvstore/mgmtd"   # or "etcd://host:2379,host:2379/prefix"
    listen = "10.0.0.1:7300"              # "127.0.0.1:7300" unless given
    secret_file = "/etc/kvstore/secret"
    expected_nodes = 3                    # chains are made once so many nodes are there
    replicas = 3

Guarantees: what loads makes sense as a whole; an error names the file and the key, or the flag, and
what to write. Relative paths are relative to the file, those of flags to the working directory.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kvstore.addresses import MGMTD_PORT_DEFAULT, Address
from kvstore.cluster.leases import LeaseTerms
from kvstore.cluster.mgmtd.server import PRIMARY_LEASE_S
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.routing import CHAIN_TARGETS_MAX, SLOTS_MAX
from kvstore.errors import InvalidOptionError
from kvstore.node.config import (
    LogLevel,
    LogStyle,
    Parser,
    address_of,
    advertised_of,
    parse_keys,
    path_of,
)
from kvstore.parsers import (
    UINT32_MAX,
    boolean_of,
    choice_from,
    count_between,
    seconds_of,
    text_of,
    unknown_option,
)

MS_MAX = 600_000
LISTEN_DEFAULT = Address("127.0.0.1", MGMTD_PORT_DEFAULT)


@dataclass(frozen=True, slots=True, kw_only=True)
class MgmtdConfig:
    """Everything that mgmtd is told."""

    metadata: str
    """The URL of its metadata store."""
    listen: Address = LISTEN_DEFAULT
    advertise: Address | None = None
    """Where others reach it, when that is not where it listens; port 0: the port it listens at."""
    metrics: Address | None = None
    secret_file: Path | None = None
    open: bool = False
    """Whether everybody who reaches it may use it: no secret is needed."""
    log: LogStyle = LogStyle.AUTO
    log_level: LogLevel = LogLevel.INFO
    ready_file: Path | None = None
    primary_lease_s: float = PRIMARY_LEASE_S
    settings: Settings = field(default_factory=Settings)

    @property
    def directory(self) -> Path | None:
        """Return where its metadata store is, if that is a directory of this machine."""
        return Path(self.metadata.removeprefix("file://")) if is_file(self.metadata) else None


@dataclass(frozen=True, slots=True)
class MgmtdSource:
    """Where a configuration comes from."""

    path: Path | None
    flags: Mapping[str, object] = field(default_factory=dict)
    """By the names of the file's keys; None stands for a flag that is not given."""

    def load(self) -> MgmtdConfig:
        """Return the configuration; raises InvalidOptionError."""
        in_file = {} if self.path is None else _read(self.path)
        base = Path() if self.path is None else self.path.parent
        given = {key: value for key, value in self.flags.items() if value is not None}
        values = parse_keys(in_file, PARSERS, f"{self.path}: ", base)
        values |= parse_keys(given, PARSERS, "--", Path())
        if "metadata" not in values:
            where = "--metadata" if self.path is None else f"{self.path}: metadata"
            raise InvalidOptionError(
                f"{where}: name a directory for its records, or etcd://host:2379/prefix"
            )
        metadata = values.pop("metadata")
        url = metadata if isinstance(metadata, str) else f"file://{Path(str(metadata)).absolute()}"
        terms = _taken(values, TERMS_PARSERS)
        settings = _taken(values, SETTINGS_PARSERS)
        if "spare_after_s" in values:
            settings["spare_after_ms"] = round(float(str(values.pop("spare_after_s"))) * 1000)
        settings["terms"] = LeaseTerms(**terms)  # type: ignore[arg-type]
        made = Settings(**settings)  # type: ignore[arg-type]
        config = MgmtdConfig(metadata=url, settings=made, **values)  # type: ignore[arg-type]
        if config.open and config.secret_file is not None:
            raise InvalidOptionError("open and secret_file contradict each other: choose one")
        return config


def is_file(url: str) -> bool:
    """Say whether a metadata store is a directory of this machine."""
    return url.startswith("file://")


def metadata_of(name: str, value: object) -> object:
    """Parse a URL, or the path of a directory."""
    text = str(value) if isinstance(value, Path) else text_of(name, value)
    return text if "://" in text else Path(text)


def listen_of(name: str, value: object) -> Address:
    """Parse where mgmtd listens; without a port it gets mgmtd's own."""
    if not isinstance(value, str):
        return address_of(name, value)
    try:
        return Address.parse(value, port_default=MGMTD_PORT_DEFAULT)
    except InvalidOptionError as error:
        raise InvalidOptionError(f"{name}: {error}") from error


def _taken(values: dict[str, object], parsers: Mapping[str, Parser]) -> dict[str, object]:
    return {key: values.pop(key) for key in parsers if key in values}


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise InvalidOptionError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise InvalidOptionError(f"{path}: {error}") from error
    for key in found:
        if key not in PARSERS:
            raise InvalidOptionError(f"{path}: {unknown_option(key, list(PARSERS))}")
    return found


TERMS_PARSERS: Mapping[str, Parser] = {
    "heartbeat_ms": count_between(1, MS_MAX),
    "lease_ms": count_between(1, MS_MAX),
    "drift_ms_max": count_between(0, MS_MAX),
}
SETTINGS_PARSERS: Mapping[str, Parser] = {
    "expected_nodes": count_between(0, UINT32_MAX),
    "expected_targets": count_between(0, UINT32_MAX),
    "replicas": count_between(1, CHAIN_TARGETS_MAX),
    "spares": count_between(0, UINT32_MAX),
    "slots": count_between(1, SLOTS_MAX),
    "seed": count_between(0, UINT32_MAX),
    "copies_max": count_between(1, UINT32_MAX),
}
PARSERS: Mapping[str, Parser] = {
    "metadata": metadata_of,
    "listen": listen_of,
    "advertise": advertised_of,
    "metrics": address_of,
    "secret_file": path_of,
    "open": boolean_of,
    "log": choice_from(LogStyle),
    "log_level": choice_from(LogLevel),
    "ready_file": path_of,
    "primary_lease_s": seconds_of,
    "spare_after_s": seconds_of,
    **TERMS_PARSERS,
    **SETTINGS_PARSERS,
}
assert SETTINGS_PARSERS.keys() <= Settings.__dataclass_fields__.keys()
assert TERMS_PARSERS.keys() <= LeaseTerms.__dataclass_fields__.keys()
