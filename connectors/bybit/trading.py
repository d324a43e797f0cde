"""Orders to Bybit and the answers to them.

Route: the trade WebSocket, logged in once; REST where it is down or does not exist (demo). An answer with retCode 0
means "accepted for processing": what became of the order comes on the private stream, often earlier. A batch is
answered by position.
Source: https://bybit-exchange.github.io/docs/v5/websocket/trade/guideline and /v5/order/create-order, read 2026-07-24.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson

from connectors.bybit import endpoints
from connectors.bybit.context import BUSY_NS, Context, Group, Reply, table_at, table_of
from connectors.bybit.errors import (
    BAD_KEY,
    BAD_TIMESTAMP,
    NOT_PERMITTED,
    OK,
    RESTARTING,
    SYMBOL_NOT_TRADING,
    Outcome,
    outcome_of,
)
from connectors.bybit.requests import AMEND, CANCEL, PLACE, Desk, Desks, OrderAction, Route
from connectors.session import MS, SECOND, ChannelSession, Outgoing, PendingRequests, Priority
from engine.actions import AmendOrder, CancelAll, CancelOrder, PlaceOrder
from engine.events import InstrumentStateChanged, OrderReport, VenueNotice, VenueRefused
from engine.types import ExecType, InstrumentState, Market, OrdStatus, Venue
from ext import Throttle

MAX_BATCH: Final = {Market.LINEAR: 20, Market.SPOT: 10}
NEW_AGE_NS: Final = 250 * MS  # a price decided longer ago than this is not worth sending
CANCEL_PATIENCE_NS: Final = 5 * SECOND  # how long a cancel may wait for its budget
CANCEL_ATTEMPTS: Final = 4
CANCEL_AGAIN_NS: Final = 150 * MS
JUST_PLACED_NS: Final = SECOND
NOT_VISIBLE_YET: Final = (110001, 170213)
CANCEL_ALL_MAX: Final = 500  # orders that one cancel-all of futures takes
CANCEL_ALL_ATTEMPTS: Final = 6
# Looking a member up in its class costs more than taking a token from a budget.
_CANCEL: Final = Priority.CANCEL
_HEDGE: Final = Priority.HEDGE
_REDUCE: Final = Priority.REDUCE
_NEW: Final = Priority.NEW
LATE_NS: Final = 60 * SECOND  # answers are still understood for so long after their timeout


class Job(msgspec.Struct, eq=False):
    """One request on its way: one action, or a batch of them. A struct, because one is made for every order."""

    route: Route
    actions: Sequence[OrderAction]
    market: Market
    priority: Priority
    is_withdrawn: bool = False
    attempt: int = 1
    number: int = 0  # in its request identifier on the trade socket
    sent_ns: int = 0
    outgoing: Outgoing | None = None

    @property
    def is_batch(self) -> bool:
        return len(self.actions) > 1


class OrderEntry:
    """Everything that changes orders. `session` is None where the environment has no trade socket."""

    def __init__(self, context: Context, session: ChannelSession | None) -> None:
        self.late_answers = 0
        self.unknown_answers = 0
        self.amends: dict[int, AmendOrder] = {}  # sent, not yet seen in the order stream; the account reads it
        self._context = context
        self._session = session
        self._order_timeout_ns = context.settings.order_timeout_ms * MS
        self._desks = Desks(context, b"tw")
        self._request_count = 0
        self._pending: PendingRequests[Job] = PendingRequests()
        self._late: PendingRequests[Job] = PendingRequests()
        self._queued: dict[int, Job] = {}  # places that have not been sent yet
        self._placed_ns: dict[int, int] = {}  # recently sent
        self._unproved: dict[int, Job] = {}  # sent, and neither answered nor seen in the order stream
        self._again: list[tuple[int, Callable[[int], None]]] = []
        self._amend_deadlines: dict[int, int] = {}

    def start(self, now_ns: int) -> None:
        # Request identifiers must not repeat, also not over restarts: the time of the start is part of each.
        self._desks = Desks(self._context, b"%x" % self._context.utc_ms(now_ns))

    # --- wishes ---

    def place_one(self, action: PlaceOrder, now_ns: int) -> None:
        """The way of nearly every order: nothing waits, the budget has room, the socket is up."""
        desk = self._ready_desk(action)
        if desk is None:
            self.place((action,), now_ns)
            return
        priority = _priority(action)
        job = Job(PLACE, (action,), desk.market, priority)
        if desk.creates.acquire(1, priority, now_ns):
            self._queued[action.cl_ord_id] = job
            self._submit(job, self._age_ns(job), now_ns)
            return
        number = self._request_count + 1
        frame = desk.form(action).frame.fill(
            number, self._context.utc_ns(now_ns), action.cl_ord_id, action.px_ticks, action.qty_lots
        )
        if self._send(job, number, frame, now_ns):
            self._placed_ns[action.cl_ord_id] = now_ns
            self._unproved[action.cl_ord_id] = job
        else:
            self._queued[action.cl_ord_id] = job
            self._submit(job, self._age_ns(job), now_ns)

    def cancel_one(self, action: CancelOrder, now_ns: int) -> None:
        """The same for a cancel; a place that waits is withdrawn on the long way."""
        desk = self._ready_desk(action)
        if desk is None or self._queued:
            self.cancel((action,), now_ns)
            return
        job = Job(CANCEL, (action,), desk.market, _CANCEL)
        if desk.cancels.acquire(1, _CANCEL, now_ns) or not self._transmit(job, now_ns):
            self._submit(job, CANCEL_PATIENCE_NS, now_ns)

    def _ready_desk(self, action: PlaceOrder | CancelOrder) -> Desk | None:
        context, session = self._context, self._session
        if session is None or not session.is_logged_in or context.auth is None or context.outbox.waiting:
            return None
        return self._desks.get(action.instrument)

    def place(self, actions: Sequence[PlaceOrder], now_ns: int) -> None:
        for market, group in self._by_market(actions, now_ns):
            for chunk in self._chunks(group, market, Group.CREATE_BATCH):
                job = Job(PLACE, chunk, market, min(_priority(action) for action in chunk))
                for action in chunk:
                    self._queued[action.cl_ord_id] = job
                self._submit(job, self._age_ns(job), now_ns)

    def cancel(self, actions: Sequence[CancelOrder], now_ns: int) -> None:
        sent = [action for action in actions if not self._withdraw(action.cl_ord_id, now_ns)]
        for market, group in self._by_market(sent, now_ns):
            for chunk in self._chunks(group, market, Group.CANCEL_BATCH):
                self._submit(Job(CANCEL, chunk, market, Priority.CANCEL), CANCEL_PATIENCE_NS, now_ns)

    def amend(self, action: AmendOrder, now_ns: int) -> None:
        for market, group in self._by_market((action,), now_ns):
            self._submit(Job(AMEND, group, market, Priority.NEW), NEW_AGE_NS, now_ns)

    def cancel_all(self, action: CancelAll, now_ns: int, attempt: int = 1) -> None:
        """Idempotent, so it is asked again until the venue has taken it; the core confirms it by open orders."""
        context = self._context
        instrument = context.instruments.get(action.instrument)
        if instrument is None or context.auth is None:
            return
        for cl_ord_id, job in list(self._queued.items()):
            if any(one.instrument == action.instrument and one.cl_ord_id == cl_ord_id for one in job.actions):
                self._withdraw(cl_ord_id, now_ns)
        category = endpoints.CATEGORY[instrument.market]
        body = f'{{"category":"{category}","symbol":"{instrument.symbol}"}}'.encode()

        def on_reply(reply: Reply, now_ns: int) -> None:
            if reply.is_ok and len(reply.rows) < CANCEL_ALL_MAX:
                return
            if attempt < CANCEL_ALL_ATTEMPTS:
                delay_ns = 0 if reply.is_ok else CANCEL_AGAIN_NS << attempt
                self._later(now_ns + delay_ns, lambda at_ns: self.cancel_all(action, at_ns, attempt + 1))
            else:
                context.emit(VenueNotice(now_ns, Venue.BYBIT, "cancel_all_failed"))

        call = context.post_call(endpoints.CANCEL_ALL, body, on_reply)
        throttles = (context.limit(Group.CANCEL_ALL, instrument.market), context.address_limit)
        context.rest.submit(call, context.outbox, Priority.CANCEL, throttles, (1, 1), now_ns)

    # --- inputs ---

    def on_message(self, message: Mapping[str, Any], now_ns: int) -> None:
        """An answer on the trade socket; log-in and pong are the caller's."""
        number = _request_number(message.get("reqId"))
        job = self._pending.pop(number)
        if job is None:
            job = self._late.pop(number)
            if job is None:
                self.unknown_answers += 1  # repeated, or not ours: the journal has it
                return
            self.late_answers += 1
        headers = {str(key).lower(): str(value) for key, value in table_of(message.get("header")).items()}
        throttle = self._throttle(job)
        code = message.get("retCode")
        if not isinstance(code, int):
            self._unknown(job, 0, "answer without retCode", now_ns)
            return
        if code != OK and outcome_of(code) is Outcome.THROTTLED:
            self._context.hit_limit(throttle, headers, now_ns)
        else:
            self._context.learn_limit(throttle, headers, now_ns)
        result, ext = table_of(message.get("data")), table_of(message.get("retExtInfo"))
        self._on_answer(job, code, str(message.get("retMsg") or ""), result, ext, now_ns)

    def on_down(self, now_ns: int) -> None:
        """What was asked on the trade socket will not be answered."""
        for job in self._pending.take_channel(endpoints.TRADE):
            self._unknown(job, 0, "connection lost before the answer", now_ns)

    def on_timer(self, now_ns: int) -> None:
        for job in self._pending.take_expired(now_ns):
            self._late.add(job.number, job, now_ns + LATE_NS)
            self._unknown(job, 0, f"no answer in {self._order_timeout_ns // MS} ms", now_ns)
            session = self._session
            if session is not None and session.is_logged_in and session.last_recv_ns <= job.sent_ns:
                session.reconnect("no answer to an order", now_ns)
        self._late.take_expired(now_ns)
        if self._again:
            due = [call for at_ns, call in self._again if now_ns >= at_ns]
            self._again = [entry for entry in self._again if now_ns < entry[0]]
            for call in due:
                call(now_ns)
        for cl_ord_id, at_ns in list(self._amend_deadlines.items()):
            if now_ns >= at_ns:
                del self._amend_deadlines[cl_ord_id]
                action = self.amends.get(cl_ord_id)
                if action is not None:  # kept: a late event may still show it
                    self._report(action, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, now_ns, 0, "amend not seen")
        for cl_ord_id, at_ns in list(self._placed_ns.items()):
            if now_ns - at_ns < JUST_PLACED_NS:
                break
            del self._placed_ns[cl_ord_id]

    def order_seen(self, cl_ord_id: int) -> None:
        """The order stream told of it: that its answer is lost does not matter any more."""
        self._unproved.pop(cl_ord_id, None)

    def amend_seen(self, cl_ord_id: int) -> None:
        self.amends.pop(cl_ord_id, None)
        self._amend_deadlines.pop(cl_ord_id, None)

    def forget(self, cl_ord_id: int) -> None:
        """The order is finished."""
        self.amend_seen(cl_ord_id)
        self.order_seen(cl_ord_id)
        self._placed_ns.pop(cl_ord_id, None)

    # --- sending ---

    def _by_market(self, actions: Sequence[OrderAction], now_ns: int) -> list[tuple[Market, list[Any]]]:
        """In order of first appearance. What cannot be sent at all is answered here."""
        groups: dict[Market, list[Any]] = {}
        for action in actions:
            instrument = self._context.instruments.get(action.instrument)
            if instrument is None or self._context.auth is None:
                reason = "no credentials, or stopped" if instrument is not None else "instrument not defined"
                self._refuse(action, now_ns, 0, f"not sent: {reason}")
            else:
                groups.setdefault(instrument.market, []).append(action)
        return list(groups.items())

    def _chunks(self, actions: list[Any], market: Market, group: Group) -> list[list[Any]]:
        if len(actions) == 1:
            return [actions]
        # A batch costs one token an order: more than the whole budget would never be granted.
        size = min(MAX_BATCH[market], self._context.limit(group, market).capacity)
        return [actions[first : first + size] for first in range(0, len(actions), size)]

    def _age_ns(self, job: Job) -> int:
        return NEW_AGE_NS if job.priority is Priority.NEW else self._order_timeout_ns

    def _throttle(self, job: Job) -> Throttle:
        group = job.route.batch_group if job.is_batch else job.route.group
        return self._context.limit(group, job.market)

    def _submit(self, job: Job, patience_ns: int, now_ns: int) -> None:
        job.outgoing = self._outgoing(job, now_ns + patience_ns)
        self._context.outbox.submit(job.outgoing, now_ns)

    def _outgoing(self, job: Job, deadline_ns: int) -> Outgoing:
        return Outgoing(
            job.priority,
            (self._throttle(job),),
            (len(job.actions),),
            lambda at_ns: self._transmit(job, at_ns),
            lambda at_ns: self._on_expired(job, at_ns),
            deadline_ns,
        )

    def _transmit(self, job: Job, now_ns: int) -> bool:
        if job.is_withdrawn:
            return True
        context, session = self._context, self._session
        if session is not None and session.is_logged_in:
            number = self._request_count + 1
            frame = self._desks.frame(job.route, job.actions, number, context.utc_ns(now_ns))
            if self._send(job, number, frame, now_ns):
                self._sent(job, now_ns)
                return True
        if context.address_limit.acquire(1, job.priority, now_ns):
            return False
        path = job.route.batch_path if job.is_batch else job.route.path
        call = context.post_call(
            path,
            self._desks.body(job.actions),
            lambda reply, at_ns: self._on_reply(job, reply, at_ns),
            timeout_ns=self._order_timeout_ns,
        )
        call.outgoing = job.outgoing or self._outgoing(job, now_ns)
        self._sent(job, now_ns)
        context.rest.send(call, context.outbox, now_ns)
        return True

    def _send(self, job: Job, number: int, frame: bytes, now_ns: int) -> bool:
        if not self._context.wire.send(endpoints.TRADE, frame):
            return False
        self._request_count = job.number = number
        job.sent_ns = now_ns
        self._pending.add(number, job, now_ns + self._order_timeout_ns, endpoints.TRADE)
        return True

    def _sent(self, job: Job, now_ns: int) -> None:
        job.sent_ns = now_ns
        for action in job.actions:
            if type(action) is PlaceOrder:
                self._queued.pop(action.cl_ord_id, None)
                self._placed_ns[action.cl_ord_id] = now_ns
                self._unproved[action.cl_ord_id] = job
            elif type(action) is AmendOrder:
                self.amends[action.cl_ord_id] = action
                self._amend_deadlines[action.cl_ord_id] = now_ns + 2 * self._order_timeout_ns

    def _withdraw(self, cl_ord_id: int, now_ns: int) -> bool:
        """Take back a place that still waits for its budget; a cancel sent now would overtake it."""
        job = self._queued.get(cl_ord_id)
        if job is None or job.is_batch:
            return False  # a batch goes out whole; its cancel follows the answer
        del self._queued[cl_ord_id]
        job.is_withdrawn = True
        self._refuse(job.actions[0], now_ns, 0, "not sent: canceled while it waited for the request limit")
        return True

    def _on_expired(self, job: Job, now_ns: int) -> None:
        if job.is_withdrawn:
            return
        for action in job.actions:
            self._queued.pop(action.cl_ord_id, None)
            self._refuse(action, now_ns, 0, "not sent: request limit")

    def _later(self, at_ns: int, call: Callable[[int], None]) -> None:
        self._again.append((at_ns, call))
        self._context.wire.set_timer(at_ns)

    # --- answers ---

    def _on_reply(self, job: Job, reply: Reply, now_ns: int) -> None:
        if reply.status == 403 or reply.status == 429:
            for action in job.actions:  # refused at the gateway
                self._on_item(job, action, 10429, reply.text, {}, now_ns)
        elif not 200 <= reply.status < 300 or reply.code < 0:
            self._unknown(job, 0, reply.text, now_ns)
        else:
            self._on_answer(job, reply.code, reply.text, reply.result, reply.ext, now_ns)

    def _on_answer(
        self, job: Job, code: int, text: str, result: Mapping[str, Any], ext: Mapping[str, Any], now_ns: int
    ) -> None:
        for action in job.actions:
            self.order_seen(action.cl_ord_id)
        if not job.is_batch or code != OK:
            for action in job.actions:
                self._on_item(job, action, code, text, result, now_ns)
            return
        for at, action in enumerate(job.actions):
            verdict, row = table_at(ext.get("list"), at), table_at(result.get("list"), at)
            item_code = verdict.get("code")
            if isinstance(item_code, int):
                self._on_item(job, action, item_code, str(verdict.get("msg") or ""), row, now_ns)
            else:
                self._lost(action, 0, "missing in the answer to a batch", now_ns)

    def _on_item(
        self, job: Job, action: OrderAction, code: int, text: str, row: Mapping[str, Any], now_ns: int
    ) -> None:
        if code == OK:
            if type(action) is PlaceOrder:
                order_id = str(row.get("orderId") or "")
                self._report(action, ExecType.PENDING_NEW, OrdStatus.PENDING_NEW, now_ns, 0, "", order_id)
            return  # of cancels and amends the order stream tells the end
        outcome = outcome_of(code)
        if code == 10001 and "not modified" in text:
            outcome = Outcome.UNCHANGED
        self._note_trouble(action, code, text, now_ns)
        if type(action) is CancelOrder and self._cancel_again(job, action, code, outcome, now_ns):
            return
        if outcome is Outcome.AMBIGUOUS or (outcome is Outcome.GONE and type(action) is not CancelOrder):
            self._lost(action, code, text, now_ns)
        elif outcome is Outcome.UNCHANGED and type(action) is AmendOrder:
            self.amend_seen(action.cl_ord_id)
            self._report(action, ExecType.REPLACED, OrdStatus.NEW, now_ns, code, text)
        else:
            self._refuse(action, now_ns, code, text)

    def _cancel_again(self, job: Job, action: CancelOrder, code: int, outcome: Outcome, now_ns: int) -> bool:
        """A cancel that hit a limit was not executed, and an order just placed may not be visible yet."""
        placed_ns = self._placed_ns.get(action.cl_ord_id)
        is_early = code in NOT_VISIBLE_YET and placed_ns is not None and now_ns - placed_ns < JUST_PLACED_NS
        if job.attempt >= CANCEL_ATTEMPTS or not (is_early or outcome is Outcome.THROTTLED):
            return False
        again = Job(CANCEL, (action,), job.market, Priority.CANCEL)
        again.attempt = job.attempt + 1
        self._later(
            now_ns + (CANCEL_AGAIN_NS if is_early else 0), lambda at_ns: self._submit(again, CANCEL_PATIENCE_NS, at_ns)
        )
        return True

    def _note_trouble(self, action: OrderAction, code: int, text: str, now_ns: int) -> None:
        """What an error says about more than this order."""
        context = self._context
        if code in BAD_KEY:
            context.emit(VenueRefused(now_ns, Venue.BYBIT, "key", f"{code} {text}"))
        elif code == BAD_TIMESTAMP:
            context.on_bad_clock(now_ns)
        elif code in SYMBOL_NOT_TRADING or code == 10029:
            context.halt(action.instrument)
            context.emit(InstrumentStateChanged(now_ns, action.instrument, InstrumentState.HALTED))
        elif code == RESTARTING:
            context.emit(VenueNotice(now_ns, Venue.BYBIT, "maintenance", now_ns + BUSY_NS))
        elif code in NOT_PERMITTED:
            context.emit(VenueRefused(now_ns, Venue.BYBIT, "mode", f"{code} {text}"))

    def _unknown(self, job: Job, code: int, text: str, now_ns: int) -> None:
        for action in job.actions:
            is_place, is_amend = type(action) is PlaceOrder, type(action) is AmendOrder
            if (is_place and self._unproved.pop(action.cl_ord_id, None) is None) or (
                is_amend and action.cl_ord_id not in self.amends
            ):
                continue  # the order stream has told what the answer would have
            self._lost(action, code, text, now_ns)

    def _lost(self, action: OrderAction, code: int, text: str, now_ns: int) -> None:
        self._report(action, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, now_ns, code, text)

    def _refuse(self, action: OrderAction, now_ns: int, code: int, text: str) -> None:
        if type(action) is PlaceOrder:
            self.forget(action.cl_ord_id)
            self._report(action, ExecType.REJECTED, OrdStatus.REJECTED, now_ns, code, text)
        elif type(action) is AmendOrder:
            self.amend_seen(action.cl_ord_id)
            self._report(action, ExecType.REPLACE_REJECTED, OrdStatus.NEW, now_ns, code, text)
        else:
            self._report(action, ExecType.CANCEL_REJECTED, OrdStatus.UNKNOWN, now_ns, code, text)

    def _report(
        self, action: OrderAction, exec_type: ExecType, status: OrdStatus, now_ns: int, code: int, text: str,
        order_id: str = "",
    ) -> None:  # fmt: skip
        report = OrderReport(
            now_ns, Venue.BYBIT, action.instrument, action.cl_ord_id, order_id, exec_type, status, code=code, text=text
        )
        if type(action) is PlaceOrder:
            report.side, report.ord_type, report.time_in_force = action.side, action.ord_type, action.time_in_force
            report.px_ticks, report.order_qty_lots = action.px_ticks, action.qty_lots
        elif type(action) is AmendOrder:
            report.order_id = report.order_id or action.order_id
            report.side, report.px_ticks, report.order_qty_lots = action.side, action.px_ticks, action.qty_lots
        elif type(action) is CancelOrder:
            report.order_id = action.order_id
        self._context.emit(report)


def _priority(action: PlaceOrder) -> Priority:
    if action.is_hedge:
        return _HEDGE
    return _REDUCE if action.reduce_only else _NEW


def _request_number(req_id: object) -> int:
    """The counter in our request identifiers; 0 for what is not ours."""
    if not isinstance(req_id, str):
        return 0
    digits = req_id.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def decode(payload: bytes) -> Mapping[str, Any] | None:
    """A frame of the trade or private socket; None for what is no JSON object."""
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    return message if isinstance(message, dict) else None
