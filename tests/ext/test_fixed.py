"""Decimal text to grid units and back, against Decimal."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ext.fixed import MAX_DECIMALS, MAX_TEXT, ceil_div, floor_div, text_from_units, units_from_text
from ext.scan import REFUSALS

INT64_MAX = 2**63 - 1
decimals_of_grid = st.integers(0, MAX_DECIMALS)
mantissas = st.one_of(st.just(1), st.sampled_from([5, 10, 25, 1000]), st.integers(1, 10**9))
plain_numbers = st.from_regex(r"-?[0-9]{1,22}(\.[0-9]{1,20})?", fullmatch=True)


def named(code: int) -> str:
    return REFUSALS[code] if code else "ok"


def expected(text: str, decimals: int, mantissa: int) -> tuple[str, int]:
    """Oracle. The refusals have a fixed order: length, range, grid."""
    if len(text) > MAX_TEXT:
        return "too_many_digits", 0
    with localcontext() as context:
        context.prec = 100
        scaled = Decimal(text).scaleb(decimals)
        if abs(int(scaled)) > INT64_MAX:
            return "overflow", 0
        if scaled != int(scaled) or int(scaled) % mantissa:
            return "off_grid", 0
        return "ok", int(scaled) // mantissa


@given(plain_numbers, decimals_of_grid, mantissas)
@example("9223372036854775807", 0, 1)
@example("9223372036854775808", 0, 1)
@example("-9223372036854775808", 0, 1)
@example("0.5", 18, 5)
@example("9.223372036854775807", 18, 1)
@example("61737.63000000", 2, 1)
def test_plain_number_is_read_as_decimal_reads_it(text: str, decimals: int, mantissa: int) -> None:
    code, units = units_from_text(text.encode(), decimals, mantissa)
    assert (named(code), units) == expected(text, decimals, mantissa)


@given(st.integers(-INT64_MAX, INT64_MAX), decimals_of_grid)
def test_value_on_the_grid_survives_both_ways(units: int, decimals: int) -> None:
    text = text_from_units(units, decimals, 1)
    assert isinstance(text, bytes)
    assert Decimal(text.decode()) == Decimal(units).scaleb(-decimals)
    assert len(text.partition(b".")[2]) == decimals
    assert units_from_text(text, decimals, 1) == (0, units)


@given(st.integers(-(10**9), 10**9), st.integers(0, 8), st.integers(1, 10**9))
def test_text_of_units_is_units_times_the_grid(units: int, decimals: int, mantissa: int) -> None:
    text = text_from_units(units, decimals, mantissa)
    assert isinstance(text, bytes)
    assert text.decode() == format(Decimal(units * mantissa).scaleb(-decimals), "f")
    assert units_from_text(text, decimals, mantissa) == (0, units)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"", "not_number"),
        (b"-", "not_number"),
        (b".", "not_number"),
        (b"1.", "not_number"),
        (b".5", "not_number"),
        (b"+1", "not_number"),
        (b" 1", "not_number"),
        (b"1 ", "not_number"),
        (b"1,5", "not_number"),
        (b"1.2.3", "not_number"),
        (b"--1", "not_number"),
        (b"0x10", "not_number"),
        (b"NaN", "not_number"),
        (b"Infinity", "not_number"),
        (b"1\x00", "not_number"),
        ("１".encode(), "not_number"),
        (b"1e5", "exponent"),
        (b"1.5E-3", "exponent"),
        (b"0.001", "off_grid"),
        (b"0.010000000000000000000000000000000000000000001", "off_grid"),
        (b"92233720368547758.08", "overflow"),
        (b"1" * 40, "overflow"),
        (b"0" * (MAX_TEXT + 1), "too_many_digits"),
    ],
)
def test_refusal_names_what_is_wrong(text: bytes, name: str) -> None:
    code, units = units_from_text(text, 2, 1)
    assert (named(code), units) == (name, 0)


def test_zeros_behind_the_grid_are_no_refusal() -> None:
    assert units_from_text(b"61737.63000000", 2, 1) == (0, 6173763)
    assert units_from_text(b"61737.50000000", 1, 5) == (0, 123475)


def test_text_never_overruns_its_buffer() -> None:
    longest = text_from_units(-INT64_MAX, 18, 1)
    assert longest == b"-9.223372036854775807"
    assert named(text_from_units(-INT64_MAX, 18, 1, len(longest) - 1)) == "buffer_too_small"  # type: ignore[arg-type]
    assert text_from_units(0, 18, 1) == b"0.000000000000000000"
    assert named(text_from_units(INT64_MAX, 0, 2)) == "overflow"  # type: ignore[arg-type]


@pytest.mark.parametrize(("decimals", "mantissa"), [(-1, 1), (MAX_DECIMALS + 1, 1), (0, 0), (0, -5)])
def test_impossible_grid_is_an_error(decimals: int, mantissa: int) -> None:
    with pytest.raises(ValueError):
        units_from_text(b"1", decimals, mantissa)
    with pytest.raises(ValueError):
        text_from_units(1, decimals, mantissa)


@given(st.integers(-(2**63), INT64_MAX), st.integers(1, INT64_MAX))
def test_division_rounds_as_its_name_says(a: int, b: int) -> None:
    assert floor_div(a, b) == a // b
    assert ceil_div(a, b) == -(-a // b)


def test_division_by_zero_is_an_error() -> None:
    for divide in (floor_div, ceil_div):
        with pytest.raises(ValueError):
            divide(1, 0)
