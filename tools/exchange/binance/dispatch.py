"""From a request to its answer: request limits, key and signature, injected faults, the operation, the order count.

REST and WebSocket API share it; they differ in how a request is read and how the outcome is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from engine.types import Market
from tools.exchange.binance import auth
from tools.exchange.binance.errors import ApiError, overloaded, unknown_outcome
from tools.exchange.binance.info import CONNECTION_RULES, SPOT_RULES, USDM_RULES
from tools.exchange.binance.params import Params
from tools.exchange.binance.request import NS_PER_MS, Request
from tools.exchange.core import VenueCore
from tools.exchange.limits import CalendarBuckets, Rule
from tools.exchange.model import Fault, FaultKind

NS: Final = 1_000_000_000
ORDER_OPS: Final = ("place", "amend")
ENTRY_OPS: Final = ("place", "amend", "cancel")
EXECUTED: Final = (
    FaultKind.DROP_ANSWER,
    FaultKind.UNKNOWN_DONE,
    FaultKind.DELAY_ANSWER,
    FaultKind.EVENTS_FIRST,
    FaultKind.DISCONNECT,
)


class Security(IntEnum):
    NONE = 0
    KEY = 1  # the key alone
    SIGNED = 2
    TRADE = 3  # signed, and the key may trade


@dataclass(frozen=True, slots=True)
class Route:
    """`weight` may depend on the parameters. `is_free`: spot order entry weighs nothing when it succeeds."""

    op: Callable[[Request], Any]
    market: Market
    security: Security = Security.NONE
    weight: int | Callable[[Params], int] = 1
    fault_op: str = "other"  # place, cancel, amend, query, other
    is_free: bool = False

    @property
    def is_order(self) -> bool:
        return self.fault_op in ORDER_OPS


@dataclass(slots=True)
class Outcome:
    """`error` or `result`. `is_dropped`: no answer; `disconnects`: and the asking connection is closed."""

    result: Any = None
    error: ApiError | None = None
    delay_ns: int = 0
    is_dropped: bool = False
    disconnects: bool = False
    events_first: bool = False


@dataclass(slots=True)
class BinanceLimits:
    """Both markets' counters; they are separate at the venue."""

    spot: CalendarBuckets = field(default_factory=lambda: CalendarBuckets(SPOT_RULES + CONNECTION_RULES))
    usdm: CalendarBuckets = field(default_factory=lambda: CalendarBuckets(USDM_RULES + CONNECTION_RULES))

    def of(self, market: Market) -> CalendarBuckets:
        return self.spot if market is Market.SPOT else self.usdm

    @property
    def squeeze(self) -> float:
        return self.spot.squeeze

    @squeeze.setter
    def squeeze(self, factor: float) -> None:
        self.spot.squeeze = self.usdm.squeeze = factor


