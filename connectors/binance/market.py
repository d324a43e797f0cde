"""Market data of one market: depth stream, snapshot, resynchronisation, trades, mark prices.

A book is built from `@depth` diffs over a REST snapshot and is valid only while every message follows the one before;
`ext.sequence.Feed` judges that. A gap drops the book at once and fetches a snapshot again; nothing is ever patched.
USD-M serves depth on /public and trades, mark price and contract changes on /market; a stream asked for on the wrong
path is acknowledged and stays silent, so an acknowledgement is never taken for life.
Source: binance-spot-api-docs web-socket-streams.md "How to manage a local order book correctly"; USD-M "Diff. Book
Depth Streams", "How to manage a local order book correctly"; read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from connectors.binance.context import Context, MarketSide
from connectors.binance.endpoints import (
    SPOT_STREAM,
    SPOT_STREAM_SPARE,
    USDM_MARKET,
    USDM_MARKET_SPARE,
    USDM_PUBLIC,
    USDM_PUBLIC_SPARE,
    depth_limit,
)
from connectors.binance.errors import NOT_UNDERSTOOD
from connectors.binance.symbols import Symbol, state_from_status
from connectors.rest import RestAnswer
from connectors.session import MINUTE, MS, SECOND, Backoff, ChannelPair, ChannelSession, SessionPolicy
from engine.events import (
    BookInvalid,
    BookUpdate,
    ChannelState,
    MarkPrice,
    TradePrint,
    VenueNotice,
)
from engine.types import ConnState, InstrumentKind, Market, Side, Venue
from ext import Book, Feed
from ext.decode_binance import BinanceDecoder
from ext.sequence import (
    OUT_APPLIED,
    OUT_CROSSED,
    OUT_GAP,
    OUT_OTHER,
    OUT_SNAPSHOT,
    OUT_STALE,
    OUT_TRADE,
    OUT_UNSYNCED,
    RULE_BINANCE_SPOT,
    RULE_BINANCE_USDM,
)

PING_ID: Final = 1 << 40  # identifiers of liveness probes, apart from the subscriptions' small ones
BUFFER_MAX: Final = 5_000
ATTEMPTS_MAX: Final = 5  # snapshots that did not join the stream, before the stream itself is suspected
STALE_NS: Final = 5 * SECOND
STALE_MAX_NS: Final = 5 * MINUTE
WATCH_NS: Final = SECOND

STREAM_POLICY: Final = SessionPolicy(
    ping_interval_ns=SECOND,  # LIST_SUBSCRIPTIONS; the venue allows 5 messages a second
    silence_ns=4 * SECOND,
    renewal_ns=23 * 60 * MINUTE,
    topics_per_request=100,
)


class BookSync:
    """One book's way from a snapshot to the live stream."""

    __slots__ = (
        "asked_at_ns",
        "attempts",
        "backoff",
        "book",
        "buffer",
        "is_asked",
        "is_invalid_told",
        "is_wanted",
        "retry_at_ns",
        "seen_seq",
        "stale_ns",
        "symbol",
        "update",
        "watch_from_ns",
    )

    def __init__(self, symbol: Symbol, book: Book) -> None:
        index = symbol.instrument.index
        self.symbol = symbol
        self.book = book
        self.update = BookUpdate(index, book)
        self.buffer: list[tuple[bytes, int]] = []
        self.backoff = Backoff(index + 1, 250 * MS, 10 * SECOND)
        self.attempts = 0
        self.is_wanted = False
        self.is_asked = False  # a snapshot is under way: never two for one book
        self.is_invalid_told = True
        self.asked_at_ns = 0
        self.retry_at_ns = 0
        self.stale_ns = STALE_NS
        self.seen_seq = 0
        self.watch_from_ns = 0


