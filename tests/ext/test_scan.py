"""The scanner against Python's JSON parser made strict: what the scanner accepts, that parser accepts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.scan import REFUSALS, validate

HEADER = Path(__file__).resolve().parents[2] / "ext" / "native" / "refused.h"


def refuse_constant(text: str) -> Any:
    raise ValueError(text)


def is_strict_json(payload: bytes) -> bool:
    """No NaN, no Infinity, valid UTF-8, no half surrogate, no byte order mark."""
    try:
        value = json.loads(payload.decode("utf-8", "strict"), parse_constant=refuse_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return False
    return True


def named(code: int) -> str:
    return REFUSALS[code] if code else "ok"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=20), inner, max_size=5),
    max_leaves=20,
)


@given(json_values, st.booleans(), st.sampled_from([None, 1]))
def test_what_json_writes_is_accepted(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert validate(text.encode()) == 0


@given(json_values, st.data())
def test_every_accepted_damage_is_still_strict_json(value: Any, data: st.DataObject) -> None:
    payload = bytearray(json.dumps(value, ensure_ascii=False).encode())
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    for damaged in (bytes(payload), bytes(payload[:cut]), bytes(payload[cut:])):
        code = validate(damaged)
        assert code == 0 or code in REFUSALS
        assert code != 0 or is_strict_json(damaged), damaged


@given(st.binary(max_size=60))
def test_accepted_noise_is_strict_json(payload: bytes) -> None:
    for text in (payload, b'"' + payload + b'"', b"[" + payload + b"]"):
        assert validate(text) != 0 or is_strict_json(text)


# The scanner's alphabet: far more of these texts are nearly JSON than of random bytes.
PIECES = re.findall(r"\S+", r'{ } [ ] " : , - 0 1 . e \ \u00e9 \ud83d \ude00 true null "a" é')


@given(
    st.lists(st.sampled_from([text.encode() for text in PIECES] + [b" ", b"\xed\xa0\x80"]), max_size=14).map(b"".join)
)
def test_accepted_pieces_of_json_are_strict_json(payload: bytes) -> None:
    assert validate(payload) != 0 or is_strict_json(payload)


@given(st.text(alphabet="aé€😀\x7f ", max_size=60), st.integers(0, 255), st.data())
def test_string_of_any_length_is_judged_as_utf8(text: str, byte: int, data: st.DataObject) -> None:
    body = bytearray(text.encode())
    if body:
        body[data.draw(st.integers(0, len(body) - 1))] = byte
    payload = b'["' + bytes(body) + b'"]'
    assert (validate(payload) == 0) == is_strict_json(payload)


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (b"", "empty"),
        (b" \r\n\t", "empty"),
        (b"{", "truncated"),
        (b'{"a"', "truncated"),
        (b'{"a":', "truncated"),
        (b'{"a":1', "truncated"),
        (b'{"a":1,', "truncated"),
        (b'"abc', "truncated"),
        (b'"abc\\', "truncated"),
        (b'"\\u12', "truncated"),
        (b'"\\ud83d', "truncated"),
        (b'"\xe2\x82', "truncated"),
        (b"tru", "truncated"),
        (b"-", "truncated"),
        (b"1.", "truncated"),
        (b"1e", "truncated"),
        (b"[1,]", "syntax"),
        (b'{"a":1,}', "syntax"),
        (b"{a:1}", "syntax"),
        (b'{"a" 1}', "syntax"),
        (b"[1 2]", "syntax"),
        (b"[1}", "syntax"),
        (b"'a'", "syntax"),
        (b"nul1", "syntax"),
        (b"NaN", "syntax"),
        (b"\xef\xbb\xbf{}", "syntax"),
        (b"-Infinity", "json_number"),
        (b"+1", "syntax"),
        (b".5", "syntax"),
        (b"01", "json_number"),
        (b"-01", "json_number"),
        (b"[1.]", "json_number"),
        (b"[1.e5]", "json_number"),
        (b"[1e+]", "json_number"),
        (b"1" * 65, "json_number"),
        (b'"a\nb"', "control_character"),
        (b'"a\x00b"', "control_character"),
        (b'"\\x"', "escape"),
        (b'"\\u12g4"', "escape"),
        (b'"\\ud83d."', "truncated"),
        (b'"\\ud83dabcdef"', "escape"),
        (b'"\\ude00"', "escape"),
        (b'"\\ud83d\\u0041"', "escape"),
        (b'"\xff"', "utf8"),
        (b'"\xc0\xaf"', "utf8"),
        (b'"\xe0\x80\x80"', "utf8"),
        (b'"\xed\xa0\x80"', "utf8"),
        (b'"\xf4\x90\x80\x80"', "utf8"),
        (b"{} {}", "trailing"),
        (b"1 1", "trailing"),
        (b"{}\x00", "trailing"),
        (b"[" * 33 + b"]" * 33, "too_deep"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "too_deep"),
        (b"[" * 32 + b"]" * 32, "ok"),
        (b' {"a":[1,-2.5e+3,true,false,null,"\\u00e9\\ud83d\\ude00"]} ', "ok"),
        (b"1" * 64, "ok"),
    ],
)
def test_refusal_names_what_is_wrong(payload: bytes, name: str) -> None:
    assert named(validate(payload)) == name


def test_every_refusal_of_the_header_has_its_name() -> None:
    codes = dict(re.findall(r"REFUSED_(\w+) = (-\d+)", HEADER.read_text()))
    lowest = int(codes.pop("LOWEST"))
    assert {int(code): name.lower() for name, code in codes.items()} == REFUSALS
    assert all(lowest < code < 0 for code in REFUSALS)
