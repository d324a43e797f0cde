"""Order texts against Python's own formatting, Decimal, json and hmac."""

from __future__ import annotations

import hashlib
import hmac
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ids import text_from_cl_ord_id
from engine.instrument import decimals_and_mantissa
from ext.encode import CL_ORD_ID, CLIENT_ID, ORDER_ID, PX, QTY, REQUEST_ID, SIGNATURE, UTC_MS, OrderTemplate
from ext.sign import HmacSha256

KEY = b"secret-0123456789"
GRIDS = ["0.01", "0.1", "1", "5", "0.5", "0.00000001", "0.0005", "100", "0.25", "0.000000000000000001"]
HOLES = {
    "px": PX, "qty": QTY, "id": CL_ORD_ID, "ms": UTC_MS, "number": REQUEST_ID, "venue": ORDER_ID, "client": CLIENT_ID,
}  # fmt: skip
INT64 = 2**63 - 1
# Units whose value in 10**-decimals fits int64 on every grid above.
units = st.integers(0, INT64 // 100)
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=40)


def scale(size: str) -> tuple[int, int]:
    return decimals_and_mantissa(Decimal(size))


def text_on(size: str, count: int) -> str:
    decimals, mantissa = scale(size)
    whole, part = divmod(mantissa * count, 10**decimals)
    return f"{whole}.{part:0{decimals}d}" if decimals else f"{whole}"


@st.composite
def template_of(draw: st.DrawFn) -> tuple[list[bytes | int], str]:
    """Parts, and the same as a template of str.format."""
    names = draw(st.lists(st.sampled_from(sorted(HOLES)), max_size=12))
    parts: list[bytes | int] = []
    text = ""
    for name in names:
        constant = draw(st.text('abc":,=&{}', max_size=20))
        parts += [constant.encode()] * bool(constant) + [HOLES[name]]
        text += constant.replace("{", "{{").replace("}", "}}") + "{" + name + "}"
    return [*parts, b"end"], text + "end"


@given(
    template=template_of(), tick=st.sampled_from(GRIDS), lot=st.sampled_from(GRIDS), px=units, qty=units,
    cl_ord_id=st.integers(0, 2**64 - 1), utc_ns=st.integers(0, INT64), number=st.integers(0, INT64),
    venue=words, client=words,
)  # fmt: skip
def test_text_equals_what_python_formats(
    template: tuple[list[bytes | int], str], tick: str, lot: str, px: int, qty: int, cl_ord_id: int, utc_ns: int,
    number: int, venue: str, client: str,
) -> None:  # fmt: skip
    parts, pattern = template
    made = OrderTemplate(parts, px=scale(tick), qty=scale(lot))
    expected = pattern.format(
        px=text_on(tick, px), qty=text_on(lot, qty), id=text_from_cl_ord_id(cl_ord_id), ms=utc_ns // 10**6,
        number=number, venue=venue, client=client,
    )  # fmt: skip
    assert made.fill(number, utc_ns, cl_ord_id, px, qty, venue, client) == expected.encode()
    assert made.fill(number, utc_ns, cl_ord_id, px, qty, venue, client) == expected.encode()  # nothing is left over


@pytest.mark.parametrize("tick", GRIDS)
@given(px=units)
def test_price_text_is_the_decimal_number_exactly(tick: str, px: int) -> None:
    text = OrderTemplate([PX], px=scale(tick), qty=(0, 1)).fill(px_ticks=px).decode()
    assert Decimal(text) == Decimal(tick) * px
    assert "E" not in text and -int(Decimal(text).as_tuple().exponent) == scale(tick)[0]


@given(px=units, qty=units, cl_ord_id=st.integers(0, 2**64 - 1), utc_ns=st.integers(0, INT64), symbol=words)
def test_signature_is_the_hmac_of_the_signed_text(px: int, qty: int, cl_ord_id: int, utc_ns: int, symbol: str) -> None:
    said = [b'{"p":"', PX, b'","q":"', QTY, b'","t":', UTC_MS, b',"s":"', SIGNATURE, b'","id":', REQUEST_ID, b"}"]
    to_sign: list[bytes | int] = [
        b"c=",
        CL_ORD_ID,
        b"&p=",
        PX,
        b"&q=",
        QTY,
        f"&symbol={symbol * 9}&t=".encode(),
        UTC_MS,
    ]
    template = OrderTemplate(said, px=(2, 1), qty=(3, 1), signed_parts=to_sign, signer=HmacSha256(KEY))
    row = json.loads(template.fill(7, utc_ns, cl_ord_id, px, qty))
    text = f"c={text_from_cl_ord_id(cl_ord_id)}&p={row['p']}&q={row['q']}&symbol={symbol * 9}&t={utc_ns // 10**6}"
    assert row["s"] == hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest()
    assert (row["t"], row["id"]) == (utc_ns // 10**6, 7)


def test_value_without_a_hole_is_not_looked_at() -> None:
    template = OrderTemplate([b"qty=", QTY], px=(2, 1), qty=(0, 1))
    assert template.fill(px_ticks=-(2**63), qty_lots=3) == b"qty=3"  # a market order has no price
    assert OrderTemplate([], px=(0, 1), qty=(0, 1)).fill() == b""


@pytest.mark.parametrize(
    ("hole", "values", "word"),
    [
        (PX, {"px_ticks": -1}, "price"),
        (PX, {"px_ticks": -(2**63)}, "price"),
        (PX, {"px_ticks": INT64}, "price"),
        (QTY, {"qty_lots": -1}, "quantity"),
        (REQUEST_ID, {"request_id": -1}, "request identifier"),
        (UTC_MS, {"utc_ns": -1}, "time"),
        (ORDER_ID, {}, "order_id"),
        (CLIENT_ID, {"client_id": ""}, "client_id"),
    ],
)
def test_value_without_a_text_is_our_bug(hole: int, values: dict[str, int], word: str) -> None:
    template = OrderTemplate([b"x", hole], px=(2, 5), qty=(0, 1))
    with pytest.raises(AssertionError, match=word):
        template.fill(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments",
    [
        {"parts": [99]},
        {"parts": [-1]},
        {"parts": [SIGNATURE]},
        {"parts": [b"x"], "signer": HmacSha256(KEY)},
        {"parts": [SIGNATURE], "signed_parts": [SIGNATURE], "signer": HmacSha256(KEY)},
        {"parts": [PX], "px": (19, 1)},
        {"parts": [PX], "qty": (2, 0)},
    ],
)
def test_template_that_makes_no_sense_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        OrderTemplate(**{"px": (2, 1), "qty": (3, 1)} | arguments)  # type: ignore[arg-type]
