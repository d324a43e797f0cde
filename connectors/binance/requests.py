"""Order requests as templates: which parameters each order needs on which market.

Post-only is LIMIT_MAKER on spot and timeInForce GTX on USD-M; reduce-only exists on USD-M alone. The answer is asked
for where it is proof: RESULT on spot, and on USD-M for what the engine decides at once (IOC, FOK, GTX, MARKET); a
USD-M GTC order answers ACK, which only says that the venue has it.
Source: binance-spot-api-docs web-socket-api.md "Trading requests"; USD-M "New Order", "Modify Order"; read
2026-11-22.
"""

from __future__ import annotations

from typing import Final

from connectors.binance.auth import Auth, Params, Template
from connectors.binance.symbols import Symbol
from engine.actions import PlaceOrder
from engine.types import Market, OrdType, Side, TimeInForce
from ext.encode import CL_ORD_ID, CLIENT_ID, ORDER_ID, PX, QTY

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
    """Requests of one market, made at first use and kept by their symbol.

    Of what is filled in: a plain cl_ord_id is CL_ORD_ID; a client id that names a leg is CLIENT_ID; what names an
    order that is there (its number, or a client id) is ORDER_ID.
    """

    def __init__(self, auth: Auth, market: Market, order_path: str) -> None:
        self._auth = auth
        self._is_spot = market is Market.SPOT
        self._order_path = order_path

    def place(self, symbol: Symbol, action: PlaceOrder) -> Shape:
        """Fills: CL_ORD_ID, PX unless it is a market order, QTY. Raises Unsupported."""
        key = (action.side, action.ord_type, action.time_in_force, action.post_only, action.reduce_only)
        shape = symbol.shapes.get(key)
        if shape is None:
            shape = symbol.shapes[key] = self._make_place(symbol, action)
        return shape

    def _make_place(self, symbol: Symbol, action: PlaceOrder) -> Shape:
        params: dict[str, str | int] = {
            "symbol": symbol.instrument.symbol, "newClientOrderId": CL_ORD_ID, "quantity": QTY,
        }  # fmt: skip
        params.update(self._kind(action.side, action.ord_type, action.time_in_force, action.post_only))
        if action.reduce_only and not self._is_spot:
            params["reduceOnly"] = "true"
        is_ack_only = not self._is_spot and params.get("timeInForce") == "GTC"
        params["newOrderRespType"] = "ACK" if is_ack_only else "RESULT"
        if self._is_spot or params.get("timeInForce") != "GTX":
            params["selfTradePreventionMode"] = symbol.stp
        return self._shape(symbol, "order.place", params, "POST", self._order_path, is_ack_only=is_ack_only)

    def _shape(
        self, symbol: Symbol, method: str, params: Params, http_method: str, path: str, *, is_ack_only: bool = False
    ) -> Shape:
        instrument = symbol.instrument
        template = Template(self._auth, method, params, px=instrument.px_scale, qty=instrument.qty_scale)
        return Shape(template, http_method, path, is_ack_only=is_ack_only)

    def _kind(self, side: Side, ord_type: OrdType, tif: TimeInForce, post_only: bool) -> dict[str, str | int]:
        params: dict[str, str | int] = {"side": side.name}
        if ord_type is OrdType.MARKET:
            return {**params, "type": "MARKET"}
        if tif not in _TIF_TEXT:
            raise Unsupported(f"time in force {tif.name} is not served here")
        params["price"] = PX
        if post_only:
            if tif is not TimeInForce.GTC:
                raise Unsupported(f"post-only with {tif.name}")
            if self._is_spot:
                return {**params, "type": "LIMIT_MAKER"}
            return {**params, "type": "LIMIT", "timeInForce": "GTX"}
        return {**params, "type": "LIMIT", "timeInForce": _TIF_TEXT[tif]}

    def cancel(self, symbol: Symbol, by_number: bool) -> Shape:
        """Fills: ORDER_ID."""
        key = ("cancel", by_number)
        shape = symbol.shapes.get(key)
        if shape is None:
            params: Params = {
                "symbol": symbol.instrument.symbol, "orderId" if by_number else "origClientOrderId": ORDER_ID,
            }  # fmt: skip
            shape = symbol.shapes[key] = self._shape(symbol, "order.cancel", params, "DELETE", self._order_path)
        return shape

    def keep_priority(self, symbol: Symbol, by_number: bool) -> Shape:
        """Spot, less quantity at the same price. Fills: CLIENT_ID, QTY, ORDER_ID."""
        key = ("keep", by_number)
        shape = symbol.shapes.get(key)
        if shape is None:
            params: dict[str, str | int] = {
                "symbol": symbol.instrument.symbol,
                "newClientOrderId": CLIENT_ID,  # the same id again, or the venue makes one up
                "newQty": QTY,
                "orderId" if by_number else "origClientOrderId": ORDER_ID,
            }
            path = f"{self._order_path}/amend/keepPriority"
            shape = symbol.shapes[key] = self._shape(symbol, "order.amend.keepPriority", params, "PUT", path)
        return shape

    def cancel_replace(self, symbol: Symbol, side: Side, post_only: bool, by_number: bool) -> Shape:
        """Spot. Fills: ORDER_ID (what goes), CLIENT_ID, PX, QTY."""
        key = ("replace", side, post_only, by_number)
        shape = symbol.shapes.get(key)
        if shape is None:
            params: dict[str, str | int] = {
                "symbol": symbol.instrument.symbol,
                "cancelReplaceMode": "STOP_ON_FAILURE",
                "cancelOrderId" if by_number else "cancelOrigClientOrderId": ORDER_ID,
                "newClientOrderId": CLIENT_ID,
                "quantity": QTY,
                "newOrderRespType": "RESULT",
                "selfTradePreventionMode": symbol.stp,
                **self._kind(side, OrdType.LIMIT, TimeInForce.GTC, post_only),
            }
            path = f"{self._order_path}/cancelReplace"
            shape = symbol.shapes[key] = self._shape(symbol, "order.cancelReplace", params, "POST", path)
        return shape

    def modify(self, symbol: Symbol, side: Side, by_number: bool) -> Shape:
        """USD-M. Fills: ORDER_ID, PX, QTY."""
        key = ("modify", side, by_number)
        shape = symbol.shapes.get(key)
        if shape is None:
            params: dict[str, str | int] = {
                "symbol": symbol.instrument.symbol,
                "side": side.name,
                "orderId" if by_number else "origClientOrderId": ORDER_ID,
                "price": PX,
                "quantity": QTY,
            }
            shape = symbol.shapes[key] = self._shape(symbol, "order.modify", params, "PUT", self._order_path)
        return shape

    def cancel_all(self, symbol: Symbol) -> Shape:
        """Spot. Fills nothing."""
        key = ("cancel_all",)
        shape = symbol.shapes.get(key)
        if shape is None:
            params: Params = {"symbol": symbol.instrument.symbol}
            shape = self._shape(symbol, "openOrders.cancelAll", params, "DELETE", "/api/v3/openOrders")
            symbol.shapes[key] = shape
        return shape
