"""How a connection begins: two state machines, one for each end, without I/O, clock or random.

    client                                          mgmtd
      │ HELLO      versions, nonce, name ──────────► │
      │ ◄────────────────── CHALLENGE  version, nonce, wants proof
      │ PROOF      HMAC-SHA-256(secret, "client", transcript) ─► │
      │ ◄────────────────── WELCOME    HMAC-SHA-256(secret, "mgmtd", transcript)
      │ ◄────────────────── REFUSAL    kind, reason          instead of either

The transcript is the SHA-256 of HELLO and CHALLENGE whole. Both have a fresh nonce, so that a proof
is worth nothing in any other hello, for any other name, and no version can be talked down. The
secret is never sent. Without one nobody is proven; a client that has one refuses an mgmtd that does
not prove it.
"""

import hmac
from enum import IntEnum, unique
from hashlib import sha256

from kvstore.cluster.fields import Fields
from kvstore.cluster.rpc.frame import HEAD_SIZE, decode_body, encode_frame
from kvstore.errors import (
    BusyError,
    KVStoreError,
    MalformedMessageError,
    MalformedRoutingError,
    RpcVersionError,
    StoreAccessError,
)

VERSIONS = (1, 1)
"""The lowest and the highest version of the protocol that this release speaks."""
VERSION_MAX = 2**16 - 1
NONCE_SIZE = 32
PROOF_SIZE = 32
NAME_SIZE_MAX = 64
REASON_SIZE_MAX = 512
NO_PROOF = bytes(PROOF_SIZE)


@unique
class Step(IntEnum):
    """The frames of a hello."""

    HELLO = 1
    CHALLENGE = 2
    PROOF = 3
    WELCOME = 4
    REFUSAL = 5


@unique
class Refused(IntEnum):
    """Why mgmtd refuses a hello."""

    VERSION = 1
    SECRET = 2
    BUSY = 3


REFUSED_ERRORS: dict[Refused, type[KVStoreError]] = {
    Refused.VERSION: RpcVersionError,
    Refused.SECRET: StoreAccessError,
    Refused.BUSY: BusyError,
}


def refusal(refused: Refused, reason: str) -> bytes:
    """Return the frame that says why there will be no connection."""
    return encode_frame([Step.REFUSAL, refused, reason[:REASON_SIZE_MAX]])


class ClientHello:
    """The end that connects."""

    def __init__(self, secret: bytes, nonce: bytes, name: str) -> None:
        """`nonce`: fresh random bytes. `name`: who connects, for mgmtd's log."""
        assert len(nonce) == NONCE_SIZE
        self._secret = secret
        body = [Step.HELLO, *VERSIONS, nonce, name[:NAME_SIZE_MAX]]
        self._frame = encode_frame(body)
        self._transcript = b""
        self.version = 0
        self.done = False

    def begin(self) -> bytes:
        """Return the first frame."""
        return self._frame

    def step(self, body: bytes) -> bytes:
        """Take a frame's body, and return the answer; empty when the hello is done."""
        assert not self.done
        kind, fields = _opened(body)
        if kind is Step.REFUSAL:
            raise _refused(Fields(fields, "refusal", 2))
        if kind is Step.CHALLENGE and not self._transcript:
            return self._prove(body, Fields(fields, "challenge", 3))
        if kind is Step.WELCOME and self._transcript:
            self._check(Fields(fields, "welcome", 1))
            return b""
        raise MalformedMessageError(f"{kind.name} does not belong here")

    def _prove(self, body: bytes, fields: Fields) -> bytes:
        version = fields.integer("version", VERSION_MAX)
        fields.binary("nonce", NONCE_SIZE)
        wants_proof = fields.integer("wants proof", 1)
        if not VERSIONS[0] <= version <= VERSIONS[1]:
            raise RpcVersionError(f"mgmtd picked version {version}: {_spoken()}")
        if wants_proof and not self._secret:
            raise StoreAccessError(
                "mgmtd wants a secret to be proven: name its secret file, or set KVSTORE_SECRET"
            )
        if self._secret and not wants_proof:
            raise StoreAccessError("mgmtd has no secret, so it cannot prove that it is the one")
        self.version = version
        self._transcript = transcript_of(self._frame[HEAD_SIZE:], body)
        return encode_frame([Step.PROOF, proof_of(self._secret, b"client", self._transcript)])

    def _check(self, fields: Fields) -> None:
        proof = fields.binary("proof", PROOF_SIZE)
        if not hmac.compare_digest(proof, proof_of(self._secret, b"mgmtd", self._transcript)):
            raise StoreAccessError("mgmtd does not prove the secret: it has another one")
        self.done = True


