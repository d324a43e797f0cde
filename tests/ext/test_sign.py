"""HMAC-SHA256 against the standard library and the venues' vectors."""

from __future__ import annotations

import copy
import hashlib
import hmac
import pickle
import random

import pytest

from ext.sign import HmacSha256, sha256

BINANCE = b"demo-secret-binance-0001"
BYBIT = b"demo-secret-bybit-0001"
ORDER = (
    b"symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&price=25000.00&newClientOrderId=eng-000001"
    b"&recvWindow=5000&timestamp=1763800000000"
)
MIXED = (
    b"symbol=BTCUSDT&recvWindow=5000side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&price=25000.00"
    b"&timestamp=1763800000000"
)
WS_ORDER = (
    b"apiKey=demo-key-binance-0001&newClientOrderId=eng-000001&price=25000.00&quantity=0.01&recvWindow=5000"
    b"&returnRateLimits=false&side=BUY&symbol=BTCUSDT&timeInForce=GTC&timestamp=1763800000000&type=LIMIT"
)
SUBSCRIBE = b"apiKey=demo-key-binance-0001&timestamp=1763800000000"
BYBIT_BODY = (
    b'{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.01","price":"25000",'
    b'"timeInForce":"PostOnly","orderLinkId":"eng-000001"}'
)
# Binance's own example, "SIGNED endpoint examples", and RFC 4231 test cases 1 to 4, 6 and 7.
DOC_KEY = b"NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
DOC_ORDER = (
    b"symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
)

VECTORS = [
    ("binance-rest", BINANCE, ORDER, "bba31c6d54d502e2089041e158140ff2f71d92c71f88abef0134efed06089ab9"),
    ("binance-mixed", BINANCE, MIXED, "8c00ef9a437a2189793891ed92a5705743a6c720ff899f628e449b8b11ad9538"),
    ("binance-ws", BINANCE, WS_ORDER, "6c3ba6d2b8e77163b446deb80497591af106aed0af1bf961806cb515d3b68146"),
    ("binance-subscribe", BINANCE, SUBSCRIBE, "998b163bf4247375badbd990b11a94e0511df13bae32cdb26d994d04803358c2"),
    ("binance-doc", DOC_KEY, DOC_ORDER, "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"),
    (
        "bybit-get",
        BYBIT,
        b"1763800000000demo-key-bybit-00015000category=linear&symbol=BTCUSDT",
        "80cf9665cc912383b950c1adecd12fb570e3c6da385e4b408c69d6c17ebfcf26",
    ),
    (
        "bybit-post",
        BYBIT,
        b"1763800000000demo-key-bybit-00015000" + BYBIT_BODY,
        "3d772ade8d9fb71fb36f399c334f9abb352c934ee033a8dd2d589e8b6b0be931",
    ),
    (
        "bybit-ws",
        BYBIT,
        b"GET/realtime1763800010000",
        "b0dfb8cb398d2a03b2418593ab9a6ab7608b1f9886cfc67ad645b5f9d8503bf2",
    ),
    (
        "rfc4231-1",
        b"\x0b" * 20,
        b"Hi There",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    ),
    (
        "rfc4231-2",
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (
        "rfc4231-3",
        b"\xaa" * 20,
        b"\xdd" * 50,
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
    ),
    (
        "rfc4231-4",
        bytes(range(1, 26)),
        b"\xcd" * 50,
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ),
    (
        "rfc4231-6",
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
]


@pytest.fixture(params=[False, True], ids=["native", "portable"])
def force_portable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize(("key", "message", "expected"), [v[1:] for v in VECTORS], ids=[v[0] for v in VECTORS])
def test_published_vector_is_reproduced(key: bytes, message: bytes, expected: str, force_portable: bool) -> None:
    signer = HmacSha256(key, force_portable=force_portable)
    assert signer.hexdigest(message).decode() == expected
    assert signer.digest(message).hex() == expected


def test_every_message_length_agrees_with_the_standard_library(force_portable: bool) -> None:
    rng = random.Random(1)
    key = rng.randbytes(64)
    signer = HmacSha256(key, force_portable=force_portable)
    for length in range(300):
        message = rng.randbytes(length)
        expected = hmac.new(key, message, hashlib.sha256)
        assert signer.digest(message) == expected.digest(), f"length {length}"
        assert signer.hexdigest(message) == expected.hexdigest().encode(), f"length {length}"


def test_every_key_length_agrees_with_the_standard_library(force_portable: bool) -> None:
    rng = random.Random(2)
    for length in range(200):
        key = rng.randbytes(length)
        signer = HmacSha256(key, force_portable=force_portable)
        assert signer.digest(b"message") == hmac.digest(key, b"message", "sha256"), f"key of {length}"


def test_plain_hash_agrees_with_the_standard_library_around_block_borders(force_portable: bool) -> None:
    for length in [*range(130), 1000, 4096, 65_537]:
        message = bytes(i * 7 & 255 for i in range(length))
        assert sha256(message, force_portable=force_portable) == hashlib.sha256(message).digest(), f"length {length}"


def test_signing_leaves_the_key_state_as_it_was(force_portable: bool) -> None:
    signer = HmacSha256(BINANCE, force_portable=force_portable)
    first = signer.hexdigest(ORDER)
    for other in (b"", SUBSCRIBE, b"x" * 10_000):
        signer.hexdigest(other)
    assert signer.hexdigest(ORDER) == first


def test_portable_code_is_used_when_forced() -> None:
    assert not HmacSha256(b"key", force_portable=True).is_accelerated


def test_key_does_not_leave_the_signer() -> None:
    signer = HmacSha256(BINANCE)
    assert "demo" not in repr(signer)
    with pytest.raises(TypeError, match="secret"):
        pickle.dumps(signer)
    with pytest.raises(TypeError, match="secret"):
        copy.copy(signer)


@pytest.mark.parametrize("key", [None, "text", bytearray(b"key")])
def test_key_that_is_not_bytes_is_refused(key: object) -> None:
    with pytest.raises(TypeError):
        HmacSha256(key)  # type: ignore[arg-type]
