"""Carry out one order request of REST or of the order socket: limits, faults, the core, and the private frames.

The two doors differ in their envelopes only; both get a `Reply` from here and wrap it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tools.exchange.bybit.codes import NO_PERMISSION, RATE, SERVER_ERROR, Refusal
from tools.exchange.bybit.limits import Grant, Limits
from tools.exchange.bybit.private import PrivateStreams
from tools.exchange.bybit.trading import Trading, batch_size, category_of
from tools.exchange.core import ApiKey, VenueCore
from tools.exchange.model import Fault, FaultKind

Result = tuple[dict[str, Any], dict[str, Any]]
Act = Callable[[], Result]

NOT_EXECUTED: Final = (FaultKind.REJECT, FaultKind.DROP_REQUEST, FaultKind.UNKNOWN_NOT_DONE)
VERBS: Final = {
    "create": "place",
    "amend": "amend",
    "cancel": "cancel",
    "cancel-all": "cancel",
    "create-batch": "place",
    "amend-batch": "amend",
    "cancel-batch": "cancel",
}


@dataclass(slots=True)
class Reply:
    """What the request is answered with, and how: late, not at all, with its events before it."""

    code: int = 0
    msg: str = "OK"
    result: dict[str, Any] = field(default_factory=dict)
    ext: dict[str, Any] = field(default_factory=dict)
    grant: Grant | None = None
    delay_ns: int = 0
    is_dropped: bool = False
    closes: bool = False


class Requests:
    def __init__(self, core: VenueCore, trading: Trading, private: PrivateStreams, limits: Limits) -> None:
        self.core = core
        self.trading = trading
        self.private = private
        self.limits = limits

    def order(self, verb: str, key: ApiKey, args: Mapping[str, Any], now_ns: int) -> tuple[Reply, bool]:
        """One order request; the flag says that its private frames go before the answer."""

        def act() -> Result:
            if not key.can_trade:
                raise Refusal(NO_PERMISSION, "Permission denied, please check your API key permissions.")
            return self._execute(verb, key.account_id, args, now_ns)

        def take() -> Grant:
            group, cost = f"{verb}.{category_of(args)}", batch_size(args) if verb.endswith("-batch") else 1
            return self.limits.take(key.account_id, group, now_ns, cost)

        return self.perform(VERBS[verb], act, take)

    def _execute(self, verb: str, account_id: int, args: Mapping[str, Any], now_ns: int) -> Result:
        if verb.endswith("-batch"):
            return self.trading.batch(verb.removesuffix("-batch"), account_id, args, now_ns)
        if verb == "cancel-all":
            return self.trading.cancel_all(account_id, args, now_ns), {}
        act = {"create": self.trading.create, "amend": self.trading.amend, "cancel": self.trading.cancel}[verb]
        return dict(act(account_id, args, now_ns)), {}

    def perform(self, op: str, act: Act, take: Callable[[], Grant | None]) -> tuple[Reply, bool]:
        """Limit, fault, act. Refusals become replies; frames the act causes are held until `release`."""
        reply = Reply(delay_ns=self.core.hooks.answer_delay_ns if op != "query" else 0)
        fault = self.core.hooks.take(op)
        self.private.hold()
        try:
            reply.grant = take()
            if reply.grant is not None and not reply.grant.ok:
                raise Refusal(RATE, "Too many visits!")
            if self.core.hooks.is_overloaded and op != "query":
                raise Refusal(SERVER_ERROR, "Service is overloaded")
            self._before(fault)
            if fault is None or fault.kind not in NOT_EXECUTED:
                reply.result, reply.ext = act()
            self._after(fault, reply)
        except Refusal as refused:
            reply.code, reply.msg, reply.result, reply.ext = refused.code, refused.msg, {}, {}
        first = self.private.draw_events_first() or (fault is not None and fault.kind is FaultKind.EVENTS_FIRST)
        return reply, first

    def _before(self, fault: Fault | None) -> None:
        if fault is None:
            return
        if fault.kind is FaultKind.REJECT:
            raise Refusal(fault.code or 110007, fault.text or "ab not enough for new order")
        if fault.kind is FaultKind.UNKNOWN_NOT_DONE:
            raise Refusal(fault.code or SERVER_ERROR, fault.text or "Server error.")

    def _after(self, fault: Fault | None, reply: Reply) -> None:
        if fault is None:
            return
        if fault.kind is FaultKind.UNKNOWN_DONE:
            raise Refusal(fault.code or SERVER_ERROR, fault.text or "Server error.")
        reply.is_dropped = fault.kind in (FaultKind.DROP_REQUEST, FaultKind.DROP_ANSWER, FaultKind.DISCONNECT)
        reply.closes = fault.kind is FaultKind.DISCONNECT
        if fault.kind is FaultKind.DELAY_ANSWER:
            reply.delay_ns += fault.delay_ns
