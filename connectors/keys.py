"""Signers: HMAC-SHA256 over `ext.sign`, Ed25519 over `cryptography` (imported only when such a key is used).

A signer never shows its key: no repr, no error text. With `is_off` it gives a constant of the right length, so that a
replay without keys puts the same number of bytes on the wire.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Protocol

from engine.errors import CredentialError
from engine.venue import Credentials
from ext import HmacSha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Signer(Protocol):
    def sign(self, message: bytes) -> bytes:
        """ASCII text of the signature: lower-case hex (HMAC) or base64 (Ed25519)."""


class OffSigner:
    """The constant signature of replays."""

    def __init__(self, length: int) -> None:
        self._constant = b"0" * length

    def sign(self, message: bytes) -> bytes:
        return self._constant


class HmacSigner:
    def __init__(self, secret: str) -> None:
        self.hmac = HmacSha256(secret.encode())  # for what signs in place

    def sign(self, message: bytes) -> bytes:
        return self.hmac.hexdigest(message)


class Ed25519Signer:
    def __init__(self, secret: str) -> None:
        self._key = _ed25519_key(secret)

    def sign(self, message: bytes) -> bytes:
        return b64encode(self._key.sign(message))


HMAC_LENGTH = 64
ED25519_LENGTH = 88


def make_signer(credentials: Credentials, *, is_off: bool = False) -> Signer:
    """Raises CredentialError for a key type we do not know or a key that does not parse."""
    if credentials.key_type == "hmac":
        return OffSigner(HMAC_LENGTH) if is_off else HmacSigner(credentials.secret)
    if credentials.key_type == "ed25519":
        return OffSigner(ED25519_LENGTH) if is_off else Ed25519Signer(credentials.secret)
    raise CredentialError(f"key_type must be hmac or ed25519, was {credentials.key_type!r}")


def _ed25519_key(secret: str) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise CredentialError("Ed25519 keys need the extra `ed25519` (cryptography), which is not installed") from error
    pem = secret if "BEGIN" in secret else f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        raise CredentialError("the Ed25519 secret is neither PEM nor a base64 PKCS8 body") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise CredentialError("the secret holds a key of another kind than Ed25519")
    return key
