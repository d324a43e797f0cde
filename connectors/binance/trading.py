"""Order entry of one market over the WebSocket API, with REST as the fallback route.

An order that cannot leave within its age limit is refused here ("throttled") and never sent late; a cancel waits.
Whatever was sent and not answered (timeout, lost channel, 5xx, -1007) is OUTCOME_UNKNOWN, never a refusal, and is not
sent again: the core queries. A late answer still counts.
Source: binance-spot-api-docs web-socket-api.md "Trading requests"; USD-M "WebSocket API: Trade"; read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, Final

import msgspec
import orjson

from connectors.binance.auth import Auth
from connectors.binance.context import Context, MarketSide
from connectors.binance.errors import (
    NOT_UNDERSTOOD,
    REPLACE_FAILED,
    REPLACE_PARTIAL,
    Failure,
    Meaning,
    failure_of,
    failure_of_body,
    meaning_of,
)
from connectors.binance.live import Live, leg_text, our_id, report_from_row
from connectors.binance.requests import Shape, Shapes, Unsupported
from connectors.binance.symbols import Symbol
from connectors.rest import RestAnswer, RestCall, RestRequest
from connectors.session import MS, ChannelPair, Outgoing, PendingRequests, Priority
from engine.actions import AmendOrder, CancelAll, CancelOrder, PlaceOrder
from engine.events import OrderReport, VenueRefused
from engine.ids import text_from_cl_ord_id
from engine.types import ConnState, ExecType, Market, OrdStatus, Venue

NEW_AGE_NS: Final = 250 * MS
"""A price decided longer ago than this is not worth sending."""

LATE_KEPT: Final = 512


class Op(Enum):
    PLACE = 1
    CANCEL = 2
    AMEND = 3
    REPLACE = 4  # spot cancelReplace
    CANCEL_ALL = 5


# Members on the way of every order: looking one up in its class costs more than taking a token from a budget.
_PLACE: Final = Op.PLACE
_CANCEL_ORDER: Final = Op.CANCEL
_UP: Final = ConnState.UP
_CANCEL: Final = Priority.CANCEL
_HEDGE: Final = Priority.HEDGE
_REDUCE: Final = Priority.REDUCE
_NEW: Final = Priority.NEW

_REFUSED: dict[Op, tuple[ExecType, OrdStatus]] = {
    Op.PLACE: (ExecType.REJECTED, OrdStatus.REJECTED),
    Op.CANCEL: (ExecType.CANCEL_REJECTED, OrdStatus.UNKNOWN),
    Op.AMEND: (ExecType.REPLACE_REJECTED, OrdStatus.UNKNOWN),
    Op.REPLACE: (ExecType.REPLACE_REJECTED, OrdStatus.UNKNOWN),
}


class OrderRequest(msgspec.Struct, eq=False):
    """One request under way, and what fills its template. A struct, because one is made for every order."""

    op: Op
    symbol: Symbol
    cl_ord_id: int
    order_id: str
    shape: Shape
    px_ticks: int = 0
    qty_lots: int = 0
    name: str = ""  # what names the order that is there: its number, or a client id
    client_id: str = ""  # of the leg that will be there
    request_id: int = 0
    sent_ns: int = 0
    expected_cum_lots: int = 0  # REPLACE: what the leg had executed when we asked
    is_trim: bool = False  # our own correction after a replace; nobody asked for it by name


class Trading:
    """Orders of one market."""

    def __init__(self, ctx: Context, side: MarketSide, auth: Auth, live: Live, pair: ChannelPair) -> None:
        self._ctx = ctx
        self._side = side
        self._auth = auth
        self._live = live
        self._pair = pair
        self._is_spot = side.market is Market.SPOT
        self._shapes = Shapes(auth, side.market, side.paths.order)
        self._timeout_ns = ctx.settings.order_timeout_ms * MS
        self._pending: PendingRequests[OrderRequest] = PendingRequests()
        self._late: dict[int, OrderRequest] = {}
        self._weights_new = (side.weights.place, 1, 1)
        self._weights_amend = (side.weights.amend, 1, 1)
        self._throttles_cancel = (side.weight,)
        self._weights_cancel = (side.weights.cancel,)
        self.on_gone: Callable[[int, int], None] = lambda instrument, now_ns: None
        self.on_rested: Callable[[int, int], None] = lambda instrument, now_ns: None

    # --- wishes of the core ---

    def place(self, action: PlaceOrder, now_ns: int) -> None:
        symbol = self._side.by_index[action.instrument]
        try:
            shape = self._shapes.place(symbol, action)
        except Unsupported as error:
            self._refuse_locally(Op.PLACE, symbol, action.cl_ord_id, "", str(error), now_ns)
            return
        request = OrderRequest(_PLACE, symbol, action.cl_ord_id, "", shape, action.px_ticks, action.qty_lots)
        order = self._live.add(action)
        priority = _priority(action)
        age_ns = self._timeout_ns if priority is _HEDGE else NEW_AGE_NS
        self._submit(request, priority, self._side.order_throttles, self._weights_new, now_ns, now_ns + age_ns)
        if order.can_rest:
            self.on_rested(action.instrument, now_ns)

    def cancel(self, action: CancelOrder, now_ns: int) -> None:
        symbol = self._side.by_index[action.instrument]
        order = self._live.orders.get(action.cl_ord_id)
        order_id = (order.order_id if order is not None else "") or action.order_id
        name = order_id
        if order is not None and order.is_replacing:
            order_id, name = "", leg_text(order.cl_ord_id, order.leg + 1)  # what will be there when this arrives
        elif not name:
            name = text_from_cl_ord_id(action.cl_ord_id)
        shape = self._shapes.cancel(symbol, bool(order_id))
        request = OrderRequest(_CANCEL_ORDER, symbol, action.cl_ord_id, order_id, shape, name=name)
        self._submit(request, _CANCEL, self._throttles_cancel, self._weights_cancel, now_ns, 0)

    def amend(self, action: AmendOrder, now_ns: int) -> None:
        symbol = self._side.by_index[action.instrument]
        order = self._live.orders.get(action.cl_ord_id)
        order_id = (order.order_id if order is not None else "") or action.order_id
        client_id = leg_text(action.cl_ord_id, order.leg if order is not None else 0)
        name = order_id or client_id
        if not self._is_spot:
            shape = self._shapes.modify(symbol, action.side, bool(order_id))
            request = OrderRequest(
                Op.AMEND, symbol, action.cl_ord_id, order_id, shape, action.px_ticks, action.qty_lots, name
            )
        elif order is None or order.is_replacing:
            text = "a replace of this order is under way" if order is not None else "shape of this order is not known"
            self._refuse_locally(Op.AMEND, symbol, action.cl_ord_id, order_id, text, now_ns)
            return
        elif action.px_ticks == order.px_ticks and action.qty_lots < order.qty_lots:
            shape = self._shapes.keep_priority(symbol, bool(order_id))
            leg_lots = max(0, action.qty_lots - self._live.base_lots(order.cl_ord_id, order.leg))
            request = OrderRequest(
                Op.AMEND, symbol, action.cl_ord_id, order_id, shape, action.px_ticks, leg_lots, name, client_id
            )
        else:
            executed_lots = self._live.base_lots(order.cl_ord_id, order.leg + 1)
            leaves_lots = action.qty_lots - executed_lots
            if leaves_lots <= 0:
                text = f"nothing left to replace: {executed_lots} lots are executed"
                self._refuse_locally(Op.AMEND, symbol, action.cl_ord_id, order_id, text, now_ns)
                return
            shape = self._shapes.cancel_replace(symbol, order.side, order.post_only, bool(order_id))
            new_id = leg_text(action.cl_ord_id, order.leg + 1)
            request = OrderRequest(
                Op.REPLACE, symbol, action.cl_ord_id, order_id, shape, action.px_ticks, leaves_lots, name, new_id
            )
            request.expected_cum_lots = self._live.leg_cum_lots(order.cl_ord_id, order.leg)
            order.is_replacing = True
            order.replaced_ns = now_ns
        self._submit(request, _NEW, self._side.order_throttles, self._weights_amend, now_ns, now_ns + NEW_AGE_NS)

    def cancel_all(self, action: CancelAll, now_ns: int) -> None:
        symbol = self._side.by_index[action.instrument]
        if self._is_spot and self._pair.state is _UP:
            request = OrderRequest(Op.CANCEL_ALL, symbol, 0, "", self._shapes.cancel_all(symbol))
            self._submit(request, _CANCEL, self._throttles_cancel, self._weights_cancel, now_ns, 0)
        else:
            self._cancel_all_rest(symbol, now_ns)

    def _cancel_all_rest(self, symbol: Symbol, now_ns: int) -> None:
        # Cancelling twice does no harm, so this one is repeated until it is answered.
        def on_answer(answer: RestAnswer, now_ns: int) -> None:
            if answer.is_ok and self._is_spot:
                with suppress(*NOT_UNDERSTOOD):  # the user data stream tells each cancel as well
                    self._on_cancelled_rows(symbol, orjson.loads(answer.body), now_ns)

        self._ctx.call(
            self._side,
            "DELETE",
            self._side.paths.cancel_all,
            f"symbol={symbol.instrument.symbol}",
            self._side.weights.cancel_all,
            on_answer,
            now_ns,
            priority=Priority.CANCEL,
        )

    # --- sending ---

    def _submit(
        self,
        request: OrderRequest,
        priority: Priority,
        throttles: Sequence[Any],
        weights: Sequence[int],
        now_ns: int,
        deadline_ns: int,
    ) -> None:
        # The way of nearly every order. A socket that ends at this very moment costs the weight twice.
        outbox, is_up = self._side.outbox, self._pair.active.state is _UP
        if not (is_up and outbox.acquire(throttles, weights, priority, now_ns) and self._send(request, now_ns)):
            outbox.submit(self._outgoing(request, priority, throttles, weights, deadline_ns), now_ns)

    # Apart from `_submit`, which would otherwise pay for the closures of every order.
    def _outgoing(
        self,
        request: OrderRequest,
        priority: Priority,
        throttles: Sequence[Any],
        weights: Sequence[int],
        deadline_ns: int,
    ) -> Outgoing:
        def transmit(now_ns: int) -> bool:
            return self._transmit(request, item, now_ns)

        def expire(now_ns: int) -> None:
            self._refuse_locally(request.op, request.symbol, request.cl_ord_id, request.order_id, "throttled", now_ns)

        item = Outgoing(priority, throttles, weights, transmit, expire if deadline_ns else None, deadline_ns)
        return item

    def _transmit(self, request: OrderRequest, item: Outgoing, now_ns: int) -> bool:
        request.sent_ns = now_ns
        if self._pair.active.state is _UP and self._send(request, now_ns):
            return True
        if self._ctx.is_stopping and request.op is Op.PLACE:
            return False
        self._send_rest(request, item, now_ns)
        return True

    def _send(self, request: OrderRequest, now_ns: int) -> bool:
        session = self._pair.active
        request.sent_ns = now_ns
        request_id = request.request_id = self._ctx.next_id()
        frame = request.shape.template.frame.fill(
            request_id, self._ctx.utc_ns(self._side, now_ns), request.cl_ord_id, request.px_ticks, request.qty_lots,
            request.name, request.client_id,
        )  # fmt: skip
        if not session.send(frame):
            return False
        self._pending.add(request_id, request, now_ns + self._timeout_ns, session.channel)
        return True

    def _send_rest(self, request: OrderRequest, item: Outgoing, now_ns: int) -> None:
        shape = request.shape

        def build(now_ns: int) -> RestRequest:
            query = shape.template.query(
                self._ctx.utc_ns(self._side, now_ns), request.cl_ord_id, request.px_ticks, request.qty_lots,
                request.name, request.client_id,
            )  # fmt: skip
            return RestRequest(
                shape.http_method, self._side.rest_url, f"{shape.path}?{query.decode()}", self._auth.headers
            )

        def on_answer(answer: RestAnswer, now_ns: int) -> None:
            self._on_rest_answer(request, answer, now_ns)

        call = RestCall(
            f"{shape.http_method} {shape.path}", build, on_answer, is_read=False, timeout_ns=self._timeout_ns
        )
        call.outgoing = item
        self._ctx.rest.send(call, self._side.outbox, now_ns)

    # --- answers ---

    def on_answer(self, message: Mapping[str, Any], now_ns: int) -> bool:
        """One answer of the WebSocket API. False when its id is none of an order request."""
        request_id = message["id"]
        request = self._pending.pop(request_id) or self._late.pop(request_id, None)
        if request is None:
            return False
        limits = message.get("rateLimits")
        if limits:
            self._side.learn_counts(limits, now_ns, request.sent_ns)
        if message["status"] == 200:
            self._accepted(request, message["result"], now_ns)
        else:
            failure = failure_of(message["status"], message.get("error"))
            if failure.status in (418, 429):
                self._ctx.on_limited(self._side, failure.status, failure, self._retry_ns(failure, now_ns), now_ns)
            self._failed(request, failure, now_ns)
        return True

    def _retry_ns(self, failure: Failure, now_ns: int) -> int:
        details = failure.details
        until_ms = details.get("retryAfter", 0) if isinstance(details, dict) else 0
        return max(0, int(until_ms) - self._ctx.utc_ms(self._side, now_ns)) * MS

    def _on_rest_answer(self, request: OrderRequest, answer: RestAnswer, now_ns: int) -> None:
        if not answer.is_ok:
            self._failed(request, failure_of_body(answer.status, answer.body), now_ns)
            return
        try:
            row = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            self._failed(request, Failure(0, 0, "answer was not JSON"), now_ns)
            return
        self._accepted(request, row, now_ns)

    def _accepted(self, request: OrderRequest, row: Any, now_ns: int) -> None:
        try:
            if request.op is Op.CANCEL_ALL:
                self._on_cancelled_rows(request.symbol, row, now_ns)
            elif request.op is Op.REPLACE:
                self._on_replaced(request, row["cancelResponse"], row["newOrderResponse"], now_ns)
            elif request.op is Op.AMEND:
                self._emit_row(request.symbol, row.get("amendedOrder", row), now_ns, is_amend=True)
            elif request.shape.is_ack_only:
                self._on_ack(request, row, now_ns)
            else:
                self._emit_row(request.symbol, row, now_ns)
        except NOT_UNDERSTOOD as error:
            self._failed(request, Failure(0, 0, f"answer not understood: {error!r}"), now_ns)

    def _on_ack(self, request: OrderRequest, row: Mapping[str, Any], now_ns: int) -> None:
        # USD-M ACK: the venue has it; whether it rests is told by the user data stream.
        order_id = str(row["orderId"])
        self._live.learn_number(request.symbol.instrument.index, order_id, request.cl_ord_id, 0)
        self._report(request, ExecType.PENDING_NEW, OrdStatus.PENDING_NEW, order_id, now_ns)

    def _emit_row(self, symbol: Symbol, row: Mapping[str, Any], now_ns: int, *, is_amend: bool = False) -> None:
        report, leg_cum_lots = report_from_row(self._live, symbol, row, None, now_ns)
        if is_amend and report.exec_type is ExecType.NEW:
            report.exec_type = ExecType.REPLACED
            order = self._live.orders.get(report.cl_ord_id)
            if order is not None:
                order.px_ticks, order.qty_lots = report.px_ticks, report.order_qty_lots
        self.emit_report(report, leg_cum_lots, now_ns)

    def emit_report(self, report: OrderReport, leg_cum_lots: int, now_ns: int) -> None:
        """The one way of a report to the core."""
        if not self._live.see(report, leg_cum_lots):
            return
        self._ctx.emit(report)
        if report.ord_status.is_terminal and report.instrument not in self._live.resting:
            self.on_gone(report.instrument, now_ns)

    def _on_cancelled_rows(self, symbol: Symbol, rows: Sequence[Mapping[str, Any]], now_ns: int) -> None:
        for row in rows:
            if "orderId" in row:  # order lists have their own shape; we never place any
                self._emit_row(symbol, row, now_ns)

    # --- spot: cancel and replace ---

    def _on_replaced(self, request: OrderRequest, old: Mapping[str, Any], new: Mapping[str, Any], now_ns: int) -> None:
        symbol = request.symbol
        index = symbol.instrument.index
        order = self._live.orders.get(request.cl_ord_id)
        executed_lots = symbol.lots(old["executedQty"])
        self._live.count(request.cl_ord_id, self._live.owner(index, str(old["orderId"]))[1], executed_lots)
        self._live.learn_number(index, str(new["orderId"]), *our_id(new["clientOrderId"]))
        if order is not None:
            order.is_replacing = False
        report, leg_cum_lots = report_from_row(self._live, symbol, new, None, now_ns)
        if report.exec_type is ExecType.NEW:
            report.exec_type = ExecType.REPLACED
        if order is not None:
            order.px_ticks, order.qty_lots = report.px_ticks, report.order_qty_lots
        self.emit_report(report, leg_cum_lots, now_ns)
        slipped_lots = executed_lots - request.expected_cum_lots
        if slipped_lots > 0 and order is not None and not report.ord_status.is_terminal:
            base_lots = self._live.base_lots(order.cl_ord_id, order.leg)
            self._trim(request, order.qty_lots - base_lots - slipped_lots, now_ns)

    def _trim(self, request: OrderRequest, leg_lots: int, now_ns: int) -> None:
        # Fills slipped in between question and cancel: the new leg is larger than what was asked for by that much.
        symbol = request.symbol
        order = self._live.orders[request.cl_ord_id]
        name = order.order_id
        if leg_lots > 0:
            shape = self._shapes.keep_priority(symbol, True)
            leg = leg_text(order.cl_ord_id, order.leg)
            trim = OrderRequest(
                Op.AMEND, symbol, order.cl_ord_id, name, shape, qty_lots=leg_lots, name=name, client_id=leg
            )
        else:
            trim = OrderRequest(Op.CANCEL, symbol, order.cl_ord_id, name, self._shapes.cancel(symbol, True), name=name)
        trim.is_trim = True
        self._submit(trim, Priority.CANCEL, self._throttles_cancel, (self._side.weights.amend,), now_ns, 0)

    def _replace_failed(self, request: OrderRequest, failure: Failure, now_ns: int) -> None:
        """-2022: nothing was cancelled. -2021: the old leg is gone and no new one came, so the order has ended."""
        order = self._live.orders.get(request.cl_ord_id)
        if order is not None:
            order.is_replacing = False
        halves = failure.details if isinstance(failure.details, dict) else {}
        old = halves.get("cancelResponse")
        if failure.code == REPLACE_PARTIAL and halves.get("cancelResult") == "SUCCESS" and isinstance(old, dict):
            new = failure_of(failure.status, halves.get("newOrderResponse"))
            if meaning_of(self._side.market, new) is Meaning.UNKNOWN:
                self._report(request, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, "", now_ns, new)
                return
            report, leg_cum_lots = report_from_row(self._live, request.symbol, old, None, now_ns)
            report.code, report.text = new.code, f"replaced by nothing: {new.text}"
            self.emit_report(report, leg_cum_lots, now_ns)
            return
        reason = failure_of(failure.status, old) if isinstance(old, dict) and "code" in old else failure
        self._report(request, ExecType.REPLACE_REJECTED, OrdStatus.UNKNOWN, request.order_id, now_ns, reason)

    # --- refusals and silence ---

    def _failed(self, request: OrderRequest, failure: Failure, now_ns: int) -> None:
        self._ctx.note_failure(self._side, failure)
        if failure.is_auth:
            self._ctx.emit(VenueRefused(now_ns, Venue.BINANCE, "key", f"{failure.code}: {failure.text}"))
        if request.op is Op.CANCEL_ALL:
            if meaning_of(self._side.market, failure) is Meaning.UNKNOWN:
                self._cancel_all_rest(request.symbol, now_ns)
            return
        if request.op is Op.REPLACE and failure.code in (REPLACE_PARTIAL, REPLACE_FAILED):
            self._replace_failed(request, failure, now_ns)
            return
        if meaning_of(self._side.market, failure) is Meaning.UNKNOWN:
            self._report(request, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, request.order_id, now_ns, failure)
            return
        order = self._live.orders.get(request.cl_ord_id)
        if request.op is Op.REPLACE and order is not None:
            order.is_replacing = False
        exec_type, status = _REFUSED[request.op]
        self._report(request, exec_type, status, request.order_id, now_ns, failure)
        if request.op is Op.PLACE:
            self._forget(request.cl_ord_id, request.symbol, now_ns)

    def _refuse_locally(self, op: Op, symbol: Symbol, cl_ord_id: int, order_id: str, text: str, now_ns: int) -> None:
        order = self._live.orders.get(cl_ord_id)
        if op is Op.REPLACE and order is not None:
            order.is_replacing = False
        exec_type, status = _REFUSED[op]
        self._ctx.emit(
            OrderReport(
                now_ns, Venue.BINANCE, symbol.instrument.index, cl_ord_id, order_id, exec_type, status, text=text
            )
        )
        if op is Op.PLACE:
            self._forget(cl_ord_id, symbol, now_ns)

    def _forget(self, cl_ord_id: int, symbol: Symbol, now_ns: int) -> None:
        self._live.remove(cl_ord_id)
        if symbol.instrument.index not in self._live.resting:
            self.on_gone(symbol.instrument.index, now_ns)

    def _report(
        self,
        request: OrderRequest,
        exec_type: ExecType,
        status: OrdStatus,
        order_id: str,
        now_ns: int,
        failure: Failure | None = None,
    ) -> None:
        if request.is_trim and exec_type in (ExecType.CANCEL_REJECTED, ExecType.REPLACE_REJECTED):
            exec_type = ExecType.OUTCOME_UNKNOWN  # the core did not ask for this; it must look what is there
        self._ctx.emit(
            OrderReport(
                now_ns,
                Venue.BINANCE,
                request.symbol.instrument.index,
                request.cl_ord_id,
                order_id,
                exec_type,
                status,
                code=0 if failure is None else failure.code,
                text="" if failure is None else failure.text,
            )
        )

    def on_timer(self, now_ns: int) -> None:
        for request in self._pending.take_expired(now_ns):
            self._late[request.request_id] = request
            if len(self._late) > LATE_KEPT:
                del self._late[next(iter(self._late))]
            self._failed(request, Failure(0, 0, f"no answer in {self._timeout_ns // MS} ms"), now_ns)

    def on_channel_lost(self, channel: int, reason: str, now_ns: int) -> None:
        for request in self._pending.take_channel(channel):
            self._failed(request, Failure(0, 0, f"order channel lost: {reason}"), now_ns)


def _priority(action: PlaceOrder) -> Priority:
    if action.is_hedge:
        return _HEDGE
    return _REDUCE if action.reduce_only else _NEW
