"""HMAC-SHA256 with stored pads. See ext/sign.pyx."""

from typing import Self, final

@final
class HmacSha256:
    """Sign messages with one key.

    The key is hashed into two midstates at construction and not kept; the midstates are wiped at the end. `repr` and
    pickle never show them.
    Cost: hex of 197 B about 0.15 us with SHA-NI, about 1.3 us portable; no allocation but the answer.
    """

    def __new__(cls, key: bytes, *, force_portable: bool = False) -> Self: ...
    @property
    def is_accelerated(self) -> bool:
        """True when the SHA extensions of the CPU are in use."""
    def digest(self, message: bytes) -> bytes:
        """HMAC of the message, 32 bytes."""
    def hexdigest(self, message: bytes) -> bytes:
        """HMAC of the message, 64 lower-case hexadecimal characters."""

def sha256(message: bytes, *, force_portable: bool = False) -> bytes:
    """Plain SHA-256, 32 bytes: the face of the compression function for tests."""
