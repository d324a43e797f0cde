"""Binance's error codes -> what became of a request.

Unknown is an outcome: whatever may have been executed is UNKNOWN, never a refusal. The same number means different
things on the two markets (-2021, -2022), so the market is always asked.
Source: binance-spot-api-docs errors.md, USD-M "Error Codes" and "General Info: HTTP return codes"; read 2026-11-22.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import orjson

from engine.types import Market

NOT_UNDERSTOOD: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading a message raises that is not as the venue documents it (decimal errors are arithmetic ones)."""


class Meaning(Enum):
    REFUSED = 1  # it never reached the book, and nothing changed
    UNKNOWN = 2  # it may have been executed
    TARGET_GONE = 3  # -2011: the order to cancel or amend is not open (filled, cancelled, or never there)
    NOT_FOUND = 4  # a query found no such order: weak evidence, answers lag


UNKNOWN_ORDER: Final = -2011
NO_SUCH_ORDER: Final = -2013
ARCHIVED: Final = -2026
REPLACE_PARTIAL: Final = -2021  # spot only
REPLACE_FAILED: Final = -2022  # spot only
LISTEN_KEY_GONE: Final = -1125
TOO_MANY_REQUESTS: Final = -1003
TOO_MANY_ORDERS: Final = -1015

_OVERLOADED: Final = -1008  # documented as not executed
_MAYBE_EXECUTED: Final = frozenset((-1000, -1001, -1006, -1007))
_CLOCK: Final = frozenset((-1021, -5028))
_AUTH: Final = frozenset((-1022, -2014, -2015))
_DUPLICATE_USDM: Final = -4116
_DUPLICATE_SPOT: Final = "Duplicate order sent"
_NOT_NEEDED: Final = frozenset((-4046, -4059))  # "No need to change ...": as good as done
_FAILED_503: Final = ("Service Unavailable", "Internal error; unable to process")


class Failure:
    """An error as the venue words it. `code` is 0 when the body was not Binance's (a proxy, a firewall)."""

    __slots__ = ("code", "details", "status", "text")

    def __init__(self, status: int, code: int, text: str, details: Any = None) -> None:
        self.status = status
        self.code = code
        self.text = text
        self.details = details  # cancelReplace: the two halves

    @property
    def is_clock(self) -> bool:
        return self.code in _CLOCK

    @property
    def is_auth(self) -> bool:
        return self.code in _AUTH or self.status == 401

    @property
    def is_not_needed(self) -> bool:
        return self.code in _NOT_NEEDED


def failure_of_body(status: int, body: bytes) -> Failure:
    """From a REST answer."""
    try:
        parsed = orjson.loads(body)
        return failure_of(status, parsed)
    except NOT_UNDERSTOOD:
        return Failure(status, 0, body[:120].decode("utf-8", "replace"))


def failure_of(status: int, error: Any) -> Failure:
    """From a parsed error object: `{"code", "msg"[, "data"]}`."""
    if not isinstance(error, dict) or not isinstance(error.get("code"), int):
        return Failure(status, 0, "no error code in the answer")
    return Failure(status, error["code"], str(error.get("msg", "")), error.get("data"))


def meaning_of(market: Market, failure: Failure) -> Meaning:
    """What became of a request that failed so."""
    code = failure.code
    if code in (UNKNOWN_ORDER,):
        return Meaning.TARGET_GONE
    if code in (NO_SUCH_ORDER, ARCHIVED):
        return Meaning.NOT_FOUND
    if code == _OVERLOADED:
        return Meaning.REFUSED
    if code in _MAYBE_EXECUTED or failure.status == 0:
        return Meaning.UNKNOWN
    if failure.status >= 500:
        is_refused = market is Market.LINEAR and failure.text.startswith(_FAILED_503)
        return Meaning.REFUSED if is_refused else Meaning.UNKNOWN
    if is_duplicate(market, failure):
        return Meaning.UNKNOWN  # our ids are never reused: the order lives, its own answer was lost
    return Meaning.REFUSED


def is_duplicate(market: Market, failure: Failure) -> bool:
    if market is Market.LINEAR:
        return failure.code == _DUPLICATE_USDM
    return failure.code == -2010 and failure.text.startswith(_DUPLICATE_SPOT)
