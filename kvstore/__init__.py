"""An SSD-backed object store: batches of keys, from one process to a cluster.

The public face is kvstore.client. It is loaded when one of its names is first used, so that a
process that needs one lower layer pays for that layer only.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvstore.client import *  # noqa: F403

__version__ = "0.1.0"


if not TYPE_CHECKING:  # a type checker would take every name for a public one

    def __getattr__(name: str) -> object:
        """Take the public names from kvstore.client."""
        if name.startswith("_"):
            raise AttributeError(f"module 'kvstore' has no attribute {name!r}")
        public = import_module("kvstore.client")
        if name not in public.__all__:
            raise AttributeError(f"module 'kvstore' has no attribute {name!r}")
        return getattr(public, name)


def __dir__() -> list[str]:
    """List the public names."""
    return ["__version__", *import_module("kvstore.client").__all__]
