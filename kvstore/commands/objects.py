"""Commands on objects: set, get, exists, rm, stat, ls. Bytes go in and out as they are."""

import base64
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.table import Table
from rich.text import Text

from kvstore.client import ListedObject, SetStatus, Store
from kvstore.commands.arguments import JSONOption, KeyArguments, URLArgument, key_of
from kvstore.commands.display import key_json, key_text, size_text
from kvstore.commands.opening import open_store
from kvstore.commands.report import Report, reporting

VALUE_SIZE_MAX = 64 << 20
STANDARD_STREAM = Path("-")


def set_values(
    url: URLArgument,
    keys: KeyArguments,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            "-f",
            help="Where the value is; - is stdin. One for each key, in order.",
            show_default=False,
        ),
    ] = None,
    ttl_s: Annotated[
        float | None,
        typer.Option("--ttl", help="Seconds after which the objects expire.", show_default=False),
    ] = None,
    if_absent: Annotated[
        bool,
        typer.Option("--if-absent", help="Leave keys that exist as they are, and exit with 1."),
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Set keys to values from stdin or from files; makes the store when it is missing.

    Examples:

    - `echo hello | kvstore set file:///var/cache/pages greeting`
    - `kvstore set file:///var/cache/pages a b --file a.bin --file b.bin --ttl 3600`
    """
    files = files or [STANDARD_STREAM]
    if len(files) != len(keys):
        raise typer.BadParameter(f"{len(keys)} keys need as many --file, not {len(files)}")
    if files.count(STANDARD_STREAM) > 1:
        raise typer.BadParameter("stdin can be the value of one key only")
    if ttl_s is not None and not 0 < ttl_s <= 10 * 365 * 24 * 3600:
        raise typer.BadParameter("--ttl is a number of seconds above 0, of ten years at most")
    with reporting(as_json=as_json) as report:
        names = [key_of(key) for key in keys]
        values = [read_value(file) for file in files]
        with open_store(url) as store:
            statuses = store.batch_set(names, values, ttl_s=ttl_s, if_absent=if_absent)
        rows = [
            {**key_json(name), "size": len(value), "status": status.name}
            for name, value, status in zip(names, values, statuses, strict=True)
        ]
        report.answer({"objects": rows})
        for name, value, status in zip(names, values, statuses, strict=True):
            if status is SetStatus.OK:
                report.show(Text(f"set {key_text(name)}, {size_text(len(value))}"))
        refused = [(name, s) for name, s in zip(names, statuses, strict=True) if s]
        if refused:
            said = ", ".join(f"{key_text(name)}: {status.name}" for name, status in refused)
            report.fail(f"not set: {said}")


def read_value(file: Path) -> bytes:
    """Return the content of a file or of stdin, if a store can keep that much."""
    if file == STANDARD_STREAM:
        return read_bounded(sys.stdin.buffer, "stdin")
    with file.open("rb") as stream:
        return read_bounded(stream, str(file))


def read_bounded(stream: BinaryIO, name: str) -> bytes:
    """Return everything, unless it is more than a value may have."""
    value = stream.read(VALUE_SIZE_MAX + 1)
    if len(value) > VALUE_SIZE_MAX:
        raise OSError(0, f"more than {size_text(VALUE_SIZE_MAX)}, the limit of a value", name)
    return value


def get_values(
    url: URLArgument,
    keys: KeyArguments,
    outputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the value goes; - is stdout. One for each key, in order.",
            show_default=False,
        ),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Write the values of keys to stdout, one after the other, or to files.

    A missing key writes nothing and makes the exit code 1; the other keys are written all the
    same. With --json and no --output, values come in base64.

    Examples:

    - `kvstore get file:///var/cache/pages greeting`
    - `kvstore get file:///var/cache/pages a b --output a.bin --output b.bin`
    """
    if outputs and len(outputs) != len(keys):
        raise typer.BadParameter(f"{len(keys)} keys need as many --output, not {len(outputs)}")
    if as_json and outputs and STANDARD_STREAM in outputs:
        raise typer.BadParameter("with --json, stdout is for the JSON object: name a file")
    with reporting(as_json=as_json) as report:
        names = [key_of(key) for key in keys]
        rows: list[dict[str, object]] = []
        with open_store(url, mode="read_only") as store:
            for index, name in enumerate(names):
                value = store.get(name)
                output = outputs[index] if outputs else None
                rows.append({**key_json(name), "size": None if value is None else len(value)})
                if value is not None and output is None and as_json:
                    rows[-1]["value_base64"] = base64.b64encode(value).decode("ascii")
                elif value is not None:
                    write_value(output or STANDARD_STREAM, value)
        report.answer({"objects": rows})
        fail_if_missing(
            report, [n for n, row in zip(names, rows, strict=True) if row["size"] is None]
        )


def write_value(output: Path, value: bytes) -> None:
    """Write a value to a file or to stdout."""
    if output == STANDARD_STREAM:
        sys.stdout.buffer.write(value)
        sys.stdout.buffer.flush()
    else:
        output.write_bytes(value)


def fail_if_missing(report: Report, missing: list[bytes]) -> None:
    """End the command with an error that names the keys that do not exist."""
    if missing:
        report.fail(f"no such key: {', '.join(key_text(name) for name in missing)}")


def exists(url: URLArgument, keys: KeyArguments, as_json: JSONOption = False) -> None:
    """Say which keys exist; the exit code is 1 unless all do.

    Examples:

    - `kvstore exists file:///var/cache/pages greeting && echo there`
    """
    with reporting(as_json=as_json) as report:
        names = [key_of(key) for key in keys]
        with open_store(url, mode="read_only") as store:
            found = store.batch_exists(names)
        rows = [{**key_json(n), "exists": there} for n, there in zip(names, found, strict=True)]
        report.answer({"exists": all(found), "objects": rows})
        for name, there in zip(names, found, strict=True):
            report.show(
                Text.assemble(
                    ("exists  ", "green") if there else ("missing ", "red"), key_text(name)
                )
            )
        if not all(found):
            raise typer.Exit(1)


def remove(url: URLArgument, keys: KeyArguments, as_json: JSONOption = False) -> None:
    """Delete keys; the exit code is 1 when one did not exist.

    Examples:

    - `kvstore rm file:///var/cache/pages greeting`
    """
    with reporting(as_json=as_json) as report:
        names = [key_of(key) for key in keys]
        with open_store(url, mode="existing") as store:
            deleted = store.batch_delete(names)
        rows = [{**key_json(n), "deleted": gone} for n, gone in zip(names, deleted, strict=True)]
        report.answer({"deleted": sum(deleted), "objects": rows})
        for name, gone in zip(names, deleted, strict=True):
            if gone:
                report.show(Text(f"deleted {key_text(name)}"))
        fail_if_missing(report, [n for n, gone in zip(names, deleted, strict=True) if not gone])


def stat(url: URLArgument, keys: KeyArguments, as_json: JSONOption = False) -> None:
    """Show size, version, expiry, checksum and pin of keys, without reading their values.

    Examples:

    - `kvstore stat file:///var/cache/pages greeting`
    """
    with reporting(as_json=as_json) as report:
        names = [key_of(key) for key in keys]
        with open_store(url, mode="read_only") as store:
            found = store.batch_stat(names)
        table = Table("key", "size", "version", "expires", "CRC-32C", "pinned")
        rows: list[dict[str, object]] = []
        for name, known in zip(names, found, strict=True):
            rows.append({**key_json(name), "exists": known is not None})
            if known is None:
                continue
            rows[-1] |= {
                "size": known.size,
                "version": known.version,
                "expiry_s": known.expiry_s,
                "checksum": f"{known.checksum:08x}",
                "pinned": known.pinned,
            }
            table.add_row(
                Text(key_text(name)),
                f"{known.size:,}",
                str(known.version),
                expiry_text(known.expiry_s),
                f"{known.checksum:08x}",
                "yes" if known.pinned else "no",
            )
        report.answer({"objects": rows})
        if table.row_count:
            report.show(table)
        fail_if_missing(report, [n for n, known in zip(names, found, strict=True) if known is None])


def expiry_text(expiry_s: float | None) -> str:
    """Return a Unix time as people write it."""
    if expiry_s is None:
        return "never"
    return datetime.fromtimestamp(expiry_s, UTC).isoformat(sep=" ", timespec="seconds")


def list_objects(
    url: URLArgument,
    prefix: Annotated[str, typer.Option(help="List keys that begin so.")] = "",
    as_json: JSONOption = False,
) -> None:
    """List keys with the sizes of their values, one a line, in no particular order.

    Examples:

    - `kvstore ls file:///var/cache/pages --prefix user/`
    - `kvstore ls file:///var/cache/pages | sort -n | tail`
    """
    with reporting(as_json=as_json) as report, open_store(url, mode="read_only") as store:
        if as_json:
            rows = [listed_json(entry) for entry in store.list(key_of(prefix))]
            report.answer({"count": len(rows), "objects": rows})
        else:
            list_lines(store, key_of(prefix))


def list_lines(store: Store, prefix: bytes) -> None:
    """Print a line for each object as soon as it is known."""
    for entry in store.list(prefix):
        sys.stdout.write(f"{entry.size:>12}  {key_text(entry.key)}\n")


def listed_json(entry: ListedObject) -> dict[str, object]:
    """Return one object of a listing for JSON."""
    return {
        **key_json(entry.key),
        "size": entry.size,
        "version": entry.version,
        "expiry_s": entry.expiry_s,
        "pinned": entry.pinned,
    }
