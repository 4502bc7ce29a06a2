"""RocksDB by rocksdict: raw keys, blob files for large values, bloom filters, WAL without sync."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tools.bench.contestants.base import Options, Peer
from tools.bench.failures import ContestantError

BLOB_SIZE_MIN = 4096
WRITE_BUFFER_SIZE = 256 << 20
WRITE_BUFFERS_MAX = 4
CACHE_SIZE = 256 << 20
BLOOM_BITS = 10


class RocksDB(Peer):
    """A database tuned for reads of keys of all sizes of value."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Open the database; there are no *options*."""
        del options
        self._library = import_module("rocksdict")
        self._directory = directory / "db"
        self._database = self._library.Rdict(str(self._directory), options=self._tuned())

    def _tuned(self) -> object:
        library = self._library
        options = library.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_compression_type(library.DBCompressionType.none())
        options.set_enable_blob_files(True)
        options.set_min_blob_size(BLOB_SIZE_MIN)
        options.set_enable_blob_gc(True)
        options.set_write_buffer_size(WRITE_BUFFER_SIZE)
        options.set_max_write_buffer_number(WRITE_BUFFERS_MAX)
        options.set_max_background_jobs(2)
        tables = library.BlockBasedOptions()
        tables.set_bloom_filter(BLOOM_BITS, False)
        tables.set_block_cache(library.Cache(CACHE_SIZE))
        options.set_block_based_table_factory(tables)
        return options

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Write one batch."""
        batch = self._library.WriteBatch(raw_mode=True)
        for key, value in zip(keys, values, strict=True):
            batch.put(key, bytes(value))
        self._database.write(batch)

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Multi-get, then copy each."""
        for value, target in zip(self._database[list(keys)], targets, strict=True):
            if value is None:
                raise ContestantError("a key is missing")
            target[:] = value

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Multi-get: rocksdict looks up many keys with one call in no other way."""
        found: Sequence[object] = self._database[list(keys)]
        return found

    def close(self) -> None:
        """Close the database."""
        self._database.close()
