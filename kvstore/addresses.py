"""Where a node listens: "name:port", "192.0.2.1:7400", "[2001:db8::1]:7400"."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Self

from kvstore.errors import InvalidOptionError

PORT_DEFAULT = 7400
"""Where a node listens unless it is told otherwise."""
MGMTD_PORT_DEFAULT = 7300
"""Where mgmtd listens unless it is told otherwise."""
PORT_MAX = 65535
NAME_PATTERN = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
NAME_SIZE_MAX = 253
LOOPBACK_NAMES = frozenset(("localhost", "localhost.", "ip6-localhost"))


@dataclass(frozen=True, slots=True)
class Address:
    """A name or an IP address, and a port."""

    name: str
    port: int

    @classmethod
    def parse(cls, text: str, port_default: int | None = PORT_DEFAULT) -> Self:
        """Return the address of *text*; raises InvalidOptionError."""
        name, port_text = split_port(text)
        if port_text is None and port_default is None:
            raise InvalidOptionError(f"{text!r}: the port is missing: write {text}:{PORT_DEFAULT}")
        port = port_default if port_text is None else port_of(text, port_text)
        assert port is not None
        check_name(text, name)
        return cls(name, port)

    def __str__(self) -> str:
        """Return the text that parse() reads."""
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it. A name that is not known to be counts as not."""
        ip = ip_of(self.name)
        return self.name.lower() in LOOPBACK_NAMES if ip is None else ip.is_loopback

    @property
    def wildcard(self) -> bool:
        """Whether it stands for every address of this machine, which nobody can connect to."""
        ip = ip_of(self.name)
        return ip is not None and ip.is_unspecified


def split_port(text: str) -> tuple[str, str | None]:
    """Return what stands before and behind the last colon; the brackets of IPv6 are gone."""
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidOptionError(f"{text!r}: an IPv6 address is written [::1]:{PORT_DEFAULT}")
        if not isinstance(ip_of(name), ipaddress.IPv6Address):
            raise InvalidOptionError(f"{text!r}: {name!r} is no IPv6 address")
        return name, rest[1:] if rest else None
    if text.count(":") > 1:
        raise InvalidOptionError(f"{text!r}: write an IPv6 address in brackets, as [::1]:7400")
    name, colon, port = text.partition(":")
    return name, port if colon else None


def port_of(text: str, port: str) -> int:
    """Return the port."""
    if not (port.isascii() and port.isdecimal()) or int(port) > PORT_MAX:
        raise InvalidOptionError(f"{text!r}: a port is a number up to {PORT_MAX}, got {port!r}")
    return int(port)


def check_name(text: str, name: str) -> None:
    """Raise unless *name* is an IP address or may be a name of DNS."""
    if ip_of(name) is None and (len(name) > NAME_SIZE_MAX or not NAME_PATTERN.fullmatch(name)):
        raise InvalidOptionError(f"{text!r}: {name!r} is no address: write NAME:PORT")


def ip_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that *name* is, if it is one."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
