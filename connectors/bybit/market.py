"""Bybit public channels: order books, trades, mark price and funding.

`orderbook.{50|200|1000}` sends a snapshot, then deltas whose `u` counts by one; a snapshot may come at any time and
replaces the book, `u` = 1 says that the service restarted. A break means lost data: the book is invalid at once and
its topic is subscribed anew (one recovery in flight a book; after two failures the whole socket is replaced).
`orderbook.1` is subscribed on a socket of its own as a probe: it repeats every 3 s, so silence proves a stale stream,
and a best price that moved there and not in the book proves a frozen one. It is never merged: levels of
different depths disagree for moments.
Source: https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook, read 2026-07-24.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import InvalidOperation
from typing import Any, Final

import orjson

from connectors.bybit.context import Context
from connectors.bybit.endpoints import PROBE_CHANNEL, PROBES, PUBLIC_CHANNEL, PUBLIC_LINEAR
from connectors.bybit.symbols import MS_TO_NS, decimal_of, ticks_near
from connectors.session import MS, SECOND, ChannelSession
from engine.events import BookInvalid, BookUpdate, MarkPrice, TradePrint
from engine.instrument import Instrument
from engine.types import NO_PX, Market, Side
from ext import Book, Feed
from ext.decode_bybit import BybitDecoder
from ext.scan import REFUSALS
from ext.sequence import (
    OUT_APPLIED,
    OUT_CROSSED,
    OUT_GAP,
    OUT_OTHER,
    OUT_REPEAT,
    OUT_SNAPSHOT,
    OUT_TRADE,
    OUTCOMES,
    RULE_BYBIT,
)

DEPTHS: Final = (50, 200, 1000)
SNAPSHOT_TIMEOUT_NS: Final = 3 * SECOND
SETTLED_NS: Final = 10 * SECOND  # valid for this long: earlier failures are forgiven
SILENCE_NS: Final = 5 * SECOND  # orderbook.1 repeats every 3 s
FROZEN_NS: Final = SECOND  # five times the slowest push interval (orderbook.1000: 200 ms)
MAX_FAILURES: Final = 2
PROBE_WINDOW_BITS: Final = 8  # a book of one level a side
RATE_E9: Final = 10**9


def depth_of(wanted: int) -> int:
    """The smallest depth that Bybit streams and that holds `wanted` levels, or the largest."""
    return next((depth for depth in DEPTHS if depth >= wanted), DEPTHS[-1])


def best_of(book: Book) -> tuple[int, int, int, int]:
    return book.best_bid_px, book.best_bid_qty, book.best_ask_px, book.best_ask_qty


class BookState:
    """One book and its recovery."""

    __slots__ = (
        "book", "deadline_ns", "failures", "instrument", "is_valid", "is_wanted", "probe", "probe_book",
        "probe_moved_ns", "probe_ns", "probe_topic", "session", "topic", "trade_topic", "update", "valid_since_ns",
    )  # fmt: skip

    def __init__(
        self, instrument: Instrument, book: Book, depth: int, session: ChannelSession, probe: ChannelSession
    ) -> None:
        self.instrument = instrument
        self.book = book
        self.session = session
        self.probe = probe
        self.probe_book = Book(PROBE_WINDOW_BITS)
        self.update = BookUpdate(instrument.index, book)
        self.topic = f"orderbook.{depth}.{instrument.symbol}"
        self.probe_topic = f"orderbook.1.{instrument.symbol}"
        self.trade_topic = f"publicTrade.{instrument.symbol}"
        self.is_wanted = False
        self.is_valid = False  # what was last told to the core
        self.valid_since_ns = 0
        self.deadline_ns = 0  # a snapshot must be here by then; 0: none is awaited
        self.failures = 0
        self.probe_ns = 0
        self.probe_moved_ns = 0


class MarketData:
    """The public sockets of both categories."""

    def __init__(self, context: Context, sessions: Mapping[int, ChannelSession]) -> None:
        self.books: dict[int, Book] = {}
        self.gaps = 0
        self.refused = 0  # frames that the decoder refused
        self._context = context
        self._sessions = sessions
        self._depth = depth_of(context.settings.book_depth)
        self._feeds: dict[int, Feed] = {channel: Feed(BybitDecoder()) for channel in sessions}
        self._states: dict[int, BookState] = {}
        self._marks: dict[int, dict[str, str]] = {}

    def define(self, instrument: Instrument) -> None:
        """A book from here on. Its decoder knows the tick and the lot, so a change of those needs a new socket."""
        index = instrument.index
        if index in self._states:
            return
        channel = PUBLIC_CHANNEL[instrument.market]
        feed = self._feeds[channel]
        book = self.books[index] = Book()
        feed.decoder.add_symbol(instrument.symbol, index, *instrument.px_scale, *instrument.qty_scale)
        feed.add(index, RULE_BYBIT, book, self._depth)
        probe_channel = PROBE_CHANNEL[instrument.market]
        state = BookState(instrument, book, self._depth, self._sessions[channel], self._sessions[probe_channel])
        probe_feed = self._feeds[probe_channel]
        probe_feed.decoder.add_symbol(instrument.symbol, index, *instrument.px_scale, *instrument.qty_scale)
        probe_feed.add(index, RULE_BYBIT, state.probe_book, 1)
        self._states[index] = state

    # --- wishes ---

    def subscribe_book(self, index: int, now_ns: int) -> None:
        state = self._states[index]
        state.is_wanted = True
        topics = [state.topic]
        if state.instrument.market is Market.LINEAR:
            topics.append(f"tickers.{state.instrument.symbol}")
        self._await_snapshot(state, now_ns)
        state.session.subscribe(topics, now_ns)
        state.probe.subscribe([state.probe_topic], now_ns)

    def subscribe_trades(self, index: int, now_ns: int) -> None:
        state = self._states[index]
        state.session.subscribe([state.trade_topic], now_ns)

    def unsubscribe(self, index: int, now_ns: int) -> None:
        state = self._states[index]
        state.is_wanted = False
        topics = [state.topic, state.trade_topic, f"tickers.{state.instrument.symbol}"]
        state.session.unsubscribe(topics, now_ns)
        state.probe.unsubscribe([state.probe_topic], now_ns)
        self._invalidate(state, "unsubscribed", now_ns)
        state.deadline_ns = 0

    # --- inputs ---

    def on_frame(self, channel: int, payload: bytes, recv_ts_ns: int) -> Mapping[str, Any] | None:
        """Gives back control frames (answers to subscribe and ping), which are the caller's."""
        feed = self._feeds[channel]
        outcome = feed.on_frame(payload, recv_ts_ns)
        if outcome == OUT_APPLIED:
            update = self._states[feed.slot].update
            update.recv_ts_ns = recv_ts_ns
            self._context.emit(update)
        elif outcome in (OUT_SNAPSHOT, OUT_REPEAT):
            state = self._states[feed.slot]
            if channel in PROBES:
                self._on_probe(state, outcome == OUT_SNAPSHOT, recv_ts_ns)
            else:
                self._on_snapshot(state, recv_ts_ns)
        elif outcome == OUT_TRADE:
            self._on_trades(feed, recv_ts_ns)
        elif outcome == OUT_OTHER:
            return self._on_cold(channel, payload, recv_ts_ns)
        elif outcome < 0 and channel not in PROBES:
            self._on_refusal(channel, feed, outcome, payload, recv_ts_ns)
        return None  # older than the book, or before its snapshot: counted by the feed

    def on_up(self, channel: int, now_ns: int) -> None:
        for state in self._states.values():
            if state.session.channel == channel and state.is_wanted and not state.book.is_valid:
                self._await_snapshot(state, now_ns)

    def on_down(self, channel: int, reason: str, now_ns: int) -> None:
        for state in self._states.values():
            if state.session.channel == channel:
                self._invalidate(state, f"disconnected: {reason}", now_ns)
                state.deadline_ns = 0
                state.probe_ns = 0
        if channel == PUBLIC_LINEAR:
            self._marks.clear()

    def on_timer(self, now_ns: int) -> None:
        for state in self._states.values():
            if not state.is_wanted or not state.session.is_logged_in:
                continue
            if state.deadline_ns:
                if now_ns >= state.deadline_ns:
                    self._recover(state, "no snapshot", now_ns)
                continue
            if state.failures and now_ns - state.valid_since_ns >= SETTLED_NS:
                state.failures = 0
            reason = self._staleness(state, now_ns)
            if reason:
                self._recover(state, reason, now_ns)

    # --- inside ---

    def _await_snapshot(self, state: BookState, now_ns: int) -> None:
        state.deadline_ns = now_ns + SNAPSHOT_TIMEOUT_NS
        state.probe_ns = state.probe_moved_ns = now_ns
        self._context.wire.set_timer(state.deadline_ns)

    def _on_snapshot(self, state: BookState, recv_ts_ns: int) -> None:
        if not state.is_valid:
            state.is_valid = True
            state.valid_since_ns = recv_ts_ns
        state.deadline_ns = 0
        state.update.recv_ts_ns = recv_ts_ns
        self._context.emit(state.update)

    def _on_probe(self, state: BookState, has_moved: bool, recv_ts_ns: int) -> None:
        state.probe_ns = recv_ts_ns
        if has_moved:
            state.probe_moved_ns = recv_ts_ns

    def _on_trades(self, feed: Feed, recv_ts_ns: int) -> None:
        index = feed.slot
        for side, px, qty, exch_ts_ns in feed.trades:
            self._context.emit(TradePrint(recv_ts_ns, index, Side(side), px, qty, exch_ts_ns))

    def _staleness(self, state: BookState, now_ns: int) -> str:
        last_ns = max(state.probe_ns, state.book.recv_ts_ns)
        if now_ns - last_ns >= SILENCE_NS:
            return f"stale: no frame for {(now_ns - last_ns) // MS} ms"
        book = state.book
        has_moved_since = state.probe_moved_ns > book.recv_ts_ns and now_ns - state.probe_moved_ns >= FROZEN_NS
        if has_moved_since and best_of(state.probe_book) != best_of(book):
            return f"frozen: best prices moved {(now_ns - book.recv_ts_ns) // MS} ms after the last delta"
        return ""

    def _invalidate(self, state: BookState, reason: str, now_ns: int) -> None:
        state.book.invalidate()
        if state.is_valid:
            state.is_valid = False
            self._context.emit(BookInvalid(now_ns, state.instrument.index, reason))

    def _recover(self, state: BookState, reason: str, now_ns: int) -> None:
        """Drop the book and get a new snapshot. Called once a failure: what is in flight is not started again."""
        self._invalidate(state, reason, now_ns)
        state.failures += 1
        if state.failures > MAX_FAILURES:
            for other in self._states.values():
                if other.session is state.session:
                    other.failures = 0
            state.session.reconnect(f"{state.topic}: {reason}", now_ns)
            return
        self._await_snapshot(state, now_ns)
        state.session.resubscribe([state.topic], now_ns)

    def _on_refusal(self, channel: int, feed: Feed, outcome: int, payload: bytes, recv_ts_ns: int) -> None:
        if outcome in (OUT_GAP, OUT_CROSSED):
            self.gaps += 1
            state: BookState | None = self._states[feed.slot]
        else:
            self.refused += 1
            state = self._state_of_topic(channel, payload)
        if state is None or state.deadline_ns or not state.is_wanted:
            return
        name = OUTCOMES.get(outcome) or REFUSALS.get(outcome) or f"code {outcome}"
        self._recover(state, name, recv_ts_ns)

    def _state_of_topic(self, channel: int, payload: bytes) -> BookState | None:
        """Whose book a frame was for that the decoder refused: without it the book has a hole."""
        for state in self._states.values():
            if state.session.channel == channel and b'"%b"' % state.topic.encode() in payload:
                return state
        return None

    def _on_cold(self, channel: int, payload: bytes, recv_ts_ns: int) -> Mapping[str, Any] | None:
        try:
            message = orjson.loads(payload)
        except orjson.JSONDecodeError:
            self.refused += 1
            return None
        if not isinstance(message, dict):
            self.refused += 1
            return None
        topic = message.get("topic")
        if topic is None:
            return message
        if channel == PUBLIC_LINEAR and isinstance(topic, str) and topic.startswith("tickers."):
            instrument = self._context.by_symbol.get(("linear", topic[8:]))
            if instrument is not None:
                self._on_ticker(instrument, message, recv_ts_ns)
        return None

    def _on_ticker(self, instrument: Instrument, message: Mapping[str, Any], recv_ts_ns: int) -> None:
        """A snapshot, then deltas that hold only what changed."""
        fields = message.get("data")
        if not isinstance(fields, dict):
            self.refused += 1
            return
        known = self._marks.setdefault(instrument.index, {})
        if message.get("type") == "snapshot":
            known.clear()
        changed = {name: fields[name] for name in ("markPrice", "fundingRate", "nextFundingTime") if name in fields}
        if not changed:
            return
        known.update(changed)
        try:
            event = MarkPrice(
                recv_ts_ns,
                instrument.index,
                ticks_near(known.get("markPrice"), instrument) if known.get("markPrice") else NO_PX,
                int(decimal_of(known.get("fundingRate")) * RATE_E9),
                int(known.get("nextFundingTime") or 0) * MS_TO_NS,
            )
        except (InvalidOperation, ValueError, TypeError):
            self.refused += 1
            return
        self._context.emit(event)
