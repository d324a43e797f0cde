"""Order requests as templates: which parameters each order needs on which market.

Post-only is LIMIT_MAKER on spot and timeInForce GTX on USD-M; reduce-only exists on USD-M alone. The answer is asked
for where it is proof: RESULT on spot, and on USD-M for what the engine decides at once (IOC, FOK, GTX, MARKET); a
USD-M GTC order answers ACK, which only says that the venue has it.
Source: binance-spot-api-docs web-socket-api.md "Trading requests"; USD-M "New Order", "Modify Order"; read
2026-11-22.
"""

from __future__ import annotations

from typing import Final

from connectors.binance.auth import SLOT, Auth, Template
from connectors.binance.symbols import Symbol
from engine.actions import PlaceOrder
from engine.types import Market, OrdType, Side, TimeInForce

_TIF_TEXT: Final[dict[TimeInForce, str]] = {
    TimeInForce.GTC: "GTC",
    TimeInForce.IOC: "IOC",
    TimeInForce.FOK: "FOK",
}


class Unsupported(ValueError):
    """The venue has no such order."""


class Shape:
    """One method with its REST twin."""

    __slots__ = ("http_method", "is_ack_only", "path", "template")

    def __init__(self, template: Template, http_method: str, path: str, *, is_ack_only: bool = False) -> None:
        self.template = template
        self.http_method = http_method
        self.path = path
        self.is_ack_only = is_ack_only


class Shapes:
    """Templates of one market, made at first use."""

    def __init__(self, auth: Auth, market: Market, order_path: str) -> None:
        self._auth = auth
        self._is_spot = market is Market.SPOT
        self._order_path = order_path
        self._place: dict[tuple[int, Side, OrdType, TimeInForce, bool, bool], Shape] = {}
        self._other: dict[tuple[str, int, Side | None, bool, bool], Shape] = {}

    def place(self, symbol: Symbol, action: PlaceOrder) -> Shape:
        """Slots: newClientOrderId[, price], quantity. Raises Unsupported."""
        key = (
            action.instrument,
            action.side,
            action.ord_type,
            action.time_in_force,
            action.post_only,
            action.reduce_only,
        )
        shape = self._place.get(key)
        if shape is None:
            shape = self._place[key] = self._make_place(symbol, action)
        return shape

    def _make_place(self, symbol: Symbol, action: PlaceOrder) -> Shape:
        params = {"symbol": symbol.instrument.symbol, "newClientOrderId": SLOT, "quantity": SLOT}
        params.update(self._kind(action.side, action.ord_type, action.time_in_force, action.post_only))
        if action.reduce_only and not self._is_spot:
            params["reduceOnly"] = "true"
        is_ack_only = not self._is_spot and params.get("timeInForce") == "GTC"
        params["newOrderRespType"] = "ACK" if is_ack_only else "RESULT"
        if self._is_spot or params.get("timeInForce") != "GTX":
            params["selfTradePreventionMode"] = symbol.stp
        template = Template(self._auth, "order.place", params)
        return Shape(template, "POST", self._order_path, is_ack_only=is_ack_only)

    def _kind(self, side: Side, ord_type: OrdType, tif: TimeInForce, post_only: bool) -> dict[str, str]:
        params = {"side": side.name}
        if ord_type is OrdType.MARKET:
            return {**params, "type": "MARKET"}
        if tif not in _TIF_TEXT:
            raise Unsupported(f"time in force {tif.name} is not served here")
        params["price"] = SLOT
        if post_only:
            if tif is not TimeInForce.GTC:
                raise Unsupported(f"post-only with {tif.name}")
            if self._is_spot:
                return {**params, "type": "LIMIT_MAKER"}
            return {**params, "type": "LIMIT", "timeInForce": "GTX"}
        return {**params, "type": "LIMIT", "timeInForce": _TIF_TEXT[tif]}

    def cancel(self, symbol: Symbol, by_number: bool) -> Shape:
        """Slots: orderId, or origClientOrderId."""
        key = ("cancel", symbol.instrument.index, None, False, by_number)
        shape = self._other.get(key)
        if shape is None:
            params = {"symbol": symbol.instrument.symbol, "orderId" if by_number else "origClientOrderId": SLOT}
            shape = self._other[key] = Shape(Template(self._auth, "order.cancel", params), "DELETE", self._order_path)
        return shape

    def keep_priority(self, symbol: Symbol, by_number: bool) -> Shape:
        """Spot, less quantity at the same price. Slots: newClientOrderId, newQty, orderId or origClientOrderId."""
        key = ("keep", symbol.instrument.index, None, False, by_number)
        shape = self._other.get(key)
        if shape is None:
            params = {
                "symbol": symbol.instrument.symbol,
                "newClientOrderId": SLOT,  # the same id again, or the venue makes one up
                "newQty": SLOT,
                "orderId" if by_number else "origClientOrderId": SLOT,
            }
            template = Template(self._auth, "order.amend.keepPriority", params)
            shape = self._other[key] = Shape(template, "PUT", f"{self._order_path}/amend/keepPriority")
        return shape

    def cancel_replace(self, symbol: Symbol, side: Side, post_only: bool, by_number: bool) -> Shape:
        """Spot. Slots: cancelOrderId or cancelOrigClientOrderId, newClientOrderId, price, quantity."""
        key = ("replace", symbol.instrument.index, side, post_only, by_number)
        shape = self._other.get(key)
        if shape is None:
            params = {
                "symbol": symbol.instrument.symbol,
                "cancelReplaceMode": "STOP_ON_FAILURE",
                "cancelOrderId" if by_number else "cancelOrigClientOrderId": SLOT,
                "newClientOrderId": SLOT,
                "quantity": SLOT,
                "newOrderRespType": "RESULT",
                "selfTradePreventionMode": symbol.stp,
                **self._kind(side, OrdType.LIMIT, TimeInForce.GTC, post_only),
            }
            template = Template(self._auth, "order.cancelReplace", params)
            shape = self._other[key] = Shape(template, "POST", f"{self._order_path}/cancelReplace")
        return shape

    def modify(self, symbol: Symbol, side: Side, by_number: bool) -> Shape:
        """USD-M. Slots: orderId or origClientOrderId, price, quantity."""
        key = ("modify", symbol.instrument.index, side, False, by_number)
        shape = self._other.get(key)
        if shape is None:
            params = {
                "symbol": symbol.instrument.symbol,
                "side": side.name,
                "orderId" if by_number else "origClientOrderId": SLOT,
                "price": SLOT,
                "quantity": SLOT,
            }
            shape = self._other[key] = Shape(Template(self._auth, "order.modify", params), "PUT", self._order_path)
        return shape

    def cancel_all(self, symbol: Symbol) -> Shape:
        """Spot. No slots."""
        key = ("cancel_all", symbol.instrument.index, None, False, False)
        shape = self._other.get(key)
        if shape is None:
            template = Template(self._auth, "openOrders.cancelAll", {"symbol": symbol.instrument.symbol})
            shape = self._other[key] = Shape(template, "DELETE", "/api/v3/openOrders")
        return shape
