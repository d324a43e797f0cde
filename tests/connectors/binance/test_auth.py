"""Signed bytes against the vectors (computed with Python's hmac) and against the venue's published examples."""

from __future__ import annotations

import hmac
from hashlib import sha256

import orjson
import pytest

from connectors.binance.auth import Auth, Params, Template
from engine.venue import Credentials
from ext.encode import CLIENT_ID, PX, QTY

KEY, SECRET = "demo-key-binance-0001", "demo-secret-binance-0001"
PKCS8 = "MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
HMAC = Auth(Credentials(KEY, SECRET), 5000)
PLACE: Params = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "newClientOrderId": CLIENT_ID,
    "price": PX,
    "quantity": QTY,
    "returnRateLimits": "false",
}
TIME_MS = 1763800000000


def template(auth: Auth) -> Template:
    return Template(auth, "order.place", PLACE, px=(2, 1), qty=(2, 1))


def frame(template: Template, number: int = 1) -> bytes:
    return template.frame.fill(number, TIME_MS * 10**6, 0, 2_500_000, 1, client_id="eng-000001")


def test_websocket_order_carries_the_signature_of_the_vector() -> None:
    message = orjson.loads(frame(template(HMAC), 7))
    assert message["id"] == 7
    assert message["method"] == "order.place"
    params = message["params"]
    assert params["signature"] == "6c3ba6d2b8e77163b446deb80497591af106aed0af1bf961806cb515d3b68146"
    assert (params["price"], params["quantity"], params["timestamp"]) == ("25000.00", "0.01", TIME_MS)


def test_websocket_signature_is_over_the_sorted_parameters_as_sent() -> None:
    params = orjson.loads(frame(template(HMAC)))["params"]
    signature = params.pop("signature")
    text = "&".join(f"{name}={params[name]}" for name in sorted(params))
    assert signature == hmac.new(SECRET.encode(), text.encode(), sha256).hexdigest()


def test_rest_query_is_signed_as_sent_with_the_signature_last() -> None:
    query = template(HMAC).query(TIME_MS * 10**6, 0, 2_500_000, 1, client_id="eng-000001").decode()
    text, _, signature = query.partition("&signature=")
    assert signature == hmac.new(SECRET.encode(), text.encode(), sha256).hexdigest()
    assert "apiKey" not in text


def test_subscription_carries_the_signature_of_the_vector() -> None:
    frame = orjson.loads(HMAC.logon(3, "userDataStream.subscribe.signature", TIME_MS))
    assert frame["params"] == {
        "apiKey": KEY,
        "timestamp": TIME_MS,
        "signature": "998b163bf4247375badbd990b11a94e0511df13bae32cdb26d994d04803358c2",
    }


def test_ed25519_key_signs_the_logon_and_leaves_orders_unsigned() -> None:
    pytest.importorskip("cryptography")
    auth = Auth(Credentials(KEY, PKCS8, "ed25519"), 5000)
    logon = orjson.loads(auth.logon(1, "session.logon", TIME_MS))
    expected = "Q31q00l8Itq+DD24v8ojFpf0B4/GhHzWK+dKcG/BUoZGZ7nOlYeNgg3Zhe7vFIrclbnzDBjAuRtzjyH5Tmc3BA=="
    assert logon["params"]["signature"] == expected
    params = orjson.loads(frame(template(auth), 2))["params"]
    assert "signature" not in params
    assert "apiKey" not in params
    assert params["timestamp"] == TIME_MS
    signature = auth.query(b"symbol=BTCUSDT", TIME_MS).partition(b"&signature=")[2]
    assert b"+" not in signature and b"/" not in signature and b"=" not in signature


def test_signatures_are_constant_and_of_the_same_length_when_the_signer_is_off() -> None:
    auth_on, auth_off = (Auth(Credentials(KEY, SECRET), 5000, lambda is_off=is_off: is_off) for is_off in (False, True))
    on, off = frame(template(auth_on)), frame(template(auth_off))
    assert len(on) == len(off)
    assert off == frame(template(auth_off))
    assert orjson.loads(off)["params"]["signature"] == "0" * 64


def test_repr_shows_no_key() -> None:
    assert KEY not in repr(HMAC) and SECRET not in repr(HMAC)
