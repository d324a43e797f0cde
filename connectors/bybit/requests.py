"""Bytes of order requests, from templates of `ext.encode`: no dict and no JSON encoder on the way of an order.

The same JSON object travels on the trade socket and as the body over REST; a batch holds several. Source:
https://bybit-exchange.github.io/docs/v5/order/create-order, /websocket/trade/guideline, read 2026-07-24.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from connectors.bybit import endpoints
from connectors.bybit.context import Context, Group
from connectors.bybit.symbols import SIDE_WORD, SMP_TYPE, TIME_IN_FORCE_WORD
from engine.actions import AmendOrder, CancelOrder, PlaceOrder
from engine.instrument import Instrument
from engine.types import Market, OrdType
from ext.encode import CL_ORD_ID, ORDER_ID, PX, QTY, REQUEST_ID, UTC_MS, OrderTemplate

OrderAction = PlaceOrder | CancelOrder | AmendOrder

Parts = Sequence[bytes | int]


class Kind(Enum):
    PLACE = "place"
    CANCEL = "cancel"
    AMEND = "amend"


class Route:
    """One kind of request: its words on the socket and in REST, alone and in a batch."""

    __slots__ = ("batch_group", "batch_op", "batch_path", "group", "kind", "op", "path")

    def __init__(self, kind: Kind, op: str, path: str, group: Group, batch_path: str, batch_group: Group) -> None:
        self.kind = kind
        self.op = op.encode()
        self.path = path
        self.group = group
        self.batch_op = f"{op}-batch".encode()
        self.batch_path = batch_path
        self.batch_group = batch_group


PLACE: Final = Route(
    Kind.PLACE, "order.create", endpoints.CREATE, Group.CREATE, endpoints.CREATE_BATCH, Group.CREATE_BATCH
)
CANCEL: Final = Route(
    Kind.CANCEL, "order.cancel", endpoints.CANCEL, Group.CANCEL, endpoints.CANCEL_BATCH, Group.CANCEL_BATCH
)
AMEND: Final = Route(Kind.AMEND, "order.amend", endpoints.AMEND, Group.AMEND, "", Group.AMEND)


class Form:
    """One kind of order request of one instrument: the text on the trade socket, the body of REST, a batch's item."""

    __slots__ = ("body", "frame", "item")

    def __init__(self, desk: Desk, route: Route, fields: Parts) -> None:
        alone = (b'{"category":"%b",' % desk.category, *fields, b"}")
        self.frame = desk.template((*desk.envelope(route.op), *alone, b"]}"))
        self.body = desk.template(alone)
        self.item = desk.template((b"{", *fields, b"}"))


class Desk:
    """What every order of one instrument needs, made once."""

    __slots__ = (
        "_batches", "_forms", "_request_prefix", "_window", "cancels", "category", "creates", "instrument", "market",
        "symbol",
    )  # fmt: skip

    def __init__(self, context: Context, instrument: Instrument, request_prefix: bytes) -> None:
        self.instrument = instrument
        self.category = endpoints.CATEGORY[instrument.market].encode()
        self.symbol = b'"symbol":"%b",' % instrument.symbol.encode()
        self.market = instrument.market
        self.creates = context.limit(Group.CREATE, instrument.market)
        self.cancels = context.limit(Group.CANCEL, instrument.market)
        self._request_prefix = request_prefix
        self._window = context.settings.recv_window_ms
        self._forms: dict[tuple[object, ...], Form] = {}
        self._batches: dict[Route, OrderTemplate] = {}

    def form(self, action: OrderAction) -> Form:
        """The form of one action."""
        if type(action) is PlaceOrder:
            key: tuple[object, ...] = (
                action.side, action.ord_type, action.time_in_force, action.post_only, action.reduce_only,
            )  # fmt: skip
        else:
            assert not isinstance(action, PlaceOrder), "answered above"
            key = (type(action), action.order_id != "")
        form = self._forms.get(key)
        if form is None:
            form = self._forms[key] = self._make(action)
        return form

    def template(self, parts: Parts) -> OrderTemplate:
        return OrderTemplate(parts, px=self.instrument.px_scale, qty=self.instrument.qty_scale)

    def envelope(self, op: bytes) -> Parts:
        """A request on the trade socket until its first argument."""
        return (
            b'{"reqId":"%b-' % self._request_prefix, REQUEST_ID, b'","header":{"X-BAPI-TIMESTAMP":"', UTC_MS,
            b'","X-BAPI-RECV-WINDOW":"%d"},"op":"%b","args":[' % (self._window, op),
        )  # fmt: skip

    def batch_start(self, route: Route) -> OrderTemplate:
        start = self._batches.get(route)
        if start is None:
            start = self._batches[route] = self.template((*self.envelope(route.batch_op), self.batch_body_start))
        return start

    @property
    def batch_body_start(self) -> bytes:
        return b'{"category":"%b","request":[' % self.category

    def _make(self, action: OrderAction) -> Form:
        if type(action) is PlaceOrder:
            return Form(self, PLACE, _place_fields(self.instrument, action))
        assert not isinstance(action, PlaceOrder), "answered above"
        # orderId wins over orderLinkId where both are sent; one is enough and the shorter frame.
        ident: Parts = (b'"orderId":"', ORDER_ID) if action.order_id else (b'"orderLinkId":"', CL_ORD_ID)
        if type(action) is AmendOrder:
            return Form(self, AMEND, (self.symbol, *ident, b'","qty":"', QTY, b'","price":"', PX, b'"'))
        return Form(self, CANCEL, (self.symbol, *ident, b'"'))


