"""The secret that nodes and clients share: from a file or the environment, never a command line.

Guarantees: a file that others may read is refused; messages name files and never show a secret.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

from kvstore.errors import InvalidOptionError

VARIABLE = "KVSTORE_SECRET"
SECRET_SIZE_MAX = 1024
"""As the core limits it (KV_NODE_SECRET_SIZE_LIMIT)."""
MADE_SIZE = 32
OTHERS = 0o007


def secret_of(text: str, where: str) -> bytes:
    """Return the bytes of a secret that came as text."""
    return checked(text.encode("utf-8", "surrogateescape"), where)


def checked(secret: bytes, where: str) -> bytes:
    """Return the secret, if it has a size that the protocol takes."""
    if not secret:
        raise InvalidOptionError(f"{where}: the secret is empty")
    if len(secret) > SECRET_SIZE_MAX:
        raise InvalidOptionError(
            f"{where}: a secret has at most {SECRET_SIZE_MAX} bytes, this one has {len(secret)}"
        )
    return secret


def read_secret(path: Path) -> bytes:
    """Return the secret of a file: its content without the line's end."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(SECRET_SIZE_MAX + 3)
    except OSError as error:
        raise InvalidOptionError(f"the secret file {path}: {error.strerror}") from error
    if mode & OTHERS:
        raise InvalidOptionError(
            f"the secret file {path} is open to everybody on this machine: chmod 600 {path}"
        )
    return checked(content.removesuffix(b"\n").removesuffix(b"\r"), f"the secret file {path}")


def read_or_make_secret(path: Path) -> tuple[bytes, bool]:
    """Return the secret of a file, made now if it is missing, and whether it was.

    The file appears whole or not at all, so that nodes that start together agree on one.
    """
    if path.exists():
        return read_secret(path), False
    secret = secrets.token_hex(MADE_SIZE).encode()
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:  # of mode 0600
        file.write(secret + b"\n")
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            return read_secret(path), False
    return secret, True


def secret_of_environment(environment: Mapping[str, str]) -> bytes | None:
    """Return the secret of KVSTORE_SECRET, if it is set."""
    text = environment.get(VARIABLE)
    return None if text is None else secret_of(text, VARIABLE)
