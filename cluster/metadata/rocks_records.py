"""Keys and values of the embedded metadata store, as bytes in one RocksDB.

m <name>            revision, compacted: 8 bytes, big endian; format
e <key>             [created, modified, session, value]
l <revision, 8>     [[key, created, session, value or nil], ...]: what the revision changed
"""

import msgpack

from kvstore.cluster.metadata.port import Changes, Deleted, Entry, Revision, SessionId
from kvstore.errors import MetadataError

FORMAT_VERSION = 1
FORMAT_KEY = b"mformat"
REVISION_KEY = b"mrevision"
COMPACTED_KEY = b"mcompacted"
ENTRIES = b"e"
LOG = b"l"


def entry_key(key: bytes) -> bytes:
    """Return where the entry of a key is."""
    return ENTRIES + key


def log_key(revision: int) -> bytes:
    """Return where the changes of a revision are; they sort by revision."""
    return LOG + encode_count(revision)


def log_revision(key: bytes) -> Revision:
    """Return the revision of a key of the log."""
    return Revision(decode_count(key[len(LOG) :]))


def encode_count(count: int) -> bytes:
    """Return a count as bytes that sort like it."""
    return count.to_bytes(8, "big")


def decode_count(raw: bytes | None) -> int:
    """Return the count of bytes; 0 where there are none yet."""
    return int.from_bytes(raw or b"", "big")


def encode_entry(entry: Entry) -> bytes:
    """Return an entry without its key."""
    return _pack([entry.created, entry.modified, entry.session, entry.value])


def decode_entry(key: bytes, raw: bytes) -> Entry:
    """Return the entry of a key."""
    try:
        created, modified, session, value = msgpack.unpackb(raw)
    except (ValueError, msgpack.UnpackException) as error:
        raise MetadataError(f"the entry of {key!r} is damaged: {error}") from error
    return Entry(key, value, Revision(created), Revision(modified), SessionId(session))


def encode_changes(changes: Changes) -> bytes:
    """Return what a revision changed."""
    return _pack(
        [
            [change.key, change.created, change.session, change.value]
            if isinstance(change, Entry)
            else [change.key, 0, 0, None]
            for change in changes.changes
        ]
    )


def decode_changes(revision: Revision, raw: bytes, prefix: bytes) -> Changes:
    """Return what a revision changed under a prefix; maybe nothing."""
    changes: list[Entry | Deleted] = []
    for key, created, session, value in msgpack.unpackb(raw):
        if not key.startswith(prefix):
            continue
        if value is None:
            changes.append(Deleted(key, revision))
        else:
            changes.append(Entry(key, value, Revision(created), revision, SessionId(session)))
    return Changes(revision, tuple(changes))


def _pack(record: list[object]) -> bytes:
    packed = msgpack.packb(record, use_bin_type=True)
    assert isinstance(packed, bytes)
    return packed
