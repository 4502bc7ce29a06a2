"""The arguments that several commands take, with the help that explains them."""

import os
from typing import Annotated, TypeAlias

import typer

from kvstore.client import InvalidOptionError
from kvstore.parsers import parse_size

EXISTING: dict[str, str] = {"mode": "existing"}
READ_ONLY: dict[str, str] = {"mode": "read_only"}


def size_argument(value: str | int) -> int:
    """Parse bytes; a default comes as it is."""
    try:
        return parse_size(str(value))
    except InvalidOptionError as error:
        raise typer.BadParameter(str(error)) from error


def key_of(argument: str) -> bytes:
    """Return the bytes that the shell gave, also where they are not UTF-8."""
    return os.fsencode(argument)


URLArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="URL",
        help="The store: file:///directory, with options as in ?durability=sync&memory=1GiB, or "
        "kv://mgmtd:port/namespace, with options as in ?timeout_s=5.",
        show_default=False,
    ),
]
KeyArguments: TypeAlias = Annotated[
    list[str],
    typer.Argument(metavar="KEY", help="One key or several.", show_default=False),
]
JSONOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")
]