class MarketData:
    """Streams of one market. Owner of its sessions."""

    def __init__(self, ctx: Context, side: MarketSide) -> None:
        self._ctx = ctx
        self._side = side
        self._emit = ctx.emit
        self._is_spot = side.market is Market.SPOT
        self._rule = RULE_BINANCE_SPOT if self._is_spot else RULE_BINANCE_USDM
        self.decoder = BinanceDecoder()
        self.feed = Feed(self.decoder)
        self.syncs: dict[int, BookSync] = {}
        self.books: dict[int, Book] = {}
        self.refused: dict[int, int] = {}
        self.garbled = 0
        self._updates: list[BookUpdate | None] = []
        self._watch_at_ns = 0
        self._pings = 0
        suffix = ctx.settings.urls.get("spot_depth" if self._is_spot else "usdm_depth", "@depth@100ms")
        self._depth_suffix = suffix
        if self._is_spot:
            self.depth_pair = self.trade_pair = self._pair(SPOT_STREAM, SPOT_STREAM_SPARE)
            self.pairs: tuple[ChannelPair, ...] = (self.depth_pair,)
        else:
            self.depth_pair = self._pair(USDM_PUBLIC, USDM_PUBLIC_SPARE)
            self.trade_pair = self._pair(USDM_MARKET, USDM_MARKET_SPARE)
            self.pairs = (self.depth_pair, self.trade_pair)
        self._session_of = {s.channel: s for pair in self.pairs for s in (pair.active, pair.spare)}
        self._pair_of = {s.channel: pair for pair in self.pairs for s in (pair.active, pair.spare)}
        self._cold: dict[str, Callable[[Any, int], None]] = {
            "markPriceUpdate": self._on_mark_price,
            "contractInfo": self._on_contract_info,
        }

    def _pair(self, first: int, second: int) -> ChannelPair:
        wire = self._ctx.wire
        return ChannelPair(
            ChannelSession(first, wire, self, STREAM_POLICY), ChannelSession(second, wire, self, STREAM_POLICY)
        )

    # --- wishes ---

    def define(self, symbol: Symbol) -> Book:
        """Make the book of an instrument, or start it again after its grid changed."""
        index = symbol.instrument.index
        book = self.books.get(index)
        if book is None:
            book = self.books[index] = Book()
            self.syncs[index] = BookSync(symbol, book)
            self._register(self.syncs[index])
        else:
            # A decoder knows one grid a symbol for good: another grid needs another decoder. The other books keep
            # their place in their streams.
            book.clear()
            self.syncs[index].symbol = symbol
            self.decoder = BinanceDecoder()
            self.feed = Feed(self.decoder)
            for sync in self.syncs.values():
                self._register(sync)
        self._updates.extend([None] * (index + 1 - len(self._updates)))
        self._updates[index] = self.syncs[index].update
        return book

    def _register(self, sync: BookSync) -> None:
        symbol = sync.symbol
        index = symbol.instrument.index
        self.decoder.add_symbol(
            symbol.instrument.symbol,
            index,
            symbol.px_decimals,
            symbol.px_mantissa,
            symbol.qty_decimals,
            symbol.qty_mantissa,
        )
        self.feed.add(index, self._rule, sync.book)

    def open(self, now_ns: int) -> None:
        for pair in self.pairs:
            pair.open(now_ns)

    def close(self, now_ns: int) -> None:
        for pair in self.pairs:
            pair.close(now_ns)

    def subscribe_book(self, index: int, now_ns: int) -> None:
        sync = self.syncs[index]
        sync.is_wanted = True
        sync.watch_from_ns = now_ns
        self.depth_pair.subscribe([self._depth_topic(sync.symbol)], now_ns)
        if not self._is_spot:
            extra = ["!contractInfo"]
            if sync.symbol.instrument.kind is InstrumentKind.PERPETUAL:
                extra.append(f"{sync.symbol.lower}@markPrice@1s")
            self.trade_pair.subscribe(extra, now_ns)

    def subscribe_trades(self, index: int, now_ns: int) -> None:
        self.trade_pair.subscribe([self._trade_topic(self.syncs[index].symbol)], now_ns)

    def unsubscribe(self, index: int, now_ns: int) -> None:
        sync = self.syncs[index]
        sync.is_wanted = False
        self._invalidate(sync, "unsubscribed", now_ns)
        lower = sync.symbol.lower
        self.depth_pair.unsubscribe([self._depth_topic(sync.symbol)], now_ns)
        self.trade_pair.unsubscribe([self._trade_topic(sync.symbol), f"{lower}@markPrice@1s"], now_ns)

    def _depth_topic(self, symbol: Symbol) -> str:
        return symbol.lower + self._depth_suffix

    def _trade_topic(self, symbol: Symbol) -> str:
        # USD-M has no documented @trade; its aggTrade joins the fills of one taker order at one price.
        return symbol.lower + ("@trade" if self._is_spot else "@aggTrade")

    # --- inputs ---

    def on_frame(self, channel: int, payload: bytes, recv_ts_ns: int) -> None:
        self._session_of[channel].last_recv_ns = recv_ts_ns
        feed = self.feed
        code = feed.on_frame(payload, recv_ts_ns)
        if code == OUT_APPLIED:
            update = self._updates[feed.slot]
            assert update is not None, f"slot {feed.slot} was never defined"
            update.recv_ts_ns = recv_ts_ns
            self._emit(update)
        elif code == OUT_TRADE:
            if channel == self.trade_pair.active.channel:  # the spare repeats every trade while both are open
                self._on_trades(feed.slot, recv_ts_ns)
        elif code == OUT_UNSYNCED:
            self._on_unsynced(self.syncs[feed.slot], payload, recv_ts_ns)
        elif code == OUT_OTHER:
            self._on_other(channel, payload, recv_ts_ns)
        elif code in (OUT_GAP, OUT_CROSSED):
            sync = self.syncs[feed.slot]
            self._invalidate(sync, "gap" if code == OUT_GAP else "crossed", recv_ts_ns)
            self._on_unsynced(sync, payload, recv_ts_ns)
        elif code < 0:
            self.refused[code] = self.refused.get(code, 0) + 1

    def on_timer(self, now_ns: int) -> None:
        for pair in self.pairs:
            pair.on_timer(now_ns)
            self._report(pair, "", now_ns)
        if now_ns < self._watch_at_ns:
            return
        self._watch_at_ns = now_ns + WATCH_NS
        for sync in self.syncs.values():
            if not sync.is_wanted:
                continue
            if not sync.book.is_valid and self.depth_pair.state is ConnState.UP and now_ns >= sync.retry_at_ns:
                self._ask_snapshot(sync, now_ns)
            self._watch(sync, now_ns)

    # --- books ---

    def _invalidate(self, sync: BookSync, reason: str, now_ns: int) -> None:
        sync.book.invalidate()
        sync.buffer.clear()
        if not sync.is_invalid_told:
            sync.is_invalid_told = True
            self._emit(BookInvalid(now_ns, sync.symbol.instrument.index, reason))

    def _on_unsynced(self, sync: BookSync, payload: bytes, now_ns: int) -> None:
        if not sync.is_wanted:
            return
        if len(sync.buffer) >= BUFFER_MAX:
            sync.buffer.clear()  # a later snapshot joins what comes from here on
        sync.buffer.append((payload, now_ns))
        if now_ns >= sync.retry_at_ns:
            self._ask_snapshot(sync, now_ns)

    def _ask_snapshot(self, sync: BookSync, now_ns: int) -> None:
        if sync.is_asked or self._ctx.is_stopping:
            return
        sync.is_asked = True
        sync.asked_at_ns = now_ns
        limit, weight = depth_limit(self._side.market, self._ctx.settings.book_depth)

        def on_answer(answer: RestAnswer, now_ns: int) -> None:
            sync.is_asked = False
            if not self._ctx.is_stopping and sync.is_wanted:
                self._on_snapshot(sync, answer, now_ns)

        params = f"symbol={sync.symbol.instrument.symbol}&limit={limit}"
        self._ctx.get(self._side, self._side.paths.depth, params, weight, on_answer, now_ns)

    def _on_snapshot(self, sync: BookSync, answer: RestAnswer, now_ns: int) -> None:
        if sync.book.is_valid or self.depth_pair.state is not ConnState.UP:
            return
        index = sync.symbol.instrument.index
        if not answer.is_ok or self.feed.on_snapshot(index, answer.body, now_ns) != OUT_SNAPSHOT:
            self._retry_snapshot(sync, now_ns)
            return
        for payload, recv_ts_ns in sync.buffer:
            # A snapshot older than the buffer shows as a gap at its first event: the buffer stays for the next one.
            if self.feed.on_frame(payload, recv_ts_ns) not in (OUT_APPLIED, OUT_STALE):
                sync.book.invalidate()
                self._retry_snapshot(sync, now_ns)
                return
        sync.buffer.clear()
        sync.attempts = 0
        sync.backoff.reset()
        sync.watch_from_ns = now_ns
        sync.seen_seq = sync.book.last_seq
        sync.is_invalid_told = False
        sync.update.recv_ts_ns = now_ns
        self._emit(sync.update)

    def _retry_snapshot(self, sync: BookSync, now_ns: int) -> None:
        sync.attempts += 1
        if sync.attempts >= ATTEMPTS_MAX:
            sync.attempts = 0
            self.depth_pair.active.reconnect(f"{sync.symbol.instrument.symbol}: no snapshot joins the stream", now_ns)
            return
        sync.retry_at_ns = now_ns + sync.backoff.next_ns()
        self._ctx.wire.set_timer(sync.retry_at_ns)
        self._watch_at_ns = min(self._watch_at_ns, sync.retry_at_ns)

    def _watch(self, sync: BookSync, now_ns: int) -> None:
        # Stale: the socket answers (else it is closed for silence), and this book had no event for too long.
        if not sync.book.is_valid:
            return
        if sync.book.last_seq != sync.seen_seq:
            sync.seen_seq = sync.book.last_seq
            sync.stale_ns = STALE_NS
        if now_ns - max(sync.book.recv_ts_ns, sync.watch_from_ns) < sync.stale_ns:
            return
        sync.stale_ns = min(sync.stale_ns * 2, STALE_MAX_NS)  # a market may just be quiet: do not ask for ever
        self._invalidate(sync, "stale", now_ns)
        self._ask_snapshot(sync, now_ns)

    # --- the rest of the stream ---

    def _on_trades(self, index: int, recv_ts_ns: int) -> None:
        for side, px_ticks, qty_lots, exch_ts_ns in self.feed.trades:
            self._emit(TradePrint(recv_ts_ns, index, Side(side), px_ticks, qty_lots, exch_ts_ns))

    def _on_other(self, channel: int, payload: bytes, recv_ts_ns: int) -> None:
        try:
            message = orjson.loads(payload)
            message = message.get("data", message)
            event = message.get("e")
            if event == "serverShutdown":
                self._on_shutdown(channel, recv_ts_ns)
            elif event is not None:
                handler = self._cold.get(event)
                if handler is not None:
                    handler(message, recv_ts_ns)
            elif "id" in message:
                self._on_ack(channel, message, recv_ts_ns)
        except NOT_UNDERSTOOD:
            self.garbled += 1

    def _on_ack(self, channel: int, message: Any, now_ns: int) -> None:
        request_id = message["id"]
        if not isinstance(request_id, int) or request_id >= PING_ID:
            return
        is_ok = "error" not in message and "code" not in message
        session = self._session_of[channel]
        topics = session.on_ack(request_id, is_ok, now_ns, str(message.get("error", message.get("msg", ""))))
        if not is_ok:
            return
        for sync in self.syncs.values():
            if sync.is_wanted and not sync.book.is_valid and self._depth_topic(sync.symbol) in topics:
                sync.watch_from_ns = now_ns
                self._ask_snapshot(sync, now_ns)

    def _on_mark_price(self, message: Any, recv_ts_ns: int) -> None:
        symbol = self._side.symbols.get(message["s"])
        if symbol is None or message.get("st", 1) != 1:
            return
        rate_e9 = symbol.rate_e9(message["r"] or "0")
        self._emit(
            MarkPrice(recv_ts_ns, symbol.instrument.index, symbol.px(message["p"]), rate_e9, int(message["T"]) * MS)
        )

    def _on_contract_info(self, message: Any, recv_ts_ns: int) -> None:
        symbol = self._side.symbols.get(message["s"])
        if symbol is None or message.get("st", 1) != 1:
            return
        self._ctx.set_state(symbol, state_from_status(message["cs"]), recv_ts_ns)

    def _on_shutdown(self, channel: int, recv_ts_ns: int) -> None:
        self._emit(VenueNotice(recv_ts_ns, Venue.BINANCE, "shutdown"))
        pair = self._pair_of[channel]
        if channel == pair.active.channel:
            pair.renew(recv_ts_ns)

    # --- owner of the sessions ---

    def on_connected(self, channel: int, now_ns: int) -> None:
        self._session_of[channel].on_connected(now_ns)

    def on_disconnected(self, channel: int, reason: str, now_ns: int) -> None:
        self._session_of[channel].on_disconnected(reason, now_ns)

    def channel_url(self, channel: int) -> str:
        base = self._ctx.urls
        if self._is_spot:
            return f"{base.spot_stream}/ws"
        path = "public" if channel in (USDM_PUBLIC, USDM_PUBLIC_SPARE) else "market"
        return f"{base.usdm_stream}/{path}/ws"

    def channel_login(self, channel: int, now_ns: int) -> bytes | None:
        return None

    def channel_ping(self, channel: int, now_ns: int) -> bytes:
        self._pings += 1
        return b'{"method":"LIST_SUBSCRIPTIONS","id":%d}' % (PING_ID + self._pings)

    def channel_subscribe(self, channel: int, request_id: int, topics: Sequence[str], is_subscribe: bool) -> bytes:
        method = b"SUBSCRIBE" if is_subscribe else b"UNSUBSCRIBE"
        return b'{"method":"%b","params":%b,"id":%d}' % (method, orjson.dumps(list(topics)), request_id)

    def channel_changed(self, channel: int, state: ConnState, reason: str, now_ns: int) -> None:
        pair = self._pair_of[channel]
        pair.advance(now_ns)
        self._report(pair, reason, now_ns)

    def _report(self, pair: ChannelPair, reason: str, now_ns: int) -> None:
        state = pair.take_change()
        if state is None:
            return
        self._emit(ChannelState(now_ns, Venue.BINANCE, pair.channel, state, reason))
        if state is not ConnState.UP and pair is self.depth_pair:
            for sync in self.syncs.values():
                self._invalidate(sync, "disconnected", now_ns)
