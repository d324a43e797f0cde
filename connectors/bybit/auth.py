"""Signatures of REST requests and WebSocket log-ins.

REST: HMAC-SHA256 over timestamp + key + receive window + payload, payload being the query string or the body exactly
as sent. WebSocket: over `GET/realtime` + expiry. Source: https://bybit-exchange.github.io/docs/v5/guide#authentication,
read 2026-07-24. Bybit documents no Ed25519 keys.
"""

from __future__ import annotations

from collections.abc import Mapping

from connectors.keys import make_signer
from engine.errors import CredentialError
from engine.venue import Credentials

LOGIN_WINDOW_MS = 10_000


class Auth:
    """Signs for one account. Never shows its key: no repr, no error text."""

    def __init__(self, credentials: Credentials, recv_window_ms: int, *, is_off: bool = False) -> None:
        if credentials.key_type != "hmac":
            raise CredentialError(f"bybit: key_type must be hmac, was {credentials.key_type!r}")
        self._key = credentials.api_key
        self._window = str(recv_window_ms)
        self._signer = make_signer(credentials, is_off=is_off)

    def headers(self, utc_ms: int, payload: str) -> Mapping[str, str]:
        """Headers of a signed request; `payload` is the query string of a GET, the body of a POST."""
        text = f"{utc_ms}{self._key}{self._window}{payload}"
        return {
            "X-BAPI-API-KEY": self._key,
            "X-BAPI-TIMESTAMP": str(utc_ms),
            "X-BAPI-RECV-WINDOW": self._window,
            "X-BAPI-SIGN-TYPE": "2",
            "X-BAPI-SIGN": self._signer.sign(text.encode()).decode(),
        }

    def login(self, utc_ms: int) -> bytes:
        """First frame of a private or trade socket."""
        expires = utc_ms + LOGIN_WINDOW_MS
        sign = self._signer.sign(b"GET/realtime%d" % expires)
        return b'{"req_id":"auth","op":"auth","args":["%b",%d,"%b"]}' % (self._key.encode(), expires, sign)
