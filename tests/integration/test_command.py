"""The command as a whole: help, errors, interruption, a reader that has seen enough."""

import json
import re
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from integration.commands import Shell, start

import kvstore

COMMANDS = [
    "set", "get", "exists", "rm", "stat", "ls", "replay", "bench", "check", "inspect", "demo",
    "up", "down", "status", "top",
]  # fmt: skip
DAEMONS = ["storage", "mgmtd"]
GROUPS = {
    "admin": [
        "create-chains", "add-node", "drain-node", "resume-node", "remove-node", "replace-target",
        "remove-target", "rebalance",
    ],
    "ns": ["create", "list", "set"],
}  # fmt: skip


@pytest.fixture
def many_keys(url: str) -> str:
    """More lines of a listing than a pipe takes at once."""
    with kvstore.connect_sync(url) as store:
        store.batch_set([b"%0200d" % i for i in range(5000)], [b""] * 5000)
    return url


def test_the_command_is_installed() -> None:
    (entry,) = entry_points(group="console_scripts", name="kvstore")

    assert "kvstore.commands.main:main" == entry.value


def test_the_help_names_every_command(shell: Shell) -> None:
    ended = shell("--help")

    assert 0 == ended.code
    for command in (*COMMANDS, *DAEMONS, *GROUPS):
        assert re.search(rf"^│ {command} ", ended.text, re.MULTILINE)


@pytest.mark.parametrize(
    ("group", "command"), [(group, each) for group, names in GROUPS.items() for each in names]
)
def test_the_help_of_a_group_has_examples(shell: Shell, group: str, command: str) -> None:
    ended = shell(group, command, "--help")

    assert 0 == ended.code
    assert f"kvstore {group} {command}" in ended.text.split("Examples:")[1]
    assert "--json" in ended.text
    assert f" {command} " in shell(group, "--help").text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_examples(shell: Shell, command: str) -> None:
    ended = shell(command, "--help")

    assert 0 == ended.code
    assert "Examples:" in ended.text
    assert f"kvstore {command}" in ended.text.split("Examples:")[1]
    assert "--json" in ended.text


def test_nothing_asked_for_shows_the_help(shell: Shell) -> None:
    ended = shell()

    assert (2, "") == (ended.code, ended.err)
    assert "Usage: kvstore" in ended.text


def test_the_version(shell: Shell) -> None:
    assert f"kvstore {kvstore.__version__}\n" == shell("--version").text


def test_a_store_that_is_open_is_an_error_at_once(shell: Shell, url: str) -> None:
    with kvstore.connect_sync(url):
        ended = shell("get", url, "k", "--json")

    assert 1 == ended.code
    assert "StoreLockedError" == ended.json["kind"]
    assert f"kvstore: {ended.json['error']}\n" == ended.err


def test_errors_in_json_are_one_object(shell: Shell, tmp_path: Path) -> None:
    ended = shell("inspect", f"file://{tmp_path}/none", "--json")

    assert 1 == ended.code
    assert "StoreNotFoundError" == ended.json["kind"]
    assert 1 == len(ended.out.splitlines())


def test_a_reader_that_has_seen_enough_is_no_error(many_keys: str) -> None:
    with start("ls", many_keys) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()

        assert b"" == process.stderr.read()
        assert 141 == process.wait(timeout=60)


def test_an_interruption_is_one_line_and_a_clean_close(many_keys: str) -> None:
    with start("ls", many_keys) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)

    assert (130, b"kvstore: interrupted\n") == (process.returncode, said)
    with kvstore.connect_sync(many_keys, mode="existing") as store:
        assert 5000 == store.stats().objects


def test_what_is_not_on_a_terminal_has_no_colours(shell: Shell, url: str) -> None:
    shell("set", url, "k", stdin=b"v")

    for command in ("check", "inspect"):
        assert b"\x1b" not in shell(command, url).out


def test_importing_the_library_does_not_import_the_command() -> None:
    script = "import kvstore, sys; kvstore.connect_sync; print('rich' in sys.modules)"

    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )

    assert "False\n" == ended.stdout


def test_json_is_the_last_line_and_alone(shell: Shell, url: str) -> None:
    ended = shell("set", url, "k", "--json", stdin=b"v")

    (line,) = ended.out.splitlines()
    assert isinstance(json.loads(line), dict)
