"""Public market streams: subscriptions, conflation and the payloads. Nothing here knows an account.

Paths: `/ws...` and `/stream...` are spot; `/public`, `/market`, `/private` are USD-M, and a stream asked for on the
wrong one is acked and silent, as at the venue. A trailing `/<int>` is an index that clients add and means nothing.
One payload is rendered for a stream and event, whoever listens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from engine.types import Market, Side
from tools.exchange.binance.market_data import MarketData, next_funding_ms, px_text, qty_text
from tools.exchange.binance.tape import AggTrade, Tape
from tools.exchange.core import VenueCore
from tools.exchange.front import Outbox
from tools.exchange.model import BookChange, Event, Listing, PublicTrade

NS_PER_MS: Final = 1_000_000
SPOT_SPEEDS: Final = {"": 1000, "100ms": 100}
USDM_SPEEDS: Final = {"": 250, "100ms": 100, "250ms": 250, "500ms": 500, "0ms": 0}
PUBLIC_KINDS: Final = ("bookTicker", "depth", "rpiDepth", "trade")


@dataclass(slots=True, eq=False)
class Topic:
    """One stream with at least one listener."""

    name: str
    kind: str
    listing: Listing
    interval_ns: int  # 0: at once
    levels: int = 0
    is_micro: bool = False
    conns: dict[int, bool] = field(default_factory=dict)  # conn: wrapped
    changes: dict[tuple[Side, int], int] = field(default_factory=dict)  # level: qty since the last event
    first_id: int = 0
    last_id: int = 0
    sent_id: int = 0  # USD-M `pu`
    sent: object = None  # bookTicker: what was sent last
    due_ns: int = 0


class Streams:
    def __init__(self, core: VenueCore, tapes: list[Tape], outbox: Outbox, desks: dict[Market, MarketData]) -> None:
        self.core = core
        self.tapes = tapes
        self.outbox = outbox
        self.desks = desks
        self.topics: dict[tuple[str, str, bool], Topic] = {}  # (route, name, micro)
        self._by_listing: list[list[Topic]] = [[] for _ in core.listings]
        self._next_due_ns = 2**63 - 1

    # --- subscriptions ----------------------------------------------------------------------------------------------

    def add(self, conn_id: int, route: str, name: str, *, wraps: bool, is_micro: bool, now_ns: int) -> None:
        """Unknown names are accepted and stay silent."""
        topic = self.topics.get((route, name, is_micro))
        if topic is None:
            topic = self._parse(route, name)
            if topic is None:
                return
            topic.is_micro = is_micro
            topic.sent_id = topic.listing.update_id
            topic.due_ns = self._align(topic, now_ns)
            self.topics[route, name, is_micro] = topic
            self._by_listing[topic.listing.index].append(topic)
            self._next_due_ns = min(self._next_due_ns, topic.due_ns)
        topic.conns[conn_id] = wraps

    def rewrap(self, conn_id: int, *, wraps: bool) -> None:
        """SET_PROPERTY combined."""
        for topic in self.topics.values():
            if conn_id in topic.conns:
                topic.conns[conn_id] = wraps

    def remove(self, conn_id: int, route: str, name: str, *, is_micro: bool) -> None:
        topic = self.topics.get((route, name, is_micro))
        if topic is not None and topic.conns.pop(conn_id, None) is not None and not topic.conns:
            del self.topics[route, name, is_micro]
            self._by_listing[topic.listing.index].remove(topic)

    def _align(self, topic: Topic, now_ns: int) -> int:
        if not topic.interval_ns:
            return 2**63 - 1
        return now_ns - now_ns % topic.interval_ns + topic.interval_ns

    def _parse(self, route: str, name: str) -> Topic | None:
        symbol, _, rest = name.partition("@")
        market = Market.SPOT if route == "spot" else Market.LINEAR
        listing = self.core.listing(market, symbol.upper())
        if listing is None or symbol != symbol.lower():
            return None
        kind, _, speed = rest.partition("@")
        if route in ("public", "market") and (kind.rstrip("0123456789") in PUBLIC_KINDS) != (route == "public"):
            return None
        speeds = SPOT_SPEEDS if market is Market.SPOT else USDM_SPEEDS
        if kind in ("depth", "depth5", "depth10", "depth20") and speed in speeds:
            levels = int(kind[5:] or 0)
            return Topic(name, "partial" if levels else "depth", listing, speeds[speed] * NS_PER_MS, levels)
        if kind in ("bookTicker", "trade", "aggTrade") and not speed:
            return Topic(name, kind, listing, 0)
        if kind in ("ticker", "miniTicker") and not speed:
            return Topic(name, kind, listing, 1000 * NS_PER_MS)
        if kind == "markPrice" and market is Market.LINEAR and speed in ("", "1s"):
            return Topic(name, kind, listing, (1000 if speed else 3000) * NS_PER_MS)
        return None

    # --- events -----------------------------------------------------------------------------------------------------

    def on_events(self, batch: list[Event], now_ns: int, skew_ns: int) -> None:
        touched: dict[int, list[PublicTrade]] = {}
        books: dict[int, Listing] = {}
        for event in batch:
            if isinstance(event, BookChange):
                books[event.listing.index] = event.listing
                for topic in self._by_listing[event.listing.index]:
                    if topic.kind in ("depth", "partial"):
                        topic.changes[event.side, event.px_ticks] = event.qty_lots
                        topic.first_id = topic.first_id or event.update_id
                        topic.last_id = event.update_id
            elif isinstance(event, PublicTrade):
                touched.setdefault(event.listing.index, []).append(event)
        for index, trades in touched.items():
            aggs = self.tapes[index].add(trades)
            self._send_trades(index, trades, aggs, now_ns, skew_ns)
        for index, listing in books.items():
            for topic in self._by_listing[index]:
                if topic.kind == "bookTicker":
                    self._send_bbo(topic, listing, now_ns, skew_ns)
                elif topic.interval_ns == 0 and topic.changes:
                    self._send_depth(topic, now_ns, skew_ns)

    def _send_trades(
        self, index: int, trades: list[PublicTrade], aggs: list[AggTrade], now_ns: int, skew_ns: int
    ) -> None:
        for topic in self._by_listing[index]:
            if topic.kind == "trade":
                for trade in trades:
                    self._send(topic, self._trade_row(topic, trade, now_ns + skew_ns, skew_ns), now_ns)
            elif topic.kind == "aggTrade":
                for agg in aggs:
                    self._send(topic, self._agg_row(topic, agg, now_ns + skew_ns, skew_ns), now_ns)

    def next_due_ns(self) -> int:
        return self._next_due_ns

    def on_timer(self, now_ns: int, skew_ns: int) -> None:
        if now_ns < self._next_due_ns:
            return
        for topic in list(self.topics.values()):
            if now_ns >= topic.due_ns:
                topic.due_ns = self._align(topic, now_ns)
                self._flush(topic, now_ns, skew_ns)
        self._next_due_ns = min((topic.due_ns for topic in self.topics.values()), default=2**63 - 1)

    def _flush(self, topic: Topic, now_ns: int, skew_ns: int) -> None:
        if topic.kind in ("depth", "partial"):
            if topic.changes:
                self._send_depth(topic, now_ns, skew_ns)
        elif topic.kind == "markPrice":
            self._send(topic, self._mark_row(topic, now_ns + skew_ns), now_ns)
        else:
            self._send(topic, self._ticker_row(topic, now_ns, skew_ns), now_ns)

    # --- payloads ---------------------------------------------------------------------------------------------------

    def _send(self, topic: Topic, row: dict[str, Any], now_ns: int) -> None:
        hooks = self.core.hooks
        if not hooks.stalled_streams.isdisjoint((topic.name, topic.listing.symbol, "*")):
            return
        if topic.kind == "depth":
            if hooks.drop_book_events > 0:
                hooks.drop_book_events -= 1
                return
            if hooks.duplicate_book_events > 0:
                hooks.duplicate_book_events -= 1
                self._frame(topic, row, now_ns)
        self._frame(topic, row, now_ns)

    def _frame(self, topic: Topic, row: dict[str, Any], now_ns: int) -> None:
        raw = orjson.dumps(row)
        wrapped = b""
        if any(topic.conns.values()):
            wrapped = b'{"stream":"%b","data":%b}' % (topic.name.encode(), raw)
        for conn_id, wraps in topic.conns.items():
            self.outbox.send(conn_id, wrapped if wraps else raw, now_ns)

    def _stamp(self, topic: Topic, utc_ns: int) -> int:
        return utc_ns // 1000 if topic.is_micro else utc_ns // NS_PER_MS

    def _send_bbo(self, topic: Topic, listing: Listing, now_ns: int, skew_ns: int) -> None:
        best = self.core.best(listing)
        if best == topic.sent or not (best[1] and best[3]):
            return
        topic.sent = best
        stamp = self._stamp(topic, now_ns + skew_ns)
        prices = {
            "s": listing.symbol,
            "b": px_text(listing, best[0]),
            "B": qty_text(listing, best[1]),
            "a": px_text(listing, best[2]),
            "A": qty_text(listing, best[3]),
        }
        if listing.is_spot:
            self._send(topic, {"u": listing.update_id} | prices, now_ns)
            return
        head = {"e": "bookTicker", "u": listing.update_id}
        tail = {"T": stamp, "E": stamp, "ps": listing.symbol, "st": 1}
        self._send(topic, head | prices | tail, now_ns)

    def _send_depth(self, topic: Topic, now_ns: int, skew_ns: int) -> None:
        listing, stamp = topic.listing, self._stamp(topic, now_ns + skew_ns)
        if topic.kind == "partial":
            desk = self.desks[listing.market]
            bids, asks = (desk.levels(listing, side, topic.levels) for side in (Side.BUY, Side.SELL))
        else:
            rows: dict[Side, list[list[str]]] = {Side.BUY: [], Side.SELL: []}
            for (side, px), qty in topic.changes.items():
                rows[side].append([px_text(listing, px), qty_text(listing, qty)])
            bids, asks = rows[Side.BUY], rows[Side.SELL]
        if listing.is_spot and topic.kind == "partial":
            row: dict[str, Any] = {"lastUpdateId": topic.last_id, "bids": bids, "asks": asks}
        else:
            row = {"e": "depthUpdate", "E": stamp}
            if not listing.is_spot:
                row["T"] = stamp
            row |= {"s": listing.symbol, "U": topic.first_id, "u": topic.last_id}
            if not listing.is_spot:
                row["pu"] = topic.sent_id
            row |= {"b": bids, "a": asks}
            if not listing.is_spot:
                row |= {"ps": listing.symbol, "st": 1}
        topic.sent_id = topic.last_id
        topic.changes.clear()
        topic.first_id = 0
        self._send(topic, row, now_ns)

    def _trade_row(self, topic: Topic, trade: PublicTrade, utc_ns: int, skew_ns: int) -> dict[str, Any]:
        listing = topic.listing
        row: dict[str, Any] = {
            "e": "trade",
            "E": self._stamp(topic, utc_ns),
            "s": listing.symbol,
            "t": trade.trade_id,
            "p": px_text(listing, trade.px_ticks),
            "q": qty_text(listing, trade.qty_lots),
            "T": self._stamp(topic, trade.ts_ns + skew_ns),
            "m": trade.taker_side is Side.SELL,
        }
        return row | ({"M": True} if listing.is_spot else {"X": "MARKET", "st": 1})

    def _agg_row(self, topic: Topic, agg: AggTrade, utc_ns: int, skew_ns: int) -> dict[str, Any]:
        listing = topic.listing
        row: dict[str, Any] = {
            "e": "aggTrade",
            "E": self._stamp(topic, utc_ns),
            "s": listing.symbol,
            "a": agg.agg_id,
            "p": px_text(listing, agg.px_ticks),
            "q": qty_text(listing, agg.qty_lots),
        }
        if not listing.is_spot:
            row["nq"] = row["q"]
        row |= {"f": agg.first_id, "l": agg.last_id, "T": self._stamp(topic, agg.ts_ns + skew_ns)}
        row["m"] = agg.taker_side is Side.SELL
        return row | ({"M": True} if listing.is_spot else {"st": 1})

    def _mark_row(self, topic: Topic, utc_ns: int) -> dict[str, Any]:
        listing = topic.listing
        mark = listing.px_text(listing.mark_px_ticks, 8)
        return {
            "e": "markPriceUpdate",
            "E": utc_ns // NS_PER_MS,
            "s": listing.symbol,
            "p": mark,
            "ap": mark,
            "P": mark,
            "i": mark,
            "r": listing.px_text(0, 8) if not listing.funding_rate_e8 else f"{listing.funding_rate_e8 / 10**8:.8f}",
            "T": next_funding_ms(listing, utc_ns // NS_PER_MS),
            "st": 1,
        }

    def _ticker_row(self, topic: Topic, now_ns: int, skew_ns: int) -> dict[str, Any]:
        listing = topic.listing
        day = self.desks[listing.market].day_row(listing, now_ns)
        stamp = self._stamp(topic, now_ns + skew_ns)
        prices = {"c": day["lastPrice"], "o": day["openPrice"], "h": day["highPrice"], "l": day["lowPrice"]}
        volumes = {"v": day["volume"], "q": day["quoteVolume"]}
        if topic.kind == "miniTicker":
            return {"e": "24hrMiniTicker", "E": stamp, "s": listing.symbol} | prices | volumes
        row = {"e": "24hrTicker", "E": stamp, "s": listing.symbol, "p": day["priceChange"]}
        row |= {"P": day["priceChangePercent"], "w": day["weightedAvgPrice"], "Q": day["lastQty"]} | prices | volumes
        row |= {"O": day["openTime"], "C": day["closeTime"], "F": day["firstId"], "L": day["lastId"], "n": day["count"]}
        if listing.is_spot:
            row |= {"x": day["prevClosePrice"], "b": day["bidPrice"], "B": day["bidQty"]}
            row |= {"a": day["askPrice"], "A": day["askQty"]}
        return row