class MgmtdHello:
    """The end that is connected to. What a step raises, `answer_to` makes a refusal of."""

    def __init__(self, secret: bytes, nonce: bytes) -> None:
        """`nonce`: fresh random bytes."""
        assert len(nonce) == NONCE_SIZE
        self._secret = secret
        self._nonce = nonce
        self._transcript = b""
        self.version = 0
        self.name = ""
        self.done = False

    def step(self, body: bytes) -> bytes:
        """Take a frame's body, and return the answer."""
        assert not self.done
        kind, fields = _opened(body)
        if kind is Step.HELLO and not self._transcript:
            return self._challenge(body, fields)
        if kind is Step.PROOF and self._transcript:
            return self._welcome(Fields(fields, "proof", 1))
        raise MalformedMessageError(f"{kind.name} does not belong here")

    def _challenge(self, body: bytes, raw: list[object]) -> bytes:
        fields = Fields(raw, "hello", 4)
        low = fields.integer("lowest version", VERSION_MAX)
        high = fields.integer("highest version", VERSION_MAX)
        fields.binary("nonce", NONCE_SIZE)
        self.name = fields.text("name", NAME_SIZE_MAX * 4)
        self.version = min(high, VERSIONS[1])
        if self.version < max(low, VERSIONS[0]):
            raise RpcVersionError(f"the client speaks versions {low} to {high}: {_spoken()}")
        message: list[object] = [Step.CHALLENGE, self.version, self._nonce, int(bool(self._secret))]
        frame = encode_frame(message)
        self._transcript = transcript_of(body, frame[HEAD_SIZE:])
        return frame

    def _welcome(self, fields: Fields) -> bytes:
        proof = fields.binary("proof", PROOF_SIZE)
        if not hmac.compare_digest(proof, proof_of(self._secret, b"client", self._transcript)):
            raise StoreAccessError(
                "the secret is not that of this cluster: give each process the same secret file"
            )
        self.done = True
        return encode_frame([Step.WELCOME, proof_of(self._secret, b"mgmtd", self._transcript)])


def answer_to(error: KVStoreError) -> bytes:
    """Return the refusal for what a step raised; empty where silence is the answer."""
    for refused, kind in REFUSED_ERRORS.items():
        if isinstance(error, kind):
            return refusal(refused, str(error))
    return b""


def transcript_of(hello: bytes, challenge: bytes) -> bytes:
    """Return what both ends prove, given the bodies of both frames."""
    return sha256(len(hello).to_bytes(8, "little") + hello + challenge).digest()


def proof_of(secret: bytes, end: bytes, transcript: bytes) -> bytes:
    """Return an end's proof; zeros where there is no secret."""
    if not secret:
        return NO_PROOF
    return hmac.new(secret, end + b"\0" + transcript, sha256).digest()


def _opened(body: bytes) -> tuple[Step, list[object]]:
    kind, *fields = decode_body(body)
    try:
        if type(kind) is not int:
            raise ValueError(kind)
        return Step(kind), fields
    except ValueError:
        raise MalformedMessageError(f"{kind!r:.40} is no part of a hello") from None


def _refused(fields: Fields) -> KVStoreError:
    try:
        kind = fields.state("kind", Refused)
        reason = fields.text("reason", REASON_SIZE_MAX * 4)
    except MalformedRoutingError as error:
        return MalformedMessageError(str(error))
    return REFUSED_ERRORS[kind](reason)


def _spoken() -> str:
    low, high = VERSIONS
    return f"this release speaks {low}" if low == high else f"this release speaks {low} to {high}"