class Dispatcher:
    def __init__(self, core: VenueCore, limits: BinanceLimits) -> None:
        self.core = core
        self.limits = limits

    def run(self, route: Route, request: Request, session_key: str = "") -> Outcome:
        """`session_key`: the key a WebSocket connection has logged on with, whose requests need no signature."""
        outcome = Outcome(delay_ns=self.core.hooks.answer_delay_ns if route.fault_op in ENTRY_OPS else 0)
        outcome.events_first = self.core.hooks.events_first
        try:
            weight = self._enter(route, request)
            self._authorise(route, request, session_key)
            if route.fault_op == "place":
                self._check_order_count(route, request)
            if self.core.hooks.is_overloaded and route.is_order:
                raise overloaded()
            fault = self.core.hooks.take(route.fault_op)
            if fault is not None and fault.kind not in EXECUTED:
                self._refuse_by_fault(fault, outcome, route)
                return outcome
            self._execute(route, request, outcome, weight)
            if fault is not None:
                _apply_after(fault, outcome)
        except ApiError as error:
            outcome.error = error
        return outcome

    def _execute(self, route: Route, request: Request, outcome: Outcome, weight: int) -> None:
        buckets = self.limits.of(route.market)
        # Before the order is matched: its first fill gives the count back.
        request.count_order = lambda: buckets.add(f"account:{request.account_id}", "ORDERS", 1, request.now_ns)
        try:
            outcome.result = route.op(request)
        except ApiError as error:
            outcome.error = error
        if outcome.error is None and route.is_free:
            buckets.add(f"ip:{request.ip}", "REQUEST_WEIGHT", -weight, request.now_ns)

    # --- limits -----------------------------------------------------------------------------------------------------

    def _enter(self, route: Route, request: Request) -> int:
        buckets, who, now_ns = self.limits.of(route.market), f"ip:{request.ip}", request.now_ns
        weight = route.weight if isinstance(route.weight, int) else route.weight(request.params)
        until_ns = buckets.banned_until_ns(who, now_ns)
        rule = None if until_ns else buckets.breached(who, "REQUEST_WEIGHT", weight, now_ns)
        if rule is not None:
            until_ns = buckets.note_breach(who, now_ns)
        if until_ns:
            until_ms = until_ns // NS_PER_MS + (request.now_ms - now_ns // NS_PER_MS)
            text = f"Way too much request weight used; IP banned until {until_ms}. "
            raise limit_error(
                text + "Please use WebSocket Streams for live updates to avoid bans.", 418, until_ns - now_ns, request
            )
        if rule is not None:
            text = (
                f"Too much request weight used; current limit is {buckets.limit(rule)} request weight per {rule.count} "
            )
            text += f"{rule.interval}. Please use WebSocket Streams for live updates to avoid polling the API."
            raise limit_error(text, 429, buckets.retry_after_ns(rule, now_ns), request)
        buckets.add(who, "REQUEST_WEIGHT", weight, now_ns)
        buckets.add(who, "RAW_REQUESTS", 1, now_ns)
        return weight

    def _check_order_count(self, route: Route, request: Request) -> None:
        buckets = self.limits.of(route.market)
        rule = buckets.breached(f"account:{request.account_id}", "ORDERS", 1, request.now_ns)
        if rule is not None:
            text = (
                f"Too many new orders; current limit is {buckets.limit(rule)} orders per {rule.count} {rule.interval}."
            )
            raise limit_error(text, 429, buckets.retry_after_ns(rule, request.now_ns), request, -1015)

    def connect(self, market: Market, ip: str, weight: int, now_ns: int) -> int:
        """Count a new WebSocket connection; returns 0 or the HTTP status that refuses it."""
        buckets, who = self.limits.of(market), f"ip:{ip}"
        if buckets.banned_until_ns(who, now_ns):
            return 418
        if buckets.breached(who, "CONNECTIONS", 1, now_ns) or buckets.breached(who, "REQUEST_WEIGHT", weight, now_ns):
            return 429
        buckets.add(who, "CONNECTIONS", 1, now_ns)
        buckets.add(who, "REQUEST_WEIGHT", weight, now_ns)
        return 0

    def headers(self, request: Request, *, has_orders: bool) -> dict[str, str]:
        buckets = self.limits.of(request.market)
        used = self._rows(buckets, request, "REQUEST_WEIGHT", f"ip:{request.ip}")
        headers = {f"x-mbx-used-weight-{rule.suffix.lower()}": str(count) for rule, count in used}
        headers["x-mbx-used-weight"] = str(used[0][1])
        if has_orders and request.key is not None:
            orders = self._rows(buckets, request, "ORDERS", f"account:{request.account_id}")
            headers |= {f"x-mbx-order-count-{rule.suffix.lower()}": str(count) for rule, count in orders}
        return headers

    def rate_limits(self, request: Request, *, has_orders: bool) -> list[dict[str, Any]]:
        """`rateLimits` of a WebSocket API answer."""
        buckets = self.limits.of(request.market)
        rows: list[tuple[Rule, int]] = []
        if has_orders and request.key is not None:
            rows += self._rows(buckets, request, "ORDERS", f"account:{request.account_id}")
        rows += self._rows(buckets, request, "REQUEST_WEIGHT", f"ip:{request.ip}")
        return [
            {
                "rateLimitType": rule.kind,
                "interval": rule.interval,
                "intervalNum": rule.count,
                "limit": buckets.limit(rule),
                "count": count,
            }
            for rule, count in rows
        ]

    def order_counts(self, request: Request) -> list[dict[str, Any]]:
        """GET rateLimit/order."""
        rows = self.rate_limits(request, has_orders=True)
        return [row for row in rows if row["rateLimitType"] == "ORDERS"]

    def _rows(self, buckets: CalendarBuckets, request: Request, kind: str, who: str) -> list[tuple[Rule, int]]:
        return [(rule, buckets.used(who, rule, request.now_ns)) for rule in buckets.rules if rule.kind == kind]

    # --- keys -------------------------------------------------------------------------------------------------------

    def _authorise(self, route: Route, request: Request, session_key: str) -> None:
        if route.security is Security.NONE:
            return
        key_text = request.params.get("apiKey") or session_key
        request.key = auth.find_key(self.core.keys, key_text, request.ip)
        if route.security is Security.KEY:
            return
        is_logged_on = bool(session_key) and not request.params.get("signature")
        if not is_logged_on:
            request.params.need("timestamp")
            auth.check_signature(request.key, request.params)
        auth.check_time(request.params, request.now_ms)
        if route.security is Security.TRADE and not request.key.can_trade:
            raise auth.bad_key()

    # --- faults -----------------------------------------------------------------------------------------------------

    def _refuse_by_fault(self, fault: Fault, outcome: Outcome, route: Route) -> None:
        if fault.kind is FaultKind.DROP_REQUEST:
            outcome.is_dropped = True
        elif fault.kind is FaultKind.UNKNOWN_NOT_DONE:
            outcome.error = unknown_outcome()
        else:
            code = fault.code or (-2010 if route.market is Market.SPOT else -2027)
            text = fault.text or "This action is disabled on this account."
            outcome.error = ApiError(code, text)


def _apply_after(fault: Fault, outcome: Outcome) -> None:
    match fault.kind:
        case FaultKind.DROP_ANSWER:
            outcome.is_dropped = True
        case FaultKind.DISCONNECT:
            outcome.is_dropped = outcome.disconnects = True
        case FaultKind.UNKNOWN_DONE:
            outcome.error = unknown_outcome()
        case FaultKind.DELAY_ANSWER:
            outcome.delay_ns += fault.delay_ns
        case FaultKind.EVENTS_FIRST:
            outcome.events_first = True


def limit_error(text: str, status: int, retry_after_ns: int, request: Request, code: int = -1003) -> ApiError:
    retry_at_ms = request.now_ms + -(-retry_after_ns // NS_PER_MS)
    error = ApiError(code, text, status, {"serverTime": request.now_ms, "retryAfter": retry_at_ms})
    error.retry_after_ns = retry_after_ns
    return error
