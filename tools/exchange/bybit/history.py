"""What Bybit's market endpoints remember: recent trades and one-minute bars of each listing."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from tools.exchange.bybit.rows import SIDE_WORDS, exec_id, px_text, seq_of
from tools.exchange.model import Event, Listing, PublicTrade, fixed_text

MS: Final = 1_000_000
MINUTE_MS: Final = 60_000
INTERVALS_MS: Final = {
    **{str(minutes): minutes * MINUTE_MS for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": 1440 * MINUTE_MS,
}


@dataclass(slots=True)
class Bar:
    start_ms: int
    open_px: int
    high_px: int
    low_px: int
    close_px: int
    lots: int = 0
    turnover: int = 0


@dataclass(slots=True)
class _Kept:
    trades: deque[PublicTrade] = field(default_factory=lambda: deque(maxlen=1000))
    bars: deque[Bar] = field(default_factory=lambda: deque(maxlen=1500))


class History:
    def __init__(self, listings: list[Listing]) -> None:
        self._kept = {listing.index: _Kept() for listing in listings}

    def on_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, PublicTrade):
                kept = self._kept[event.listing.index]
                kept.trades.append(event)
                self._add_to_bar(kept, event)

    def _add_to_bar(self, kept: _Kept, trade: PublicTrade) -> None:
        start_ms = trade.ts_ns // MS // MINUTE_MS * MINUTE_MS
        px = trade.px_ticks
        if not kept.bars or kept.bars[-1].start_ms != start_ms:
            kept.bars.append(Bar(start_ms, px, px, px, px))
        bar = kept.bars[-1]
        bar.high_px, bar.low_px, bar.close_px = max(bar.high_px, px), min(bar.low_px, px), px
        bar.lots += trade.qty_lots
        bar.turnover += trade.listing.value(px, trade.qty_lots)

    def recent_trades(self, listing: Listing, limit: int) -> list[dict[str, object]]:
        """Newest first."""
        trades = list(self._kept[listing.index].trades)[-limit:]
        return [
            {
                "execId": exec_id(listing, trade.trade_id),
                "symbol": listing.symbol,
                "price": px_text(listing, trade.px_ticks),
                "size": listing.qty_text(trade.qty_lots),
                "side": SIDE_WORDS[trade.taker_side],
                "time": str(trade.ts_ns // MS),
                "isBlockTrade": False,
                "isRPITrade": False,
                "seq": str(seq_of(listing)),
            }
            for trade in reversed(trades)
        ]

    def bars(self, listing: Listing, interval: str, limit: int) -> list[list[str]]:
        """`[start, open, high, low, close, volume, turnover]`, newest first."""
        width_ms = INTERVALS_MS[interval]
        merged: dict[int, Bar] = {}
        for bar in self._kept[listing.index].bars:
            start_ms = bar.start_ms // width_ms * width_ms
            into = merged.get(start_ms)
            if into is None:
                into = merged[start_ms] = Bar(start_ms, bar.open_px, bar.high_px, bar.low_px, bar.close_px)
            into.high_px, into.low_px = max(into.high_px, bar.high_px), min(into.low_px, bar.low_px)
            into.close_px = bar.close_px
            into.lots += bar.lots
            into.turnover += bar.turnover
        rows = sorted(merged.values(), key=lambda bar: -bar.start_ms)[:limit]
        return [
            [
                str(bar.start_ms),
                *(px_text(listing, px) for px in (bar.open_px, bar.high_px, bar.low_px, bar.close_px)),
                listing.qty_text(bar.lots),
                fixed_text(bar.turnover, 8, 4),
            ]
            for bar in rows
        ]
