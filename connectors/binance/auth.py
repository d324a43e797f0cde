"""Signing, and templates that become request bytes by patching.

REST: the raw query is signed as sent, `signature` last. WebSocket API: all parameters but the signature, sorted by
name, joined as a query. One `Template` serves both; no dict and no JSON encoder on the way of an order.
Ed25519 keys log the socket on once (`session.logon`); its requests then carry a timestamp and no signature.
Source: binance-spot-api-docs rest-api.md "SIGNED Endpoint security", web-socket-api.md "Request security"; USD-M
"WebSocket API General Info"; read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote_from_bytes

from connectors.keys import Signer, make_signer
from engine.venue import Credentials

SLOT: Final = "%b"
"""Value of a parameter that is patched in at each request; slots are filled in the order of their sorted names."""

_BARE: Final = frozenset(("timestamp", "orderId", "cancelOrderId", "recvWindow"))  # JSON numbers, never strings


class Auth:
    """One key of one account. Its repr shows nothing."""

    def __init__(
        self, credentials: Credentials, recv_window_ms: int, is_off: Callable[[], bool] = lambda: False
    ) -> None:
        self.headers: Mapping[str, str] = {"X-MBX-APIKEY": credentials.api_key}
        self.is_session = credentials.key_type == "ed25519"
        self.recv_window = str(recv_window_ms)
        self._credentials = credentials
        self._is_off = is_off  # asked at the first signature: a replay says so after construction
        self._signer: Signer | None = None

    def __repr__(self) -> str:
        return "Auth()"

    @property
    def api_key(self) -> str:
        return self._credentials.api_key

    def sign(self, text: bytes) -> bytes:
        signer = self._signer
        if signer is None:
            signer = self._signer = make_signer(self._credentials, is_off=self._is_off())
        return signer.sign(text)

    def query(self, params: bytes, utc_ms: int) -> bytes:
        """Query of a signed REST request: window, time and signature appended."""
        text = b"%b%brecvWindow=%b&timestamp=%d" % (
            params,
            b"&" if params else b"",
            self.recv_window.encode(),
            utc_ms,
        )
        return text + b"&signature=" + self.url_signature(text)

    def url_signature(self, text: bytes) -> bytes:
        signature = self.sign(text)
        return quote_from_bytes(signature, safe="").encode() if self.is_session else signature

    def logon(self, request_id: int, method: str, utc_ms: int) -> bytes:
        """`session.logon` or `userDataStream.subscribe.signature`: both carry key, time and signature."""
        signature = self.sign(b"apiKey=%b&timestamp=%d" % (self.api_key.encode(), utc_ms))
        return b'{"id":%d,"method":"%b","params":{"apiKey":"%b","timestamp":%d,"signature":"%b"}}' % (
            request_id,
            method.encode(),
            self.api_key.encode(),
            utc_ms,
            signature,
        )


class Template:
    """One method with its constant parameters; `params` maps a name to a constant or to SLOT.

    `recvWindow`, `timestamp` and the key are added here. Values are given in the order of the sorted slot names,
    without the timestamp.
    """

    def __init__(self, auth: Auth, method: str, params: Mapping[str, str]) -> None:
        everything = {**params, "recvWindow": auth.recv_window, "timestamp": SLOT}
        self._auth = auth
        self._rest = _joined(everything)
        self._signed = _joined({**everything, "apiKey": auth.api_key})
        self.slots = [name for name in sorted(everything) if everything[name] == SLOT and name != "timestamp"]
        assert all(name < "timestamp" for name in self.slots), f"{self.slots}: the timestamp must be patched last"
        if auth.is_session:
            self._frame = _json(method, everything, "")
        else:
            self._frame = _json(method, {**everything, "apiKey": auth.api_key}, ',"signature":"%b"')

    def frame(self, request_id: int, values: tuple[bytes, ...], utc_ms: int) -> bytes:
        """Text of a WebSocket API request."""
        timestamp = b"%d" % utc_ms
        if self._auth.is_session:
            return self._frame % (request_id, *values, timestamp)
        signature = self._auth.sign(self._signed % (*values, timestamp))
        return self._frame % (request_id, *values, timestamp, signature)

    def query(self, values: tuple[bytes, ...], utc_ms: int) -> bytes:
        """Query of the same request over REST, signature included."""
        text = self._rest % (*values, b"%d" % utc_ms)
        return text + b"&signature=" + self._auth.url_signature(text)


def _joined(params: Mapping[str, str]) -> bytes:
    return "&".join(f"{name}={params[name]}" for name in sorted(params)).encode()


def _json(method: str, params: Mapping[str, str], tail: str) -> bytes:
    parts = [f'"{name}":{_value(name, params[name])}' for name in sorted(params)]
    return f'{{"id":%d,"method":"{method}","params":{{{",".join(parts)}{tail}}}}}'.encode()


def _value(name: str, value: str) -> str:
    return value if name in _BARE else f'"{value}"'
