"""Numbers, sizes and keys as people read them."""

from rich.table import Table

BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size_text(size: float) -> str:
    """Return bytes in the unit that fits: 65536 is "64 KiB", 1610612736 is "1.50 GiB"."""
    for unit in BINARY_UNITS[:-1]:
        if abs(size) < 1024:
            return f"{size:.3g} {unit}" if size < 999.5 else f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:,.2f} {BINARY_UNITS[-1]}"


def short_size_text(size: int) -> str:
    """Return bytes without a space and without loss where it can be: 64KiB, 1MiB, 1000B."""
    unit = 0
    while size and size % 1024 == 0 and unit + 1 < len(BINARY_UNITS):
        size, unit = size // 1024, unit + 1
    return f"{size}{BINARY_UNITS[unit]}"


def percent_text(ratio: float) -> str:
    """Return a share: 0.6396 is "63.96 %"."""
    return f"{100 * ratio:.2f} %"


def key_text(key: bytes) -> str:
    """Return a key on one line of printable characters; others are written as escapes."""
    text = key.decode("utf-8", "backslashreplace")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def key_json(key: bytes) -> dict[str, str]:
    """Return a key for JSON; one that is not UTF-8 has its bytes beside it, in hexadecimal."""
    try:
        return {"key": key.decode("utf-8")}
    except UnicodeDecodeError:
        return {"key": key_text(key), "key_hex": key.hex()}


def facts_table(title: str) -> Table:
    """Return an empty table of two columns: what, and how much."""
    table = Table(title=title, title_justify="left", show_header=False, min_width=50)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(justify="right")
    return table
