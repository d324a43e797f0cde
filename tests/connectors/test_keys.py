"""Signers against vectors computed with Python's hmac and with `cryptography`."""

from __future__ import annotations

import pytest

from connectors.keys import ED25519_LENGTH, HMAC_LENGTH, make_signer
from engine.errors import CredentialError
from engine.venue import Credentials

PKCS8 = "MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
V1 = (
    b"symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&price=25000.00"
    b"&newClientOrderId=eng-000001&recvWindow=5000&timestamp=1763800000000"
)
V4 = b"apiKey=demo-key-binance-0001&timestamp=1763800000000"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (V1, b"bba31c6d54d502e2089041e158140ff2f71d92c71f88abef0134efed06089ab9"),
        (V4, b"998b163bf4247375badbd990b11a94e0511df13bae32cdb26d994d04803358c2"),
    ],
)
def test_hmac_signature_is_that_of_the_vector(message: bytes, expected: bytes) -> None:
    signer = make_signer(Credentials("demo-key-binance-0001", "demo-secret-binance-0001"))
    assert signer.sign(message) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (V4, b"Q31q00l8Itq+DD24v8ojFpf0B4/GhHzWK+dKcG/BUoZGZ7nOlYeNgg3Zhe7vFIrclbnzDBjAuRtzjyH5Tmc3BA=="),
        (V1, b"UfdiSXR+7e9vAOxD+jCan8vHegBDIzyeGo2GWKEyonRieo4WUov8uwoM6gJAMkDTwgoTLwBg1oDFtpe4cBuWDw=="),
    ],
)
@pytest.mark.parametrize(
    "secret", [PKCS8, f"-----BEGIN PRIVATE KEY-----\n{PKCS8}\n-----END PRIVATE KEY-----\n"], ids=["body", "pem"]
)
def test_ed25519_signature_is_that_of_the_vector(secret: str, message: bytes, expected: bytes) -> None:
    pytest.importorskip("cryptography")
    assert make_signer(Credentials("k", secret, "ed25519")).sign(message) == expected


@pytest.mark.parametrize(("key_type", "length"), [("hmac", HMAC_LENGTH), ("ed25519", ED25519_LENGTH)])
def test_signer_that_is_off_gives_a_constant_of_the_right_length_and_needs_no_key(key_type: str, length: int) -> None:
    signer = make_signer(Credentials("k", "not a key", key_type), is_off=True)
    assert len(signer.sign(b"a")) == length
    assert signer.sign(b"a") == signer.sign(b"b")


@pytest.mark.parametrize(("key_type", "secret"), [("rsa", "x"), ("ed25519", "not base64 !"), ("ed25519", "")])
def test_unusable_key_is_refused_without_showing_it(key_type: str, secret: str) -> None:
    with pytest.raises(CredentialError) as caught:
        make_signer(Credentials("k", secret, key_type))
    assert not secret or secret not in str(caught.value) or secret == "x"


def test_repr_of_signer_and_credentials_shows_no_secret() -> None:
    credentials = Credentials("canary-key", "canary-secret")
    assert "canary" not in repr(credentials) + repr(make_signer(credentials))
