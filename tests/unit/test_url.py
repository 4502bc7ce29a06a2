"""URLs and options become StoreOptions, or an error that says what would be right."""

import pytest

from kvstore.client.url import parse_size, parse_url
from kvstore.errors import InvalidOptionError, InvalidURLError, KVStoreError
from kvstore.options import Driver, Durability, Eviction, OpenMode, StoreOptions

MIB = 1 << 20


def test_a_bare_url_has_the_defaults() -> None:
    options = parse_url("file:///var/pages", {})

    assert StoreOptions(directory="/var/pages") == options
    assert options.memory == 256 * MIB
    assert options.durability is Durability.DISK
    assert options.timeout_s == 30


def test_every_option_is_read_from_the_query() -> None:
    query = (
        "capacity=10GiB&objects_max=5&memory=1M&durability=sync&eviction=cache&driver=threads"
        "&mode=existing&workers=3&depth=7&ttl_s=1.5&timeout_s=2&scrub_bytes_per_s=10MB"
    )

    options = parse_url(f"file:///d?{query}", {})

    expected = StoreOptions(
        directory="/d",
        capacity=10 << 30,
        objects_max=5,
        memory=MIB,
        durability=Durability.SYNC,
        eviction=Eviction.CACHE,
        driver=Driver.THREADS,
        mode=OpenMode.EXISTING,
        workers=3,
        depth=7,
        ttl_s=1.5,
        timeout_s=2.0,
        scrub_bytes_per_s=10_000_000,
    )
    assert expected == options


def test_a_keyword_wins_over_the_query() -> None:
    options = parse_url("file:///d?durability=sync&depth=3", {"durability": "memory"})

    assert options.durability is Durability.MEMORY
    assert options.depth == 3


def test_none_stands_for_the_default() -> None:
    assert parse_url("file:///d", {}) == parse_url("file:///d", {"capacity": None})


def test_an_enum_member_is_taken_as_it_is() -> None:
    assert parse_url("file:///d", {"driver": Driver.IO_URING}).driver is Driver.IO_URING


def test_a_directory_may_be_escaped() -> None:
    assert parse_url("file:///a%20b/%23c", {}).directory == "/a b/#c"
    assert parse_url("file://localhost/d", {}).directory == "/d"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("65536", 65536),
        ("4K", 4096),
        ("64KiB", 65536),
        ("64kib", 65536),
        ("64 KiB", 65536),
        ("64KB", 64_000),
        ("10GB", 10_000_000_000),
        ("1.5GiB", 3 << 29),
        ("2T", 2 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert size == parse_size(text)


@pytest.mark.parametrize("text", ["", "K", "-1", "1 2", "64Kib/s", "1e3", "0x10", "10 gigs"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidOptionError, match="no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("/var/pages", "file:///directory"),
        ("", "file:///directory"),
        ("http://a/b", "file:///directory"),
        ("kv://a:1/n", "this version serves file:// only"),
        ("ring:///a.sock", "this version serves file:// only"),
        ("file://pages/a", "file:///pages/a"),
        ("file:pages", "must be absolute"),
        ("file://", "must be absolute"),
        ("file:///d#1", "%23"),
        ("file:///d%00", "NUL"),
        ("file:///d?depth", "option=value"),
        ("file:///d?depth=1&depth=2", "given twice"),
        ("file://[/d", "no URL"),
    ],
)
def test_a_bad_url_says_what_is_right(url: str, says: str) -> None:
    with pytest.raises(InvalidURLError, match=says) as raised:
        parse_url(url, {})

    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, KVStoreError)


def test_a_url_is_text() -> None:
    with pytest.raises(TypeError, match="a URL is a str, got bytes"):
        parse_url(b"file:///d", {})  # type: ignore[arg-type]


def test_an_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(InvalidOptionError, match=r"did you mean 'durability'.*capacity, depth"):
        parse_url("file:///d?durabilty=sync", {})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("capacity", "much", "capacity: 'much' is no size"),
        ("capacity", -1, "capacity: -1 is not between"),
        ("capacity", 1 << 64, "is not between"),
        ("capacity", True, "expected bytes or text"),
        ("memory", 1.5, "expected bytes or text"),
        ("durability", "always", "none of memory, disk, sync"),
        ("durability", 1, "none of memory, disk, sync"),
        ("eviction", "lru", "none of none, cache"),
        ("driver", "", "none of auto, io_uring, threads"),
        ("mode", "rw", "none of normal, existing, read_only"),
        ("workers", 0, "no whole number from 1"),
        ("workers", "2.5", "no whole number from 1"),
        ("depth", 1 << 20, "no whole number from 1"),
        ("objects_max", -1, "no whole number from 0"),
        ("ttl_s", -1, "no number of seconds"),
        ("ttl_s", "soon", "no number of seconds"),
        ("timeout_s", float("nan"), "no number of seconds"),
        ("timeout_s", float("inf"), "no number of seconds"),
        ("timeout_s", b"1", "no number of seconds"),
    ],
)
def test_a_bad_option_is_named(name: str, value: object, says: str) -> None:
    with pytest.raises(InvalidOptionError, match=says) as raised:
        parse_url("file:///d", {name: value})

    assert name in str(raised.value)
