"""What Bybit's answers mean for an order. Source: https://bybit-exchange.github.io/docs/v5/error, read 2026-07-24.

A code that is in no table below was refused before the matching engine and changes nothing. Only what may have been
executed is AMBIGUOUS: treating such an order as refused would free exposure that may exist.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Outcome(Enum):
    """What became of a request, for the order that it was about."""

    REFUSED = "refused"  # not executed, and asking again would not help
    THROTTLED = "throttled"  # not executed: a limit; may be sent again after the reset
    AMBIGUOUS = "ambiguous"  # may have been executed: ask the venue
    GONE = "gone"  # cancel or amend of an order that is finished, unknown, or not visible yet: ask the venue
    UNCHANGED = "unchanged"  # the wish was already fulfilled


OK: Final = 0
BAD_TIMESTAMP: Final = 10002
BAD_KEY: Final = (10003, 10004, 10005, 10007, 10010)
RATE_LIMITED: Final = 10006
RESTARTING: Final = 10019
NOT_PERMITTED: Final = (10024, 10027, 10028, 10029)
SYMBOL_NOT_TRADING: Final = (110063, 110066, 110074)

_THROTTLED: Final = frozenset((10006, 10018, 10403, 10429, 170222))
_DUPLICATE: Final = frozenset((10014, 110072, 170141))  # an earlier send of this identifier got through
_TIMEOUTS: Final = frozenset(
    (10000, 10016, 10019, 20003, 20006, 170001, 170005, 170007, 170032, 170146, 170147, 170310, 500000)
)
_AMBIGUOUS: Final = _TIMEOUTS | _DUPLICATE
_GONE: Final = frozenset(
    (110001, 110008, 110009, 110010, 110079, 170139, 170142, 170143, 170190, 170212, 170213)
)  # 110079 and 170212: in progress, the order stream will tell
_UNCHANGED: Final = frozenset((34040, 110043))

SERVER_BUSY: Final = frozenset((10000, 10016, 10019, 170001, 170005, 170007, 170032, 170146, 170147, 500000))
"""Reads answered with these are asked again."""


def outcome_of(code: int) -> Outcome:
    """For an answer with retCode != 0."""
    assert code != OK, "success is no error"
    if code in _THROTTLED:
        return Outcome.THROTTLED
    if code in _AMBIGUOUS:
        return Outcome.AMBIGUOUS
    if code in _GONE:
        return Outcome.GONE
    if code in _UNCHANGED:
        return Outcome.UNCHANGED
    return Outcome.REFUSED


def is_duplicate(code: int) -> bool:
    return code in _DUPLICATE


def ret_code(body: bytes) -> int:
    """retCode of a REST answer without reading the rest of it; -1 when there is none."""
    at = body.find(b'"retCode"')
    if at < 0:
        return -1
    digits = body[at + 9 : at + 32].lstrip(b" :").split(b",", 1)[0].rstrip(b" }")
    return int(digits) if digits.isdigit() else -1
