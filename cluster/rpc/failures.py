"""Which failures may cross a connection: an exception by its name, and back."""

from kvstore import errors
from kvstore.cluster.fields import Fields
from kvstore.errors import KVStoreError, NotPrimaryError, RpcError

CODE_SIZE_MAX = 64
TEXT_SIZE_MAX = 4096

CROSSING: dict[str, type[KVStoreError]] = {
    kind.__name__: kind
    for kind in (
        errors.AmbiguousError,
        errors.BusyError,
        errors.ChainChangeError,
        errors.DeniedError,
        errors.InvalidOptionError,
        errors.KVTimeoutError,
        errors.MalformedMessageError,
        errors.MetadataUnavailableError,
        errors.NotRegisteredError,
        errors.PlacementError,
        errors.RegistrationError,
        errors.RoutingVersionError,
    )
}
BUG = "bug"


class RedirectError(NotPrimaryError):
    """This mgmtd is not primary; `primary` is the address of who is, where that is known."""

    def __init__(self, message: str, primary: str = "") -> None:
        """Remember where to go."""
        super().__init__(message)
        self.primary = primary


def encode_failure(error: Exception) -> list[object]:
    """Return code, message and detail; whatever is no failure of the world is a bug here."""
    if isinstance(error, NotPrimaryError):
        primary = error.primary if isinstance(error, RedirectError) else ""
        return [RedirectError.__name__, str(error)[:TEXT_SIZE_MAX], primary]
    for kind in type(error).__mro__:
        if kind.__name__ in CROSSING:
            return [kind.__name__, str(error)[:TEXT_SIZE_MAX], ""]
    return [BUG, f"{type(error).__name__}: {error}"[:TEXT_SIZE_MAX], ""]


def decode_failure(fields: Fields) -> KVStoreError:
    """Return the exception that three fields stand for."""
    code = fields.text("code", CODE_SIZE_MAX)
    message = fields.text("message", TEXT_SIZE_MAX * 4)
    detail = fields.text("detail", TEXT_SIZE_MAX)
    if code == RedirectError.__name__:
        return RedirectError(message, detail)
    if code in CROSSING:
        return CROSSING[code](message)
    return RpcError(f"mgmtd failed: {message}")
