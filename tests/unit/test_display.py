"""Sizes, shares and keys as people read them."""

import pytest

from kvstore.commands.display import (
    key_json,
    key_text,
    percent_text,
    short_size_text,
    size_text,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1023, "1023 B"),
        (4096, "4 KiB"),
        (65536, "64 KiB"),
        (1000 << 10, "1000 KiB"),
        ((1000 << 10) - 300, "1000 KiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 50, "1,024.00 TiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert text == size_text(size)


def test_short_sizes_lose_nothing() -> None:
    assert ["0B", "1000B", "4KiB", "1MiB", "1025KiB"] == [
        short_size_text(size) for size in (0, 1000, 4096, 1 << 20, 1025 << 10)
    ]


def test_shares() -> None:
    assert "63.96 %" == percent_text(77_953 / 121_877)


def test_keys_are_one_line_of_printable_characters() -> None:
    assert r"a\nb\x1b[31mclé\xff" == key_text(b"a\nb\x1b[31mcl\xc3\xa9\xff")


def test_keys_in_json() -> None:
    assert {"key": "clé\n"} == key_json("clé\n".encode())
    assert {"key": r"\xff", "key_hex": "ff"} == key_json(b"\xff")
