"""Keys, signatures, and the window a request's timestamp must lie in.

Source: binance-spot-api-docs, "Signed request security"; USD-M "Timing security", read 2026-11-22.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from decimal import Decimal
from typing import Final

from tools.exchange.binance.errors import ApiError, illegal
from tools.exchange.binance.params import Params
from tools.exchange.core import ApiKey

RECV_WINDOW_MS: Final = 5000
RECV_WINDOW_MS_MAX: Final = 60_000


def bad_key() -> ApiError:
    return ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)


def find_key(keys: dict[str, ApiKey], key: str, ip: str) -> ApiKey:
    """The registered key, or -2014 (format) and -2015 (unknown, wrong address)."""
    if not key or not key.replace("-", "").replace("_", "").isalnum():
        raise ApiError(-2014, "API-key format invalid.", 401)
    found = keys.get(key)
    if found is None or (found.ips and ip not in found.ips):
        raise bad_key()
    return found


def check_signature(key: ApiKey, params: Params) -> None:
    signature = params.need("signature")
    text = params.signed_text.encode()
    if key.ed25519_public:
        is_good = _is_ed25519(key.ed25519_public, signature, text)
    else:
        expected = hmac.new(key.secret.encode(), text, hashlib.sha256).hexdigest()
        is_good = hmac.compare_digest(expected, signature.lower())
    if not is_good:
        raise ApiError(-1022, "Signature for this request is not valid.")


def _is_ed25519(public: bytes, signature: str, text: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(signature, validate=True), text)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def check_time(params: Params, now_ms: int) -> None:
    """Raises -1021 outside the window. A timestamp in microseconds is known by its size."""
    stamp = params.integer("timestamp")
    if stamp > 10**14:
        stamp //= 1000
    window = params.decimal("recvWindow")
    window = Decimal(RECV_WINDOW_MS) if window is None else window
    if window > RECV_WINDOW_MS_MAX:
        raise ApiError(-1131, "recvWindow must be less than 60000.")
    if stamp < 0:
        raise illegal("timestamp", "^[0-9]{1,20}$")
    if stamp >= now_ms + 1000:
        raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_ms - stamp > window:
        raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")