class Desks:
    """One desk an instrument, made at its first order. `request_prefix` begins the identifier of every request."""

    def __init__(self, context: Context, request_prefix: bytes) -> None:
        self._context = context
        self._instruments = context.instruments
        self._request_prefix = request_prefix
        self._desks: dict[int, Desk] = {}

    def get(self, index: int) -> Desk | None:
        """None where no such instrument is defined."""
        instrument, desk = self._instruments.get(index), self._desks.get(index)
        if desk is not None and desk.instrument is instrument:
            return desk
        if instrument is None:
            return None
        # The first order, or defined anew: tick and lot may be others.
        desk = self._desks[index] = Desk(self._context, instrument, self._request_prefix)
        return desk

    def of(self, index: int) -> Desk:
        desk = self.get(index)
        assert desk is not None, f"instrument {index} is not defined; what is sent was looked up before"
        return desk

    def frame(self, route: Route, actions: Sequence[OrderAction], number: int, utc_ns: int) -> bytes:
        """The text of one request on the trade socket."""
        action = actions[0]
        desk = self.of(action.instrument)
        if len(actions) == 1:
            return _filled(desk.form(action).frame, action, number, utc_ns)
        return desk.batch_start(route).fill(number, utc_ns) + self._items(actions) + b"]}]}"

    def body(self, actions: Sequence[OrderAction]) -> bytes:
        """The same request as the body of REST."""
        action = actions[0]
        desk = self.of(action.instrument)
        if len(actions) == 1:
            return _filled(desk.form(action).body, action)
        return desk.batch_body_start + self._items(actions) + b"]}"

    def _items(self, actions: Sequence[OrderAction]) -> bytes:
        return b",".join([_filled(self.of(action.instrument).form(action).item, action) for action in actions])


def _filled(template: OrderTemplate, action: OrderAction, number: int = 0, utc_ns: int = 0) -> bytes:
    if type(action) is PlaceOrder:
        return template.fill(number, utc_ns, action.cl_ord_id, action.px_ticks, action.qty_lots)
    if type(action) is AmendOrder:
        return template.fill(
            number, utc_ns, action.cl_ord_id, action.px_ticks, action.qty_lots, order_id=action.order_id
        )
    assert isinstance(action, CancelOrder), f"{action} is not sent as an order request"
    return template.fill(number, utc_ns, action.cl_ord_id, order_id=action.order_id)


def _place_fields(instrument: Instrument, action: PlaceOrder) -> Parts:
    """Fields of a new order."""
    is_spot = instrument.market is Market.SPOT
    parts: list[bytes | int] = [
        f'"symbol":"{instrument.symbol}","side":"{SIDE_WORD[action.side]}"'.encode(),
    ]
    if action.ord_type is OrdType.MARKET:
        parts += [b',"orderType":"Market","qty":"', QTY, b'"']
        # Without it a spot market buy is counted in quote coin.
        parts += [b',"marketUnit":"baseCoin"'] if is_spot else []
    else:
        word = "PostOnly" if action.post_only else TIME_IN_FORCE_WORD[action.time_in_force]
        parts += [b',"orderType":"Limit","qty":"', QTY, b'","price":"', PX, f'","timeInForce":"{word}"'.encode()]
    parts += [b',"orderLinkId":"', CL_ORD_ID, b'"']
    if not is_spot:
        parts.append(b',"positionIdx":0')
        parts += [b',"reduceOnly":true'] if action.reduce_only else []
    parts.append(b',"smpType":"%b"' % SMP_TYPE)
    return parts
