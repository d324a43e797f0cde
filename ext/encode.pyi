"""Bytes of order requests. See ext/encode.pyx."""

from collections.abc import Sequence
from typing import Final, Self, final

from ext.sign import HmacSha256

PX: Final[int]
"""px_ticks as decimal text, with as many decimals as the tick has."""
QTY: Final[int]
"""qty_lots as decimal text, with as many decimals as the lot has."""
CL_ORD_ID: Final[int]
"""cl_ord_id as text_from_cl_ord_id writes it."""
UTC_MS: Final[int]
"""utc_ns in whole milliseconds."""
REQUEST_ID: Final[int]
"""request_id in decimal digits."""
ORDER_ID: Final[int]
"""order_id, as it is."""
CLIENT_ID: Final[int]
"""client_id, as it is: for identifiers that are not a plain cl_ord_id."""
SIGNATURE: Final[int]
"""HMAC-SHA256 of the signed text, 64 lower-case hexadecimal characters."""

@final
class OrderTemplate:
    """One kind of request for one instrument: constant text (bytes) and holes (the constants above), in order.

    `px` and `qty` are (decimals, mantissa) of tick and lot: Instrument.px_scale and Instrument.qty_scale.
    `signed_parts` are those of the text that `signer` signs; the signature goes into its hole in `parts`.
    Cost: 80 ns an order of 300 B, called from Python; a signature adds what HmacSha256 says.
    """

    def __new__(
        cls,
        parts: Sequence[bytes | int],
        *,
        px: tuple[int, int],
        qty: tuple[int, int],
        signed_parts: Sequence[bytes | int] = (),
        signer: HmacSha256 | None = None,
    ) -> Self: ...
    def fill(
        self,
        request_id: int = 0,
        utc_ns: int = 0,
        cl_ord_id: int = 0,
        px_ticks: int = 0,
        qty_lots: int = 0,
        order_id: str = "",
        client_id: str = "",
    ) -> bytes:
        """Return the text. Values without a hole are not looked at; texts are not escaped.

        Errors: AssertionError for a negative number, one that int64 does not hold in units of its last decimal, and
        an empty text, where there is a hole for it.
        """
