"""What has been traded on one listing: recent trades, aggregate trades, and the figures of the rolling day.

An aggregate trade is what one taker order traded at one price in one go (spot and USD-M alike).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from engine.types import Side
from tools.exchange.model import Listing, PublicTrade

KEPT: Final = 2000
DAY_NS: Final = 86_400 * 1_000_000_000
MINUTE_NS: Final = 60 * 1_000_000_000


@dataclass(slots=True)
class AggTrade:
    agg_id: int
    px_ticks: int
    qty_lots: int
    first_id: int
    last_id: int
    taker_side: Side
    taker_order_id: int
    ts_ns: int


@dataclass(slots=True)
class Minute:
    """One minute's candle; the day's figures are sums over 1440 of them."""

    start_ns: int
    open: int
    high: int
    low: int
    close: int
    qty_lots: int = 0
    quote_atoms: int = 0
    count: int = 0
    taker_lots: int = 0
    taker_quote: int = 0
    first_id: int = 0


@dataclass(slots=True)
class Tape:
    listing: Listing
    trades: deque[PublicTrade] = field(default_factory=lambda: deque(maxlen=KEPT))
    aggs: deque[AggTrade] = field(default_factory=lambda: deque(maxlen=KEPT))
    minutes: deque[Minute] = field(default_factory=lambda: deque(maxlen=1440))
    last_agg_id: int = 0

    def add(self, batch: list[PublicTrade]) -> list[AggTrade]:
        """Take the trades of one event batch; returns the aggregate trades they made."""
        made: list[AggTrade] = []
        for trade in batch:
            self.trades.append(trade)
            self._count(trade)
            taker = trade.buyer_order_id if trade.taker_side is Side.BUY else trade.seller_order_id
            last = made[-1] if made else None
            if last is not None and (last.px_ticks, last.taker_order_id) == (trade.px_ticks, taker):
                last.qty_lots += trade.qty_lots
                last.last_id = trade.trade_id
                continue
            self.last_agg_id += 1
            made.append(
                AggTrade(
                    self.last_agg_id,
                    trade.px_ticks,
                    trade.qty_lots,
                    trade.trade_id,
                    trade.trade_id,
                    trade.taker_side,
                    taker,
                    trade.ts_ns,
                )
            )
        self.aggs.extend(made)
        return made

    def _count(self, trade: PublicTrade) -> None:
        start = trade.ts_ns - trade.ts_ns % MINUTE_NS
        px = trade.px_ticks
        if not self.minutes or self.minutes[-1].start_ns != start:
            self.minutes.append(Minute(start, px, px, px, px, first_id=trade.trade_id))
        minute = self.minutes[-1]
        minute.high, minute.low, minute.close = max(minute.high, px), min(minute.low, px), px
        minute.qty_lots += trade.qty_lots
        minute.quote_atoms += self.listing.value(px, trade.qty_lots)
        minute.count += 1
        if trade.taker_side is Side.BUY:
            minute.taker_lots += trade.qty_lots
            minute.taker_quote += self.listing.value(px, trade.qty_lots)

    def day(self, now_ns: int) -> Minute:
        """The rolling day as one candle; empty (open 0) when nothing was traded."""
        kept = [minute for minute in self.minutes if now_ns - minute.start_ns < DAY_NS]
        if not kept:
            px = self.listing.mark_px_ticks
            return Minute(now_ns - DAY_NS, px, px, px, px)
        day = Minute(kept[0].start_ns, kept[0].open, kept[0].high, kept[0].low, kept[-1].close)
        day.first_id = kept[0].first_id
        for minute in kept:
            day.high, day.low = max(day.high, minute.high), min(day.low, minute.low)
            day.qty_lots += minute.qty_lots
            day.quote_atoms += minute.quote_atoms
            day.count += minute.count
        return day
