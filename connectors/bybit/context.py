"""What all parts of the Bybit connector share: wire, signing, the venue's clock, request limits and REST.

Limits are per account, endpoint and category in a rolling second, and are learnt from the headers of each answer; REST
also obeys a limit per address (600 in 5 s at the venue, held at 500 here, because a breach costs ten minutes).
Source: https://bybit-exchange.github.io/docs/v5/rate-limit, read 2026-07-24.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Final

import msgspec
import orjson

from connectors.bybit import endpoints, errors
from connectors.bybit.auth import Auth
from connectors.rest import LOST, RestAnswer, RestCall, RestClient, RestRequest, Verdict
from connectors.session import MS, SECOND, Outbox, Priority
from engine.events import VenueNotice
from engine.instrument import Instrument
from engine.types import InstrumentState, Market, Venue
from engine.venue import Emit, VenueSettings, Wire
from ext import Throttle
from ext.throttle import ROLLING

BAN_NS: Final = 600 * SECOND
BUSY_NS: Final = SECOND
READ_PATIENCE_NS: Final = 10 * SECOND
MAX_RESET_NS: Final = 5 * SECOND  # a reset further away than this is a misread clock
NOT_JSON: Final = -1


class Group(IntEnum):
    """Endpoints that share a limit of their own."""

    CREATE = 1
    AMEND = 2
    CANCEL = 3
    CANCEL_ALL = 4
    CREATE_BATCH = 5
    CANCEL_BATCH = 6
    OPEN_ORDERS = 7
    HISTORY = 8
    EXECUTIONS = 9
    POSITIONS = 10
    WALLET = 11
    FEES = 12
    DEAD_MAN = 13
    OTHER = 14


# Group -> (linear, spot) requests a second of an account without a VIP tier; the headers of the answers correct it.
_CAPACITY: Final[dict[Group, tuple[int, int]]] = {
    Group.CREATE: (10, 20),
    Group.AMEND: (10, 10),
    Group.CANCEL: (10, 20),
    Group.CANCEL_ALL: (10, 20),
    Group.CREATE_BATCH: (10, 20),
    Group.CANCEL_BATCH: (10, 20),
    Group.FEES: (5, 5),
    Group.DEAD_MAN: (5, 5),
    Group.OTHER: (10, 10),
}
_CAPACITY_OF_READS: Final = (50, 50)


class Context:
    """One a connector. Implements `RestPolicy`."""

    def __init__(self, settings: VenueSettings, wire: Wire, emit: Emit) -> None:
        self.settings = settings
        self.endpoints = endpoints.endpoints_of(settings)
        self.wire = wire
        self.emit = emit
        self.auth: Auth | None = None  # made at the start
        self.instruments: dict[int, Instrument] = {}
        self.by_symbol: dict[tuple[str, str], Instrument] = {}  # (category, symbol)
        self.utc_offset_ns = 0
        self.venue_clock_ns: int | None = None  # venue's UTC minus our monotonic clock, once measured
        self.outbox = Outbox(wire)
        self.rest = RestClient(Venue.BYBIT, wire, self)
        self.address_limit = Throttle(500, 5 * SECOND, ROLLING)
        self._limits: dict[tuple[Group, Market], Throttle] = {}
        self.misread = 0  # rows and answers that were not understood
        # Set by the owner of the clock: measure again, an answer complained about a timestamp.
        self.on_bad_clock: Callable[[int], None] = lambda now_ns: None

    # --- the venue's clock ---

    def utc_ns(self, now_ns: int) -> int:
        """The venue's time: measured by round trips, so our wall clock may be wrong and signatures still pass."""
        return now_ns + (self.utc_offset_ns if self.venue_clock_ns is None else self.venue_clock_ns)

    def utc_ms(self, now_ns: int) -> int:
        return self.utc_ns(now_ns) // MS

    def monotonic_ns(self, venue_ms: int) -> int:
        offset = self.utc_offset_ns if self.venue_clock_ns is None else self.venue_clock_ns
        return venue_ms * MS - offset

    # --- instruments ---

    def define(self, instrument: Instrument) -> None:
        self.instruments[instrument.index] = instrument
        self.by_symbol[endpoints.CATEGORY[instrument.market], instrument.symbol] = instrument

    def halt(self, index: int) -> None:
        """An order was told that its instrument does not trade: the next look at its definition says what is so."""
        self.define(msgspec.structs.replace(self.instruments[index], state=InstrumentState.HALTED))

    # --- limits ---

    def limit(self, group: Group, market: Market) -> Throttle:
        key = (group, market)
        throttle = self._limits.get(key)
        if throttle is None:
            capacity = _CAPACITY.get(group, _CAPACITY_OF_READS)[1 if market is Market.SPOT else 0]
            # Cancels have buckets of their own; inside one bucket nothing more urgent waits behind reads.
            throttle = self._limits[key] = Throttle(capacity, SECOND, ROLLING)
        return throttle

    def learn_limit(self, throttle: Throttle, headers: Mapping[str, str], now_ns: int) -> None:
        """`X-Bapi-Limit-Status` is what remains, not what was used."""
        limit, left = headers.get("x-bapi-limit", ""), headers.get("x-bapi-limit-status", "")
        if limit.isdecimal() and left.isdecimal() and int(limit) > 0:
            throttle.on_remaining(int(left), int(limit), now_ns)

    def hit_limit(self, throttle: Throttle, headers: Mapping[str, str], now_ns: int) -> int:
        """The venue refused for its limit: nothing of this bucket before the reset. Gives back when that is."""
        reset = headers.get("x-bapi-limit-reset-timestamp", "")
        until_ns = self.monotonic_ns(int(reset)) if reset.isdecimal() else now_ns + BUSY_NS
        until_ns = min(max(until_ns + 10 * MS, now_ns + 50 * MS), now_ns + MAX_RESET_NS)
        throttle.freeze(until_ns)
        self.emit(VenueNotice(now_ns, Venue.BYBIT, "rate_limited", until_ns))
        return until_ns

    # --- REST ---

    def get(
        self,
        path: str,
        query: str,
        on_answer: Callable[[Reply, int], None],
        now_ns: int,
        *,
        group: Group = Group.OTHER,
        market: Market = Market.LINEAR,
        is_signed: bool = True,
        priority: Priority = Priority.QUERY,
    ) -> None:
        """Ask; the answer comes once, after retries where they help."""
        target = f"{path}?{query}" if query else path

        def build(now_ns: int) -> RestRequest:
            auth = self.auth if is_signed else None
            headers = {} if auth is None else auth.headers(self.utc_ms(now_ns), query)
            return RestRequest("GET", self.endpoints.http, target, headers)

        call = RestCall(
            f"GET {path}",
            build,
            lambda answer, now_ns: on_answer(Reply(answer, call.sent_ns), now_ns),
            is_read=True,
            timeout_ns=self.settings.request_timeout_ms * MS,
        )
        throttles = (self.limit(group, market), self.address_limit) if is_signed else (self.address_limit,)
        # An answer that comes later than this is of no use, and whoever waits for it asks again.
        deadline_ns = now_ns + READ_PATIENCE_NS
        self.rest.submit(call, self.outbox, priority, throttles, (1,) * len(throttles), now_ns, deadline_ns)

    def post_call(
        self, path: str, body: bytes, on_answer: Callable[[Reply, int], None], *, timeout_ns: int = 0
    ) -> RestCall:
        """A write, signed at the moment it is sent; sent once."""
        assert self.auth is not None, f"{path} without credentials"
        auth = self.auth

        def build(now_ns: int) -> RestRequest:
            headers = {**auth.headers(self.utc_ms(now_ns), body.decode()), "Content-Type": "application/json"}
            return RestRequest("POST", self.endpoints.http, path, headers, body)

        call = RestCall(
            f"POST {path}",
            build,
            lambda answer, now_ns: on_answer(Reply(answer, call.sent_ns), now_ns),
            is_read=False,
            timeout_ns=timeout_ns or self.settings.request_timeout_ms * MS,
        )
        return call

    def judge(self, request: RestCall, status: int, headers: Mapping[str, str], body: bytes, now_ns: int) -> Verdict:
        throttle = request.outgoing.throttles[0] if request.outgoing is not None else self.address_limit
        if status == 403:
            self.address_limit.freeze(now_ns + BAN_NS)
            self.emit(VenueNotice(now_ns, Venue.BYBIT, "banned", now_ns + BAN_NS))
            return Verdict.DONE  # nobody waits ten minutes for an answer
        code = errors.ret_code(body)
        if status == 429 or code == 10429:
            self.address_limit.freeze(now_ns + BUSY_NS)
            return Verdict.WAIT
        if status == LOST or status >= 500:
            return Verdict.RETRY
        if code == errors.RATE_LIMITED:
            self.hit_limit(throttle, headers, now_ns)
            return Verdict.WAIT
        if throttle is not self.address_limit:
            self.learn_limit(throttle, headers, now_ns)
        if code == errors.BAD_TIMESTAMP:
            self.on_bad_clock(now_ns)
            return Verdict.RETRY  # signed anew, with the clock as it is then
        if code == errors.RESTARTING:
            self.emit(VenueNotice(now_ns, Venue.BYBIT, "maintenance", now_ns + BUSY_NS))
        return Verdict.RETRY if code in errors.SERVER_BUSY else Verdict.DONE


