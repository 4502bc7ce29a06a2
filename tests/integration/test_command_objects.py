"""kvstore set, get, exists, rm, stat, ls: what goes in comes out, and exit codes tell the truth."""

import base64
import os
from pathlib import Path

import pytest
from integration.commands import Shell

import kvstore

ALL_BYTES = bytes(range(256)) * 50


@pytest.fixture
def filled(url: str) -> str:
    with kvstore.connect_sync(url) as store:
        store.batch_set(["a", "b", "other"], [b"one", ALL_BYTES, b""])
    return url


def test_bytes_go_from_stdin_to_stdout_as_they_are(shell: Shell, url: str) -> None:
    ended = shell("set", url, "k", stdin=ALL_BYTES)
    assert (0, "") == (ended.code, ended.err)

    ended = shell("get", url, "k")
    assert (0, ALL_BYTES, "") == (ended.code, ended.out, ended.err)


def test_values_go_from_files_to_files(shell: Shell, url: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(ALL_BYTES)

    ended = shell("set", url, "a", "b", "-f", tmp_path / "in", "-f", "-", "--json", stdin=b"x")
    assert ["OK", "OK"] == [row["status"] for row in ended.json["objects"]]
    assert [12800, 1] == [row["size"] for row in ended.json["objects"]]

    ended = shell("get", url, "a", "b", "-o", tmp_path / "a", "-o", tmp_path / "b")
    assert (0, b"") == (ended.code, ended.out)
    assert ALL_BYTES == (tmp_path / "a").read_bytes()
    assert b"x" == (tmp_path / "b").read_bytes()


def test_several_values_follow_each_other(shell: Shell, filled: str) -> None:
    assert b"oneone" == shell("get", filled, "a", "a").out


def test_a_missing_key_is_an_error_and_the_others_are_written(shell: Shell, filled: str) -> None:
    ended = shell("get", filled, "nope", "a", "no\npe")

    assert (1, b"one") == (ended.code, ended.out)
    assert "kvstore: no such key: nope, no\\npe\n" == ended.err


def test_get_in_json(shell: Shell, filled: str) -> None:
    ended = shell("get", filled, "b", "nope", "--json")

    found, missing = ended.json["objects"]
    assert 1 == ended.code
    assert ALL_BYTES == base64.b64decode(found["value_base64"])
    assert {"key": "nope", "size": None} == missing


def test_exists(shell: Shell, filled: str) -> None:
    ended = shell("exists", filled, "a", "b", "--json")
    assert (0, True) == (ended.code, ended.json["exists"])

    ended = shell("exists", filled, "a", "nope")
    assert (1, "exists  a\nmissing nope\n") == (ended.code, ended.text)


def test_rm(shell: Shell, filled: str) -> None:
    ended = shell("rm", filled, "a", "nope", "--json")
    assert (1, 1) == (ended.code, ended.json["deleted"])
    assert "kvstore: no such key: nope\n" == ended.err

    assert "deleted b\n" == shell("rm", filled, "b").text
    assert 1 == shell("exists", filled, "a").code


def test_stat(shell: Shell, filled: str) -> None:
    shell("set", filled, "short", "--ttl", "1000", stdin=b"x")

    ended = shell("stat", filled, "b", "short", "nope", "--json")
    known, expiring, missing = ended.json["objects"]
    assert 1 == ended.code
    assert (12800, None, False) == (known["size"], known["expiry_s"], known["pinned"])
    assert expiring["expiry_s"] > 0
    assert {"key": "nope", "exists": False} == missing

    ended = shell("stat", filled, "b")
    assert 0 == ended.code
    assert "12,800" in ended.text


def test_ls(shell: Shell, filled: str) -> None:
    lines = shell("ls", filled).text.splitlines()
    assert [("0", "other"), ("12800", "b"), ("3", "a")] == sorted(
        (size, key) for size, key in map(str.split, lines)
    )

    ended = shell("ls", filled, "--prefix", "o", "--json")
    assert 1 == ended.json["count"]
    assert ["other"] == [row["key"] for row in ended.json["objects"]]


def test_ls_of_nothing(shell: Shell, filled: str) -> None:
    assert (0, b"") == (lambda ended: (ended.code, ended.out))(shell("ls", filled, "--prefix", "z"))


def test_a_key_that_is_not_utf8(shell: Shell, url: str) -> None:
    key = os.fsdecode(b"\xff\x01")

    assert 0 == shell("set", url, key, stdin=b"v").code

    assert b"v" == shell("get", url, key).out
    (row,) = shell("ls", url, "--json").json["objects"]
    assert "ff01" == row["key_hex"]


def test_if_absent_leaves_what_is_there(shell: Shell, filled: str) -> None:
    ended = shell("set", filled, "a", "--if-absent", stdin=b"two")

    assert (1, "kvstore: not set: a: EXISTS\n") == (ended.code, ended.err)
    assert b"one" == shell("get", filled, "a").out


def test_a_value_beyond_the_limit_is_refused_before_the_store_is_made(
    shell: Shell, url: str, tmp_path: Path
) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate((64 << 20) + 1)

    ended = shell("set", url, "k", "-f", tmp_path / "large")

    assert 1 == ended.code
    assert "more than 64 MiB" in ended.err
    assert not (tmp_path / "store").exists()


def test_a_missing_file_is_one_line(shell: Shell, url: str) -> None:
    ended = shell("set", url, "k", "-f", "/nowhere/file")

    assert (1, "kvstore: /nowhere/file: No such file or directory\n") == (ended.code, ended.err)


@pytest.mark.parametrize("command", ["get", "exists", "stat", "rm"])
def test_only_set_makes_a_store(shell: Shell, url: str, tmp_path: Path, command: str) -> None:
    ended = shell(command, url, "k")

    assert 1 == ended.code
    assert 1 == len(ended.err.splitlines())
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("set", "URL", "a", "b"),
        ("set", "URL", "a", "b", "-f", "-", "-f", "-"),
        ("set", "URL", "a", "--ttl", "0"),
        ("get", "URL", "a", "-o", "x", "-o", "y"),
        ("get", "URL", "a", "--json", "-o", "-"),
        ("get", "URL"),
        ("get", "nonsense", "a"),
        ("get", "ring:///host", "a"),
        ("get", "file:///d?depth=x", "a"),
        ("nonsense",),
        ("get", "URL", "a", "--nonsense"),
    ],
    ids=" ".join,
)
def test_what_is_not_understood_is_one_line_and_exit_code_2(
    shell: Shell, url: str, arguments: tuple[str, ...]
) -> None:
    ended = shell(*[url if argument == "URL" else argument for argument in arguments])

    assert 2 == ended.code
    assert 1 == len(ended.err.splitlines())
    assert ended.err.startswith("kvstore: ")
