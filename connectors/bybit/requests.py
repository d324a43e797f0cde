"""Bytes of order requests, patched into templates: no dict and no JSON encoder on the way of an order.

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
from engine.ids import PREFIX
from engine.instrument import Instrument
from engine.types import Market, OrdType

OrderAction = PlaceOrder | CancelOrder | AmendOrder

LINK: Final = PREFIX.encode() + b"%016x"  # text_from_cl_ord_id, in bytes
FRAME: Final = b'{"reqId":"%b-%d","header":{"X-BAPI-TIMESTAMP":"%d","X-BAPI-RECV-WINDOW":"%d"},"op":"%b","args":[%b]}'


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


class Desk:
    """What every order of one instrument needs, looked up once."""

    __slots__ = ("category", "creates", "instrument", "scale", "symbol", "templates")

    def __init__(self, context: Context, instrument: Instrument) -> None:
        self.instrument = instrument
        self.scale = context.scales[instrument.index]
        self.category = endpoints.CATEGORY[instrument.market].encode()
        self.symbol = instrument.symbol.encode()
        self.creates = context.limit(Group.CREATE, instrument.market)
        self.templates: dict[int, bytes] = {}

    def template(self, action: PlaceOrder) -> bytes:
        key = (action.side + 1) << 16 | action.time_in_force << 8 | action.ord_type << 4
        key |= action.post_only << 1 | action.reduce_only
        template = self.templates.get(key)
        if template is None:
            template = self.templates[key] = _template(self.instrument, action)
        return template


class Desks:
    """One desk an instrument, made at its first order."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._desks: dict[int, Desk] = {}
        self.get = self._desks.get

    def of(self, action: OrderAction) -> Desk:
        desk = self._desks.get(action.instrument)
        if desk is None:
            instrument = self._context.instruments[action.instrument]
            desk = self._desks[action.instrument] = Desk(self._context, instrument)
        return desk

    def payload(self, actions: Sequence[OrderAction]) -> bytes:
        """The JSON object of one request: of one action, or of a batch of one category."""
        desk = self.of(actions[0])
        if len(actions) == 1:
            return b'{"category":"%b",%b' % (desk.category, self._item(desk, actions[0]))
        items = b",".join([b"{" + self._item(self.of(action), action) for action in actions])
        return b'{"category":"%b","request":[%b]}' % (desk.category, items)

    def _item(self, desk: Desk, action: OrderAction) -> bytes:
        """Fields of one request, without the opening brace."""
        scale = desk.scale
        link = LINK % action.cl_ord_id
        if type(action) is PlaceOrder:
            template = desk.template(action)
            if action.ord_type is OrdType.MARKET:
                return template % (scale.qty(action.qty_lots), link)
            return template % (scale.qty(action.qty_lots), scale.px(action.px_ticks), link)
        assert not isinstance(action, PlaceOrder), "answered above"
        # orderId wins over orderLinkId where both are sent; one is enough and the shorter frame.
        name, ident = (b"orderId", action.order_id.encode()) if action.order_id else (b"orderLinkId", link)
        if type(action) is AmendOrder:
            return b'"symbol":"%b","%b":"%b","qty":"%b","price":"%b"}' % (
                desk.symbol, name, ident, scale.qty(action.qty_lots), scale.px(action.px_ticks),
            )  # fmt: skip
        return b'"symbol":"%b","%b":"%b"}' % (desk.symbol, name, ident)


def _template(instrument: Instrument, action: PlaceOrder) -> bytes:
    """JSON of a new order with %b for quantity, price and identifier, without the opening brace."""
    is_spot = instrument.market is Market.SPOT
    is_market = action.ord_type is OrdType.MARKET
    words = [
        f'"symbol":"{instrument.symbol}"',
        f'"side":"{SIDE_WORD[action.side]}"',
        f'"orderType":"{"Market" if is_market else "Limit"}"',
        '"qty":"%b"',
    ]
    if is_market:
        # Without it a spot market buy is counted in quote coin.
        words += ['"marketUnit":"baseCoin"'] if is_spot else []
    else:
        words.append('"price":"%b"')
        words.append(f'"timeInForce":"{"PostOnly" if action.post_only else TIME_IN_FORCE_WORD[action.time_in_force]}"')
    words.append('"orderLinkId":"%b"')
    if not is_spot:
        words.append('"positionIdx":0')
        words += ['"reduceOnly":true'] if action.reduce_only else []
    words.append(f'"smpType":"{SMP_TYPE.decode()}"')
    return (",".join(words) + "}").encode()
