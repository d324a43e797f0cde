"""Who sends a request: signatures of REST requests and of the private and trade sockets.

Signatures are checked over the bytes as they came, never over JSON that was read and written again.
Source: bybit-exchange/docs, "Integration Guidance", "Connect", snapshot 2026-07-24.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final

from tools.exchange.bybit.codes import BAD_KEY, BAD_SIGN, PARAMS, WINDOW, Refusal
from tools.exchange.core import ApiKey

MS: Final = 1_000_000
DEFAULT_WINDOW_MS: Final = 5000
AHEAD_MS: Final = 1000


def sign(secret: str, text: bytes) -> str:
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def check_window(timestamp: Any, recv_window: Any, clock_ns: int) -> None:
    """`server_time - recv_window <= timestamp < server_time + 1000`, else 10002."""
    try:
        stamp_ms = int(timestamp)
        window_ms = int(recv_window) if recv_window not in (None, "") else DEFAULT_WINDOW_MS
    except (TypeError, ValueError):
        raise Refusal(PARAMS, "params error: timestamp or recv_window") from None
    now_ms = clock_ns // MS
    if not now_ms - window_ms <= stamp_ms < now_ms + AHEAD_MS:
        raise Refusal(
            WINDOW,
            "invalid request, please check your server timestamp or recv_window param. "
            f"req_timestamp[{stamp_ms}],server_timestamp[{now_ms}],recv_window[{window_ms}]",
        )


def authenticate(keys: Mapping[str, ApiKey], headers: Mapping[str, str], payload: bytes, clock_ns: int) -> ApiKey:
    """The key that signed this REST request. `payload` is the raw query string or the raw body."""
    name, stamp = headers.get("x-bapi-api-key", ""), headers.get("x-bapi-timestamp", "")
    signature = headers.get("x-bapi-sign", "")
    if not name or not stamp or not signature:
        raise Refusal(PARAMS, "Request parameter error: empty api_key, timestamp or sign")
    key = keys.get(name)
    if key is None:
        raise Refusal(BAD_KEY, "API key is invalid.")
    window = headers.get("x-bapi-recv-window", "")
    text = f"{stamp}{name}{window}".encode() + payload
    if not hmac.compare_digest(sign(key.secret, text).encode(), signature.encode()):
        raise Refusal(BAD_SIGN, "error sign! please check your signature generation algorithm.")
    check_window(stamp, window, clock_ns)
    return key


def authenticate_ws(keys: Mapping[str, ApiKey], args: Any, clock_ns: int) -> ApiKey:
    """The key of an `auth` request: args are key, expires (number or text), signature."""
    if not isinstance(args, list) or len(args) != 3:
        raise Refusal(PARAMS, "Params Error")
    name, expires, signature = args
    try:
        expires_ms = int(expires)
    except (TypeError, ValueError):
        raise Refusal(PARAMS, "Params Error") from None
    key = keys.get(str(name))
    if key is None:
        raise Refusal(BAD_KEY, "Invalid apikey")
    expected = sign(key.secret, f"GET/realtime{expires}".encode())
    if not hmac.compare_digest(expected.encode(), str(signature).encode()):
        raise Refusal(BAD_SIGN, "Invalid sign")
    if expires_ms <= clock_ns // MS:
        raise Refusal(BAD_SIGN, "Request expired")
    return key
