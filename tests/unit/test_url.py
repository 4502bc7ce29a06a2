"""URLs and options become StoreOptions, or an error that says what would be right."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from kvstore.addresses import Address
from kvstore.client.url import CLIENT_PARSERS, PARSERS, parse_url
from kvstore.errors import InvalidOptionError, InvalidURLError, KVStoreError
from kvstore.options import (
    ClientOptions,
    Driver,
    Durability,
    Eviction,
    OpenMode,
    ReactorDriver,
    StoreOptions,
)
from kvstore.parsers import parse_size

MIB = 1 << 20


def embedded(url: str, options: Mapping[str, object] | None = None) -> StoreOptions:
    parsed = parse_url(url, options or {}, {})
    assert isinstance(parsed, StoreOptions)
    return parsed


def served(
    url: str,
    options: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> ClientOptions:
    parsed = parse_url(url, options or {}, environment or {})
    assert isinstance(parsed, ClientOptions)
    return parsed


def test_a_bare_url_has_the_defaults() -> None:
    options = embedded("file:///var/pages")

    assert StoreOptions(directory="/var/pages") == options
    assert options.memory == 256 * MIB
    assert options.durability is Durability.DISK
    assert options.timeout_s == 30


def test_every_option_is_read_from_the_query() -> None:
    query = (
        "capacity=10GiB&objects_max=5&memory=1M&durability=sync&eviction=cache&driver=threads"
        "&mode=existing&workers=3&depth=7&ttl_s=1.5&timeout_s=2&scrub_bytes_per_s=10MB"
    )

    options = embedded(f"file:///d?{query}")

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
    options = embedded("file:///d?durability=sync&depth=3", {"durability": "memory"})

    assert options.durability is Durability.MEMORY
    assert options.depth == 3


def test_none_stands_for_the_default() -> None:
    assert parse_url("file:///d", {}) == parse_url("file:///d", {"capacity": None})


def test_an_enum_member_is_taken_as_it_is() -> None:
    assert embedded("file:///d", {"driver": Driver.IO_URING}).driver is Driver.IO_URING


def test_a_directory_may_be_escaped() -> None:
    assert embedded("file:///a%20b/%23c").directory == "/a b/#c"
    assert embedded("file://localhost/d").directory == "/d"


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
        ("ring:///a.sock", "serves file:// and kv:// only"),
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


# Stores that nodes serve.


def test_a_bare_kv_url_has_the_defaults() -> None:
    options = served("kv://node1")

    assert ClientOptions(addresses=(Address("node1", 7300),)) == options
    assert ("default", "default", b"", True) == (
        options.name_space,
        options.tenant,
        options.secret,
        options.verify,
    )


@pytest.mark.parametrize(
    ("authority", "addresses"),
    [
        ("127.0.0.1:7401", [("127.0.0.1", 7401)]),
        ("a:1,b.example.org:2", [("a", 1), ("b.example.org", 2)]),
        ("[::1]:7401,[2001:db8::1]", [("::1", 7401), ("2001:db8::1", 7300)]),
        ("a,a:7300,b", [("a", 7300), ("b", 7300)]),
    ],
)
def test_addresses(authority: str, addresses: list[tuple[str, int]]) -> None:
    options = served(f"kv://{authority}/pages")

    assert tuple(Address(name, port) for name, port in addresses) == options.addresses
    assert "pages" == options.name_space


def test_every_option_of_kv_is_read_from_the_query(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"open sesame\n")
    secret.chmod(0o600)
    query = (
        f"tenant=t&token=abc&secret_file={secret}&timeout_s=2&connect_timeout_s=0.5&lanes=3"
        "&connections=9&verify=false&reactor=epoll"
    )

    options = served(f"kv://a:1/n?{query}")

    expected = ClientOptions(
        addresses=(Address("a", 1),),
        name_space="n",
        tenant="t",
        token=b"abc",
        secret=b"open sesame",
        timeout_s=2.0,
        connect_timeout_s=0.5,
        lanes=3,
        connections=9,
        verify=False,
        reactor=ReactorDriver.EPOLL,
    )
    assert expected == options


def test_the_name_of_a_store_has_nothing_secret() -> None:
    options = served("kv://a:1,[::1]:2/n?tenant=t&token=abc&secret=def")

    assert "kv://a:1,[::1]:2/n?tenant=t" == options.name
    assert "abc" not in repr(options)
    assert "def" not in repr(options)


def test_the_secret_of_the_environment_is_the_last_choice() -> None:
    environment = {"KVSTORE_SECRET": "from there"}

    assert b"from there" == served("kv://a", {}, environment).secret
    assert b"mine" == served("kv://a", {"secret": "mine"}, environment).secret
    with pytest.raises(InvalidOptionError, match="KVSTORE_SECRET: the secret is empty"):
        served("kv://a", {}, {"KVSTORE_SECRET": ""})


def test_a_secret_comes_from_one_place(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"one")
    secret.chmod(0o600)

    with pytest.raises(InvalidOptionError, match="both given"):
        served("kv://a", {"secret": "other", "secret_file": secret})
    secret.chmod(0o644)
    with pytest.raises(InvalidOptionError, match=f"chmod 600 {secret}"):
        served("kv://a", {"secret_file": secret})
    with pytest.raises(InvalidOptionError, match="missing: No such file"):
        served("kv://a", {"secret_file": str(tmp_path / "missing")})


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kv://", "no address"),
        ("kv:///pages", "no address"),
        ("kv://a:0", "port 0"),
        ("kv://a:70000", "a port is a number up to 65535"),
        ("kv://a:x", "a port is a number"),
        ("kv://::1:7400", r"in brackets, as \[::1\]:7400"),
        ("kv://[::1", "is written"),
        ("kv://[node]:1", "no IPv6 address"),
        ("kv://a b", "no address"),
        ("kv://a,,b", "no address"),
        ("kv://me:mine@a", "secret_file, KVSTORE_SECRET or token"),
        ("kv://a/b/c", "no namespace"),
        ("kv://a/b%20c", "no namespace"),
        ("kv://a/" + "n" * 64, "no namespace"),
        ("kv://a/n#f", "has no #"),
        ("kv://a/n?verify", "option=value"),
        ("kv://a/n?lanes=1&lanes=2", "given twice"),
    ],
)
def test_a_bad_kv_url_says_what_is_right(url: str, says: str) -> None:
    with pytest.raises(InvalidURLError, match=says):
        served(url)


@pytest.mark.parametrize("name", sorted(PARSERS.keys() - CLIENT_PARSERS.keys()))
def test_an_option_of_embedded_stores_makes_no_sense_for_kv(name: str) -> None:
    with pytest.raises(InvalidOptionError, match=f"'{name}' is one of file:// stores"):
        served("kv://a", {name: None})


@pytest.mark.parametrize("name", sorted(CLIENT_PARSERS.keys() - PARSERS.keys()))
def test_an_option_of_kv_makes_no_sense_for_embedded_stores(name: str) -> None:
    with pytest.raises(InvalidOptionError, match=f"'{name}' is one of kv:// stores"):
        embedded("file:///d", {name: None})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("tenant", "a/b", "no name"),
        ("tenant", "", "no name"),
        ("verify", "maybe", "neither true nor false"),
        ("lanes", 0, "no whole number from 1"),
        ("connections", 1 << 20, "no whole number from 1"),
        ("reactor", "kqueue", "none of auto, io_uring, epoll"),
        ("timeout_s", -1, "no number of seconds"),
        ("token", "", "text or bytes"),
        ("secret", 5, "text or bytes"),
        ("secret", "x" * 1025, "at most 1024 bytes"),
        ("secret_file", "", "expected text"),
    ],
)
def test_a_bad_option_of_kv_is_named(name: str, value: object, says: str) -> None:
    with pytest.raises(InvalidOptionError, match=says) as raised:
        served("kv://a", {name: value})

    assert name in str(raised.value)


def test_an_error_shows_no_token() -> None:
    with pytest.raises(InvalidURLError) as raised:
        served("kv://a/b/c?token=abc")

    assert "abc" not in str(raised.value)
