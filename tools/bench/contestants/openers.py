"""Which contestants there are, by name. A worker imports only what it is asked for."""

from importlib import import_module

from tools.bench.contestants.base import Opener
from tools.bench.failures import ContestantError

FOLDER = "tools.bench.contestants"
CLASSES = {
    "kvstore": ("kvstore_embedded", "Embedded"),
    "kvstore-tasks": ("kvstore_tasks", "EmbeddedTasks"),
    "memcpy": ("memcpy", "Memcpy"),
    "lmdb": ("lmdb_nosync", "LMDB"),
    "rocksdict": ("rocksdb", "RocksDB"),
    "diskcache": ("diskcache_sqlite", "DiskCache"),
    "redis": ("redis_unix", "Redis"),
    "files": ("files", "FilePerValue"),
    "kvstore-network": ("kvstore_network", "Network"),
    "kvstore-async": ("kvstore_network", "AsyncNetwork"),
    "kvstore-crowd": ("kvstore_crowd", "Crowd"),
    "kvstore-watched": ("kvstore_watched", "WatchedNetwork"),
    "redis-tcp": ("resp", "RedisTCP"),
    "valkey": ("resp", "Valkey"),
    "memcached": ("memcached", "Memcached"),
    "mooncake": ("mooncake", "Mooncake"),
    "lmcache": ("lmcache_tcp", "LMCache"),
    "flushed": ("files", "FlushedFile"),
}


def opener(kind: str) -> Opener:
    """Return what opens a contestant of this kind."""
    if kind not in CLASSES:
        raise ContestantError(f"unknown contestant {kind!r}; there are {', '.join(CLASSES)}")
    module, name = CLASSES[kind]
    found: Opener = getattr(import_module(f"{FOLDER}.{module}"), name)
    return found
