"""Binance's error codes and texts, and which one a refusal of the core becomes.

Source: Binance spot and USD-M error code pages, read 2026-11-22. The same number may mean another thing on the other
market (-2021, -2022), so each market has its own table.
"""

from __future__ import annotations

from typing import Any

from tools.exchange.model import Reason, Refused


class ApiError(Exception):
    """An answer with a code; `status` is the HTTP status and the WS API's."""

    def __init__(self, code: int, msg: str, status: int = 400, payload: dict[str, Any] | None = None) -> None:
        super().__init__(f"{code} {msg}")
        self.code = code
        self.msg = msg
        self.status = status
        self.payload = payload
        self.retry_after_ns = 0


def missing(name: str) -> ApiError:
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def illegal(name: str, legal: str) -> ApiError:
    return ApiError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def unknown_outcome() -> ApiError:
    text = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."
    return ApiError(-1007, text, 504)


def overloaded() -> ApiError:
    text = "Server is currently overloaded with other requests. Please try again in a few minutes."
    return ApiError(-1008, text, 503)


SPOT: dict[Reason, tuple[int, str]] = {
    Reason.BALANCE: (-2010, "Account has insufficient balance for requested action."),
    Reason.DUPLICATE_ID: (-2010, "Duplicate order sent."),
    Reason.POST_ONLY: (-2010, "Order would immediately match and take."),
    Reason.HALTED: (-1013, "Market is closed."),
    Reason.MAX_ORDERS: (-1013, "Filter failure: MAX_NUM_ORDERS"),
    Reason.PX_FILTER: (-1013, "Filter failure: PRICE_FILTER"),
    Reason.PX_BAND: (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
    Reason.QTY_FILTER: (-1013, "Filter failure: LOT_SIZE"),
    Reason.NOTIONAL_FILTER: (-1013, "Filter failure: NOTIONAL"),
    Reason.UNKNOWN_ORDER: (-2011, "Unknown order sent."),
    Reason.ID_MISMATCH: (-2039, "Order cancel-replace failed: client order ID does not match the order ID."),
    Reason.CANCEL_RESTRICTION: (-2011, "Order was not canceled due to cancel restrictions."),
    Reason.AMEND_SAME: (-2038, "The requested action would change no state; rejecting."),
    Reason.AMEND_QTY: (-2038, "The quantity of the amendment must be below the order's and above what is executed."),
    Reason.AMEND_LIMIT: (-2038, "Filter failure: MAX_NUM_ORDER_AMENDS"),
}

USDM: dict[Reason, tuple[int, str]] = {
    Reason.MARGIN: (-2019, "Margin is insufficient."),
    Reason.BALANCE: (-2018, "Balance is insufficient."),
    Reason.DUPLICATE_ID: (-4116, "ClientOrderId is duplicated."),
    Reason.POST_ONLY: (
        -5022,
        "Due to the order could not be executed as maker, the Post Only order will be rejected. "
        "The order will not be recorded in the order history",
    ),
    Reason.FOK: (-5021, "Due to the order could not be filled immediately, the FOK order has been rejected."),
    Reason.REDUCE_ONLY: (-2022, "ReduceOnly Order is rejected."),
    Reason.HALTED: (-4140, "Invalid symbol status for opening position."),
    Reason.MAX_ORDERS: (-2025, "Reach max open order limit."),
    Reason.PX_FILTER: (-4002, "Price greater than max price."),
    Reason.PX_BAND: (-4131, "The counterparty's best price does not meet the PERCENT_PRICE filter limit."),
    Reason.QTY_FILTER: (-4005, "Quantity greater than max quantity."),
    Reason.NOTIONAL_FILTER: (
        -4164,
        "Order's notional must be no smaller than {minimum} (unless you choose reduce only).",
    ),
    Reason.UNKNOWN_ORDER: (-2011, "Unknown order sent."),
    Reason.ID_MISMATCH: (-2011, "Unknown order sent."),
    Reason.AMEND_SAME: (-5027, "No need to modify the order."),
    Reason.AMEND_LIMIT: (-5026, "Exceed maximum modify order limit."),
}


def spot_error(refused: Refused) -> ApiError:
    code, text = SPOT.get(refused.reason, (-2010, refused.reason.name))
    if refused.reason is Reason.QTY_FILTER and refused.text == "MARKET":
        text = "Filter failure: MARKET_LOT_SIZE"
    return ApiError(code, text)


def usdm_error(refused: Refused, minimum: str) -> ApiError:
    code, text = USDM.get(refused.reason, (-1000, refused.reason.name))
    return ApiError(code, text.format(minimum=minimum))
