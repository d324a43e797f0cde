"""Bybit's public streams: order books of four depths, trades, tickers.

A book topic keeps the window it has published and sends the difference to the core's book at its own pace, so a delta
also deletes what was pushed out of the window and inserts what slid in. `u` counts the topic's messages, `seq` is the
symbol's cross sequence. Source: bybit-exchange/docs, "Orderbook", "Trade", "Ticker", snapshot 2026-07-24.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from engine.types import Side
from tools.exchange.bybit.rows import SIDE_WORDS, exec_id, px_text, rate_text, seq_of
from tools.exchange.core import VenueCore
from tools.exchange.model import BookChange, Event, Listing, PublicTrade, fixed_text

MS: Final = 1_000_000
EVERY_NS: Final = {1: 10 * MS, 50: 20 * MS, 200: 100 * MS, 1000: 200 * MS}
REPEAT_NS: Final = 3_000 * MS
TICKER_NS: Final = 100 * MS
TRADES_MAX: Final = 1024
FUNDING_HOURS: Final = 8
DAY_NS: Final = 86_400_000 * MS

Send = Callable[[int, bytes], None]
Window = tuple[dict[int, int], dict[int, int]]


@dataclass(slots=True, eq=False)
class BookTopic:
    """One `orderbook.{depth}.{symbol}`; `window` is what subscribers hold."""

    name: str
    listing: Listing
    depth: int
    u: int
    window: Window = field(default_factory=lambda: ({}, {}))
    conns: dict[int, None] = field(default_factory=dict)
    is_dirty: bool = False
    sent_ns: int = 0
    due_ns: int = 0
    seq: int = 0
    cts_ms: int = 0


@dataclass(slots=True, eq=False)
class Stats:
    """What a ticker says of the last day; the exchange is young, so the day is its life."""

    listing: Listing
    open_px: int = 0
    high_px: int = 0
    low_px: int = 0
    last_px: int = 0
    lots: int = 0
    turnover: int = 0
    tick_word: str = "ZeroPlusTick"
    sent: dict[str, str] = field(default_factory=dict)
    due_ns: int = 0

    def add(self, trade: PublicTrade) -> None:
        px, listing = trade.px_ticks, self.listing
        if px != self.last_px:
            self.tick_word = "PlusTick" if px > self.last_px else "MinusTick"
        elif self.tick_word in ("PlusTick", "MinusTick"):
            self.tick_word = f"Zero{self.tick_word}"
        self.last_px = px
        self.open_px = self.open_px or px
        self.high_px = max(self.high_px, px)
        self.low_px = min(self.low_px or px, px)
        self.lots += trade.qty_lots
        self.turnover += listing.value(px, trade.qty_lots)


class PublicStreams:
    """All topics of one category. `send(conn_id, payload)` writes one frame."""

    def __init__(self, core: VenueCore, listings: Iterable[Listing], send: Send) -> None:
        self.core = core
        self._send = send
        self.listings = {listing.symbol: listing for listing in listings}
        self.stats = {listing.index: Stats(listing) for listing in self.listings.values()}
        self._books: dict[str, BookTopic] = {}
        self._by_listing: dict[int, list[BookTopic]] = {listing.index: [] for listing in self.listings.values()}
        self._trades: dict[int, dict[int, None]] = {listing.index: {} for listing in self.listings.values()}
        self._tickers: dict[int, dict[int, None]] = {listing.index: {} for listing in self.listings.values()}
        self._topics: dict[int, dict[str, None]] = {}  # by connection
        self._due_ns = 0

    # --- subscriptions ----------------------------------------------------------------------------------------------

    def problem(self, conn_id: int, topic: str) -> str:
        """Why a topic cannot be subscribed, empty when it can."""
        if topic in self._topics.get(conn_id, {}):
            return f"error:already subscribed,topic:{topic}"
        if self._parse(topic) is None:
            return f"error:handler not found,topic:{topic}"
        return ""

    def subscribe(self, conn_id: int, topic: str, now_ns: int) -> None:
        parsed = self._parse(topic)
        assert parsed is not None, topic
        kind, depth, listing = parsed
        self._topics.setdefault(conn_id, {})[topic] = None
        if kind == "orderbook":
            self._subscribe_book(conn_id, topic, listing, depth, now_ns)
        elif kind == "publicTrade":
            self._trades[listing.index][conn_id] = None
        else:
            self._tickers[listing.index][conn_id] = None
            fields = self._ticker_fields(listing, now_ns)
            self.stats[listing.index].sent = fields
            self._send(conn_id, self._ticker_frame(listing, fields, "snapshot", now_ns))

    def unsubscribe(self, conn_id: int, topic: str) -> bool:
        parsed = self._parse(topic)
        if parsed is None or topic not in self._topics.get(conn_id, {}):
            return False
        kind, _, listing = parsed
        del self._topics[conn_id][topic]
        if kind == "orderbook":
            self._books[topic].conns.pop(conn_id, None)
        elif kind == "publicTrade":
            self._trades[listing.index].pop(conn_id, None)
        else:
            self._tickers[listing.index].pop(conn_id, None)
        return True

    def forget(self, conn_id: int) -> None:
        """The connection is gone."""
        for topic in list(self._topics.get(conn_id, ())):
            self.unsubscribe(conn_id, topic)
        self._topics.pop(conn_id, None)

    def topics(self, conn_id: int) -> Iterable[str]:
        return self._topics.get(conn_id, ())

    def _parse(self, topic: str) -> tuple[str, int, Listing] | None:
        kind, _, rest = topic.partition(".")
        depth = 0
        if kind == "orderbook":
            text, _, rest = rest.partition(".")
            depth = int(text) if text.isdigit() else 0
            if depth not in EVERY_NS:
                return None
        elif kind not in ("publicTrade", "tickers"):
            return None
        listing = self.listings.get(rest)
        return None if listing is None else (kind, depth, listing)

    # --- books ------------------------------------------------------------------------------------------------------

    def _subscribe_book(self, conn_id: int, topic: str, listing: Listing, depth: int, now_ns: int) -> None:
        book = self._books.get(topic)
        if book is None:
            # Never 1: that says "the service was restarted".
            book = self._books[topic] = BookTopic(topic, listing, depth, u=18_521_287 + depth)
            self._by_listing[listing.index].append(book)
        if not book.conns:
            self._restart(book, now_ns)
        book.conns[conn_id] = None
        self._send(conn_id, self._book_frame(book, "snapshot", *book.window, now_ns))

    def _restart(self, book: BookTopic, now_ns: int) -> None:
        book.window = self._current(book)
        book.u += 1
        book.seq, book.cts_ms = seq_of(book.listing), now_ns // MS
        book.is_dirty, book.sent_ns = False, now_ns
        book.due_ns = now_ns + EVERY_NS[book.depth]
        self._due_ns = min(self._due_ns, book.due_ns)

    def restart_service(self, listing: Listing, now_ns: int) -> None:
        """What a restarted service does: a snapshot with u = 1 in mid-stream."""
        for book in self._by_listing[listing.index]:
            self._restart(book, now_ns)
            book.u = 1
            self._publish(book, self._book_frame(book, "snapshot", *book.window, now_ns))

    def _current(self, book: BookTopic) -> Window:
        depth, listing = self.core.depth, book.listing
        return dict(depth(listing, Side.BUY, book.depth)), dict(depth(listing, Side.SELL, book.depth))

    def _flush_book(self, book: BookTopic, now_ns: int) -> None:
        bids, asks = self._current(book)
        changed = changes(book.window[0], bids), changes(book.window[1], asks)
        book.window = bids, asks
        book.is_dirty = False
        if not changed[0] and not changed[1]:
            return
        book.u += 1
        book.seq = seq_of(book.listing)
        book.sent_ns = now_ns
        hooks = self.core.hooks
        if hooks.drop_book_events:
            hooks.drop_book_events -= 1
            return
        frame = (
            self._book_frame(book, "snapshot", bids, asks, now_ns)
            if book.depth == 1
            else self._book_frame(book, "delta", *changed, now_ns)
        )
        self._publish(book, frame)
        if hooks.duplicate_book_events:
            hooks.duplicate_book_events -= 1
            self._publish(book, frame)

    def _publish(self, book: BookTopic, frame: bytes) -> None:
        stalled = self.core.hooks.stalled_streams
        if stalled and not stalled.isdisjoint((book.name, book.listing.symbol, "*")):
            return
        for conn_id in book.conns:
            self._send(conn_id, frame)

    def _book_frame(self, book: BookTopic, kind: str, bids: dict[int, int], asks: dict[int, int], now_ns: int) -> bytes:
        listing = book.listing
        fields: dict[str, Any] = {"topic": book.name}
        # Spot and the one-level book put `ts` before `type`; the other futures levels put it after.
        if listing.is_spot or book.depth == 1:
            fields |= {"ts": now_ns // MS, "type": kind}
        else:
            fields |= {"type": kind, "ts": now_ns // MS}
        fields["data"] = {
            "s": listing.symbol,
            "b": level_rows(listing, bids),
            "a": level_rows(listing, asks),
            "u": book.u,
            "seq": book.seq,
        }
        fields["cts"] = book.cts_ms
        return orjson.dumps(fields)

    def depth_answer(self, listing: Listing, limit: int, now_ns: int) -> dict[str, Any]:
        """REST depth: with `u` of the 1000-level stream, and its state where it has subscribers."""
        book = self._books.get(f"orderbook.1000.{listing.symbol}")
        if book is not None and book.conns:
            bids, asks, u, seq = *book.window, book.u, book.seq
        else:
            bids = dict(self.core.depth(listing, Side.BUY, limit))
            asks = dict(self.core.depth(listing, Side.SELL, limit))
            u, seq = (book.u if book is not None else 18_522_287), seq_of(listing)
        return {
            "s": listing.symbol,
            "b": level_rows(listing, dict(list(bids.items())[:limit])),
            "a": level_rows(listing, dict(list(asks.items())[:limit])),
            "ts": now_ns // MS,
            "u": u,
            "seq": seq,
            "cts": now_ns // MS,
        }

    # --- events of the core -----------------------------------------------------------------------------------------

    def on_events(self, events: list[Event]) -> None:
        trades: dict[int, list[PublicTrade]] = {}
        for event in events:
            if isinstance(event, BookChange):
                topics = self._by_listing.get(event.listing.index)
                if topics:
                    self._mark(topics, event.ts_ns)
            elif isinstance(event, PublicTrade) and event.listing.index in self.stats:
                trades.setdefault(event.listing.index, []).append(event)
        for index, batch in trades.items():
            self._publish_trades(index, batch)

    def _mark(self, topics: list[BookTopic], ts_ns: int) -> None:
        for book in topics:
            if not book.is_dirty and book.conns:
                book.is_dirty = True
                # The first change after a quiet time goes out after one interval of this depth.
                book.due_ns = max(book.due_ns, ts_ns)
                self._due_ns = min(self._due_ns, book.due_ns)
            book.cts_ms = ts_ns // MS

    def _publish_trades(self, index: int, batch: list[PublicTrade]) -> None:
        stats, conns = self.stats[index], self._trades[index]
        rows = []
        for trade in batch:
            stats.add(trade)
            if conns:
                rows.append(self._trade_row(trade, stats))
        listing = stats.listing
        if not conns or not self.core.hooks.stalled_streams.isdisjoint((f"publicTrade.{listing.symbol}", "*")):
            return
        for start in range(0, len(rows), TRADES_MAX):
            frame = orjson.dumps(
                {
                    "topic": f"publicTrade.{listing.symbol}",
                    "type": "snapshot",
                    "ts": batch[-1].ts_ns // MS,
                    "data": rows[start : start + TRADES_MAX],
                }
            )
            for conn_id in conns:
                self._send(conn_id, frame)

    def _trade_row(self, trade: PublicTrade, stats: Stats) -> dict[str, Any]:
        listing = trade.listing
        row: dict[str, Any] = {
            "T": trade.ts_ns // MS,
            "s": listing.symbol,
            "S": SIDE_WORDS[trade.taker_side],
            "v": listing.qty_text(trade.qty_lots),
            "p": px_text(listing, trade.px_ticks),
        }
        if not listing.is_spot:
            row["L"] = stats.tick_word
        row |= {"i": exec_id(listing, trade.trade_id), "BT": False, "RPI": False, "seq": seq_of(listing)}
        return row

    # --- tickers ----------------------------------------------------------------------------------------------------

    def _ticker_fields(self, listing: Listing, now_ns: int) -> dict[str, str]:
        stats = self.stats[listing.index]
        last = listing.last_px_ticks or listing.mark_px_ticks
        open_px = stats.open_px or last
        change = (last - open_px) * 10**4 // open_px if open_px else 0
        fields = {
            "symbol": listing.symbol,
            "lastPrice": px_text(listing, last),
            "highPrice24h": px_text(listing, stats.high_px or last),
            "lowPrice24h": px_text(listing, stats.low_px or last),
            "prevPrice24h": px_text(listing, open_px),
            "volume24h": listing.qty_text(stats.lots),
            "turnover24h": fixed_text(stats.turnover, 8, 4),
            "price24hPcnt": fixed_text(change, 4),
        }
        if listing.is_spot:
            return fields | {"usdIndexPrice": px_text(listing, listing.mark_px_ticks)}
        bid, bid_qty, ask, ask_qty = self.core.best(listing)
        mark = px_text(listing, listing.mark_px_ticks)
        return fields | {
            "tickDirection": stats.tick_word,
            "prevPrice1h": px_text(listing, open_px),
            "markPrice": mark,
            "indexPrice": mark,
            "openInterest": "0",
            "openInterestValue": "0",
            "fundingIntervalHour": str(FUNDING_HOURS),
            "fundingCap": "0.005",
            "nextFundingTime": str(next_funding_ms(now_ns)),
            "fundingRate": rate_text(listing.funding_rate_e8),
            "bid1Price": px_text(listing, bid),
            "bid1Size": listing.qty_text(bid_qty),
            "ask1Price": px_text(listing, ask),
            "ask1Size": listing.qty_text(ask_qty),
        }

    def _ticker_frame(self, listing: Listing, fields: dict[str, str], kind: str, now_ns: int) -> bytes:
        frame: dict[str, Any] = {"topic": f"tickers.{listing.symbol}", "type": kind, "data": fields}
        return orjson.dumps(frame | {"cs": seq_of(listing), "ts": now_ns // MS})

    def _flush_ticker(self, stats: Stats, now_ns: int) -> None:
        conns, listing = self._tickers[stats.listing.index], stats.listing
        if not conns:
            return
        fields = self._ticker_fields(listing, now_ns)
        kind = "snapshot"
        if not listing.is_spot:
            kind = "delta"
            changed = {name: value for name, value in fields.items() if stats.sent.get(name) != value}
            stats.sent = fields
            if not changed:
                return
            fields = {"symbol": listing.symbol} | changed
        frame = self._ticker_frame(listing, fields, kind, now_ns)
        for conn_id in conns:
            self._send(conn_id, frame)

    def ticker_row(self, listing: Listing, now_ns: int) -> dict[str, str]:
        """REST ticker: spot has the best prices there, unlike the stream."""
        bid, bid_qty, ask, ask_qty = self.core.best(listing)
        best = {
            "bid1Price": px_text(listing, bid),
            "bid1Size": listing.qty_text(bid_qty),
            "ask1Price": px_text(listing, ask),
            "ask1Size": listing.qty_text(ask_qty),
        }
        return self._ticker_fields(listing, now_ns) | best

    # --- time -------------------------------------------------------------------------------------------------------

    def next_due_ns(self) -> int:
        return self._due_ns if self._topics else 2**63 - 1

    def on_timer(self, now_ns: int) -> None:
        due_ns = now_ns + TICKER_NS
        for book in self._books.values():
            if not book.conns:
                continue
            if book.is_dirty and now_ns >= book.due_ns:
                self._flush_book(book, now_ns)
                book.due_ns = now_ns + EVERY_NS[book.depth]
            elif book.depth == 1 and now_ns - book.sent_ns >= REPEAT_NS:
                # The same message, `u` and all: the sign of life of a book without changes.
                book.sent_ns = now_ns
                self._publish(book, self._book_frame(book, "snapshot", *book.window, now_ns))
            if book.is_dirty:
                due_ns = min(due_ns, book.due_ns)
            elif book.depth == 1:
                due_ns = min(due_ns, book.sent_ns + REPEAT_NS)
        for stats in self.stats.values():
            if now_ns >= stats.due_ns:
                stats.due_ns = now_ns + TICKER_NS
                self._flush_ticker(stats, now_ns)
        self._due_ns = due_ns


def changes(before: dict[int, int], after: dict[int, int]) -> dict[int, int]:
    """Levels of `after` that are new or different, and 0 for those that are gone. Empty when nothing changed."""
    changed = {px: qty for px, qty in after.items() if before.get(px) != qty}
    changed.update((px, 0) for px in before if px not in after)
    return changed


def level_rows(listing: Listing, levels: dict[int, int]) -> list[list[str]]:
    return [[px_text(listing, px), listing.qty_text(qty) if qty else "0"] for px, qty in levels.items()]


def next_funding_ms(now_ns: int) -> int:
    period_ms = FUNDING_HOURS * 3_600_000
    return (now_ns // MS // period_ms + 1) * period_ms
