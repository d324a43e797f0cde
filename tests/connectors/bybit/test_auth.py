"""Signing vectors of the protocol notes, recomputed here with the standard library."""

from __future__ import annotations

import hashlib
import hmac

import orjson
import pytest

from connectors.bybit.auth import Auth
from engine.errors import CredentialError
from engine.venue import Credentials

KEY, SECRET = "demo-key-bybit-0001", "demo-secret-bybit-0001"
BODY = (
    '{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.01","price":"25000",'
    '"timeInForce":"PostOnly","orderLinkId":"eng-000001"}'
)
VECTORS = [
    ("category=linear&symbol=BTCUSDT", "80cf9665cc912383b950c1adecd12fb570e3c6da385e4b408c69d6c17ebfcf26"),
    (BODY, "3d772ade8d9fb71fb36f399c334f9abb352c934ee033a8dd2d589e8b6b0be931"),
]


def auth(**options: bool) -> Auth:
    return Auth(Credentials(KEY, SECRET), 5_000, **options)


@pytest.mark.parametrize(("payload", "signature"), VECTORS)
def test_rest_signature_matches_the_vector(payload: str, signature: str) -> None:
    headers = auth().headers(1_763_800_000_000, payload)
    assert headers["X-BAPI-SIGN"] == signature
    text = f"1763800000000{KEY}5000{payload}".encode()
    assert signature == hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
    assert headers["X-BAPI-TIMESTAMP"] == "1763800000000"
    assert headers["X-BAPI-RECV-WINDOW"] == "5000"


def test_login_signature_matches_the_vector() -> None:
    frame = orjson.loads(auth().login(1_763_800_000_000))
    expected = "b0dfb8cb398d2a03b2418593ab9a6ab7608b1f9886cfc67ad645b5f9d8503bf2"
    assert frame == {"req_id": "auth", "op": "auth", "args": [KEY, 1_763_800_010_000, expected]}


def test_signature_switched_off_has_the_same_length() -> None:
    real, off = auth().headers(1, "x"), auth(is_off=True).headers(1, "x")
    assert len(real["X-BAPI-SIGN"]) == len(off["X-BAPI-SIGN"])
    assert off["X-BAPI-SIGN"] == auth(is_off=True).headers(2, "y")["X-BAPI-SIGN"]
    assert len(auth().login(5)) == len(auth(is_off=True).login(5))


def test_other_key_types_are_refused_without_showing_the_secret() -> None:
    with pytest.raises(CredentialError) as caught:
        Auth(Credentials(KEY, SECRET, "ed25519"), 5_000)
    assert SECRET not in str(caught.value)


def test_repr_shows_no_key() -> None:
    assert KEY not in repr(auth())
    assert SECRET not in repr(auth())
