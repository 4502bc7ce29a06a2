"""Opens the metadata store that a URL names.

    file:///var/lib/kvstore/mgmtd                     embedded: one mgmtd on one machine
    etcd://host:2379,host:2379/prefix?user=mgmtd      an etcd; one name may stand for all members
        &ca=FILE&cert=FILE&key=FILE                   TLS, by PEM files

The password comes from the environment, KVSTORE_ETCD_PASSWORD, not from the URL, which is seen in
process lists.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from kvstore.cluster.metadata.port import MetadataStore
from kvstore.cluster.metadata.rocks import open_rocks
from kvstore.errors import InvalidURLError, MetadataError

PASSWORD_VARIABLE = "KVSTORE_ETCD_PASSWORD"
ETCD_PORT = 2379
ETCD_OPTIONS = frozenset({"user", "ca", "cert", "key"})


async def connect_metadata(url: str, environment: Mapping[str, str]) -> MetadataStore:
    """Open the store; InvalidURLError for a URL of another form."""
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path not in ("", "/"):
        return await open_rocks(Path(unquote(parts.path)))
    if parts.scheme == "etcd" and parts.netloc:
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := options.keys() - ETCD_OPTIONS:
            raise InvalidURLError(f"{url}: no such option: {', '.join(sorted(unknown))}")
        prefix = unquote(parts.path).strip("/") or "kvstore"
        return await _open_etcd(
            parts.netloc.split(","), prefix, options, environment.get(PASSWORD_VARIABLE, "")
        )
    raise InvalidURLError(
        f"{url}: a metadata store is file:///directory or etcd://host:2379,.../prefix"
    )


async def _open_etcd(
    endpoints: list[str], prefix: str, options: Mapping[str, str], password: str
) -> MetadataStore:
    try:
        from kvstore.cluster.metadata.etcd import EtcdStore
        from kvstore.cluster.metadata.etcd_connection import EtcdOptions
    except ImportError as error:
        raise MetadataError(
            f"an etcd needs packages that are not installed ({error.name}):"
            " pip install 'craq-kvstore[etcd]'"
        ) from error
    return EtcdStore(
        EtcdOptions(
            endpoints=tuple(map(_with_port, endpoints)),
            prefix=f"/{prefix}/".encode(),
            user=options.get("user", ""),
            password=password,
            authority=await _content(options.get("ca")),
            certificate=await _content(options.get("cert")),
            private_key=await _content(options.get("key")),
        )
    )


def _with_port(endpoint: str) -> str:
    has_port = ":" in endpoint.rpartition("]")[2]
    return endpoint if has_port else f"{endpoint}:{ETCD_PORT}"


async def _content(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return await asyncio.to_thread(Path(path).read_bytes)
    except OSError as error:
        raise MetadataError(f"cannot read {path}: {error.strerror}") from error