def table_of(value: object) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def table_at(rows: object, at: int) -> dict[str, Any]:
    return table_of(rows[at]) if isinstance(rows, list) and at < len(rows) else {}


class Reply:
    """A REST answer, decoded. `code` is retCode, NOT_JSON where there is none; `is_ok` means retCode 0."""

    __slots__ = (
        "code",
        "ext",
        "headers",
        "is_ok",
        "result",
        "rows",
        "sent_ns",
        "status",
        "text",
        "time_ms",
        "was_sent",
    )

    def __init__(self, answer: RestAnswer, sent_ns: int = 0) -> None:
        self.sent_ns = sent_ns
        self.status = answer.status
        self.was_sent = answer.was_sent
        self.headers = answer.headers
        self.code, self.text, self.time_ms = NOT_JSON, f"HTTP {answer.status}", 0
        self.result: dict[str, Any] = {}
        self.ext: dict[str, Any] = {}
        if answer.status == LOST:
            self.text = answer.body.decode(errors="replace")[:80] or "no answer"
        try:
            envelope = orjson.loads(answer.body)
            self.code = int(envelope["retCode"])
            self.text = str(envelope.get("retMsg") or "")
            self.result, self.ext = table_of(envelope.get("result")), table_of(envelope.get("retExtInfo"))
            self.time_ms = int(envelope.get("time") or 0)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            pass
        listed = self.result.get("list")
        self.rows: list[dict[str, Any]] = listed if isinstance(listed, list) else []
        has_tables = all(isinstance(row, dict) for row in self.rows)
        self.is_ok = self.code == errors.OK and 200 <= self.status < 300 and has_tables

    @property
    def cursor(self) -> str:
        return str(self.result.get("nextPageCursor") or "")
