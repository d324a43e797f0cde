"""Signing, and templates of requests.

REST: the raw query is signed as sent, `signature` last. WebSocket API: all parameters but the signature, sorted by
name, joined as a query. One `Template` serves both; text and signature of an order are made in `ext.encode`.
Ed25519 keys log the socket on once (`session.logon`); its requests then carry a timestamp and no signature.
Source: binance-spot-api-docs rest-api.md "SIGNED Endpoint security", web-socket-api.md "Request security"; USD-M
"WebSocket API General Info"; read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import quote_from_bytes

from connectors.keys import HmacSigner, Signer, make_signer
from engine.venue import Credentials
from ext.encode import REQUEST_ID, SIGNATURE, UTC_MS, OrderTemplate
from ext.sign import HmacSha256

Params = Mapping[str, str | int]
"""Name of a parameter -> its constant text, or a hole of `ext.encode` that is filled at each request."""

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

    @property
    def signer(self) -> Signer:
        if self._signer is None:
            self._signer = make_signer(self._credentials, is_off=self._is_off())
        return self._signer

    @property
    def hmac(self) -> HmacSha256 | None:
        """What signs in place; None where the key is of another kind, or the signature a constant."""
        signer = self.signer
        return signer.hmac if isinstance(signer, HmacSigner) else None

    def sign(self, text: bytes) -> bytes:
        return self.signer.sign(text)

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
    """One method with its parameters, for one instrument; `px` and `qty` are the scales of its tick and lot.

    `recvWindow`, `timestamp` and the key are added here. `frame` gives the text of a WebSocket API request.
    """

    def __init__(self, auth: Auth, method: str, params: Params, *, px: tuple[int, int], qty: tuple[int, int]) -> None:
        everything: Params = {**params, "recvWindow": auth.recv_window, "timestamp": UTC_MS}
        self._auth = auth
        self._query = OrderTemplate(_joined(everything), px=px, qty=qty)
        if auth.is_session:
            self.frame = OrderTemplate([*_json(method, everything), b"}}"], px=px, qty=qty)
            return
        everything = {**everything, "apiKey": auth.api_key}
        hmac = auth.hmac
        signature = SIGNATURE if hmac is not None else auth.sign(b"")
        parts = [*_json(method, everything), b',"signature":"', signature, b'"}}']
        signed = _joined(everything) if hmac is not None else ()
        self.frame = OrderTemplate(parts, px=px, qty=qty, signed_parts=signed, signer=hmac)

    def query(
        self, utc_ns: int, cl_ord_id: int, px_ticks: int, qty_lots: int, order_id: str = "", client_id: str = ""
    ) -> bytes:
        """Query of the same request over REST, signature included."""
        text = self._query.fill(0, utc_ns, cl_ord_id, px_ticks, qty_lots, order_id, client_id)
        return text + b"&signature=" + self._auth.url_signature(text)


def _joined(params: Params) -> Sequence[bytes | int]:
    parts: list[bytes | int] = []
    for name in sorted(params):
        parts += [b"&"] if parts else []
        parts += [name.encode(), b"=", _part(params[name])]
    return parts


def _json(method: str, params: Params) -> Sequence[bytes | int]:
    """Text of a request until behind its last parameter."""
    parts: list[bytes | int] = [b'{"id":', REQUEST_ID, f',"method":"{method}","params":{{'.encode()]
    for at, name in enumerate(sorted(params)):
        quote = b"" if name in _BARE else b'"'
        parts += [b',"' if at else b'"', name.encode(), b'":', quote, _part(params[name]), quote]
    return parts


def _part(value: str | int) -> bytes | int:
    return value.encode() if isinstance(value, str) else value
