from __future__ import annotations

import pytest

from connectors.binance.errors import Failure, Meaning, failure_of, failure_of_body, meaning_of
from engine.types import Market

S, F = Market.SPOT, Market.LINEAR


@pytest.mark.parametrize(
    ("market", "status", "code", "text", "meaning"),
    [
        (S, 400, -2011, "Unknown order sent.", Meaning.TARGET_GONE),
        (F, 400, -2011, "Unknown order sent.", Meaning.TARGET_GONE),
        (S, 400, -2013, "Order does not exist.", Meaning.NOT_FOUND),
        (S, 400, -2026, "Order was canceled or expired with no executed qty over 90 days ago.", Meaning.NOT_FOUND),
        (S, 504, -1007, "Timeout waiting for response from backend server.", Meaning.UNKNOWN),
        (S, 400, -1006, "An unexpected response was received from the message bus.", Meaning.UNKNOWN),
        (S, 400, -1000, "An unknown error occurred while processing the request.", Meaning.UNKNOWN),
        (S, 500, 0, "<html>", Meaning.UNKNOWN),
        (S, 0, 0, "timeout", Meaning.UNKNOWN),
        (F, 503, 0, "Unknown error, please check your request or try again later.", Meaning.UNKNOWN),
        (F, 503, -1001, "Internal error; unable to process your request. Please try again.", Meaning.UNKNOWN),
        (F, 503, 0, "Service Unavailable.", Meaning.REFUSED),
        (S, 503, 0, "Service Unavailable.", Meaning.UNKNOWN),
        (F, 503, -1008, "Server is currently overloaded.", Meaning.REFUSED),
        (S, 400, -2010, "Duplicate order sent.", Meaning.UNKNOWN),
        (S, 400, -2010, "Order would immediately match and take.", Meaning.REFUSED),
        (F, 400, -4116, "ClientOrderId is duplicated.", Meaning.UNKNOWN),
        (F, 400, -2021, "Order would immediately trigger.", Meaning.REFUSED),
        (F, 400, -5027, "No need to modify the order.", Meaning.REFUSED),
        (S, 429, -1015, "Too many new orders.", Meaning.REFUSED),
        (S, 403, 0, "<html>", Meaning.REFUSED),
        (S, 400, -1021, "Timestamp for this request is outside of the recvWindow.", Meaning.REFUSED),
    ],
)
def test_error_means_what_the_venue_documents(
    market: Market, status: int, code: int, text: str, meaning: Meaning
) -> None:
    assert meaning_of(market, Failure(status, code, text)) is meaning


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"code":"x"}', b'{"msg":"y"}', b"\xff"])
def test_body_that_is_no_error_object_has_no_code(body: bytes) -> None:
    failure = failure_of_body(502, body)
    assert (failure.status, failure.code) == (502, 0)


def test_halves_of_a_failed_replace_are_kept() -> None:
    failure = failure_of(409, {"code": -2021, "msg": "m", "data": {"cancelResult": "SUCCESS"}})
    assert (failure.code, failure.text, failure.details) == (-2021, "m", {"cancelResult": "SUCCESS"})


def test_clock_and_key_errors_are_told_apart() -> None:
    assert Failure(400, -1021, "").is_clock and Failure(400, -5028, "").is_clock
    assert Failure(401, -2015, "").is_auth and not Failure(400, -1021, "").is_auth
    assert Failure(400, -4046, "").is_not_needed
