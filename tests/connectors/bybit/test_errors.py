"""The error table of the venue, code by code."""

from __future__ import annotations

import pytest

from connectors.bybit.errors import Outcome, outcome_of, ret_code

TABLE = [
    *((code, Outcome.AMBIGUOUS) for code in (10000, 10016, 10019, 20003, 20006, 170007, 170146, 170147, 170310)),
    *((code, Outcome.AMBIGUOUS) for code in (10014, 110072, 170141)),  # duplicates: an earlier send got through
    *((code, Outcome.THROTTLED) for code in (10006, 10403, 10429, 170222)),
    *((code, Outcome.GONE) for code in (110001, 110008, 110010, 110079, 170139, 170142, 170143, 170213)),
    *((code, Outcome.UNCHANGED) for code in (34040, 110043)),
    *((code, Outcome.REFUSED) for code in (10001, 10002, 10003, 110003, 110007, 110017, 110020, 110094, 170131)),
    *((code, Outcome.REFUSED) for code in (170193, 170210, 170217, 170810, 999999)),
]


@pytest.mark.parametrize(("code", "outcome"), TABLE)
def test_code_has_its_outcome(code: int, outcome: Outcome) -> None:
    assert outcome_of(code) is outcome


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"retCode":10006,"retMsg":"Too many visits!"}', 10006),
        (b'{"retMsg":"OK","retCode": 0 }', 0),
        (b"{}", -1),
        (b"", -1),
        (b'{"retCode":"x"}', -1),
        (b"<html>", -1),
    ],
)
def test_ret_code_is_read_without_the_rest(body: bytes, code: int) -> None:
    assert ret_code(body) == code
