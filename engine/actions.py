"""What the core asks of connectors. Each is journaled as an intent before a connector sees it.

Actions are plain values: a replay that recomputes them compares them field by field.
"""

from __future__ import annotations

import msgspec

from engine.types import OrdType, Side, TimeInForce, Venue


class Action(msgspec.Struct, frozen=True, gc=False):
    venue: Venue


class PlaceOrder(Action, frozen=True):
    instrument: int
    cl_ord_id: int
    side: Side
    ord_type: OrdType
    px_ticks: int  # NO_PX for a market order
    qty_lots: int
    time_in_force: TimeInForce
    post_only: bool = False
    reduce_only: bool = False
    is_hedge: bool = False  # reduces the residual of a leg plan: queued before new orders


class CancelOrder(Action, frozen=True):
    instrument: int
    cl_ord_id: int
    order_id: str  # "" when the venue has not told it yet: cancel by cl_ord_id


class AmendOrder(Action, frozen=True):
    instrument: int
    cl_ord_id: int
    order_id: str
    side: Side
    px_ticks: int
    qty_lots: int  # the new total quantity


class CancelAll(Action, frozen=True):
    """Cancel all open orders of the account on one instrument."""

    instrument: int


class QueryOrder(Action, frozen=True):
    """Ask for one order; answered by an OrderReport with exec_type STATUS, NOT_FOUND or OUTCOME_UNKNOWN."""

    instrument: int
    cl_ord_id: int
    order_id: str


class QueryOpenOrders(Action, frozen=True):
    request_id: int


class QueryFills(Action, frozen=True):
    """Fills of one instrument since a venue time, with the connector's own overlap and paging."""

    request_id: int
    instrument: int
    since_exch_ts_ns: int


class QueryBalances(Action, frozen=True):
    request_id: int


class QueryPositions(Action, frozen=True):
    request_id: int
