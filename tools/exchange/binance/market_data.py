"""Public data on request: depth, trades, tickers, candles, funding. The markets differ in text only."""

from __future__ import annotations

from typing import Any, Final

from engine.types import Market, Side
from tools.exchange.binance import info
from tools.exchange.binance.errors import ApiError
from tools.exchange.binance.render import MS, money
from tools.exchange.binance.request import Request, need_listing, some_listing
from tools.exchange.binance.spot_orders import limit_of
from tools.exchange.binance.tape import Tape
from tools.exchange.core import VenueCore
from tools.exchange.model import Listing, fixed_text

Json = dict[str, Any]
USDM_DEPTHS: Final = (5, 10, 20, 50, 100, 500, 1000)
FUNDING_PERIOD_MS: Final = 8 * 3_600_000


def px_text(listing: Listing, px_ticks: int) -> str:
    """Spot prints 8 decimals, USD-M the tick's own."""
    return listing.px_text(px_ticks, 8 if listing.is_spot else -1)


def qty_text(listing: Listing, qty_lots: int) -> str:
    return listing.qty_text(qty_lots, 8 if listing.is_spot else -1)


class MarketData:
    def __init__(self, core: VenueCore, market: Market, tapes: list[Tape]) -> None:
        self.core = core
        self.market = market
        self.tapes = tapes
        self.listings = [listing for listing in core.listings if listing.market is market]

    def ping(self, request: Request) -> Json:
        return {}

    def time(self, request: Request) -> Json:
        return {"serverTime": request.now_ms}

    def exchange_info(self, request: Request) -> Json:
        if self.market is Market.LINEAR:
            return info.usdm_info(self.listings, request.now_ms)
        return info.spot_info(self._chosen(request), request.now_ms)

    def _chosen(self, request: Request) -> list[Listing]:
        params = request.params
        if params.get("symbol"):
            return [need_listing(self.core, request)]
        symbols = params.rows("symbols")
        if not symbols:
            return self.listings
        found = [self.core.listing(self.market, str(symbol)) for symbol in symbols]
        if None in found:
            raise ApiError(-1121, "Invalid symbol.")
        return [listing for listing in found if listing is not None]

    def levels(self, listing: Listing, side: Side, limit: int) -> list[list[str]]:
        return [[px_text(listing, px), qty_text(listing, qty)] for px, qty in self.core.depth(listing, side, limit)]

    def depth(self, request: Request) -> Json:
        listing = need_listing(self.core, request)
        if listing.is_spot:
            limit = limit_of(request.params, 100, 2**31)
            limit = min(limit, 5000)
        else:
            limit = request.params.integer("limit", 500)
            if limit not in USDM_DEPTHS:
                raise ApiError(-4021, f"{limit} is not valid depth limit")
        row: Json = {"lastUpdateId": listing.update_id}
        if not listing.is_spot:
            row |= {"E": request.now_ms, "T": request.now_ms}
        return row | {"bids": self.levels(listing, Side.BUY, limit), "asks": self.levels(listing, Side.SELL, limit)}

    def trades(self, request: Request) -> list[Json]:
        listing = need_listing(self.core, request)
        trades = list(self.tapes[listing.index].trades)[-limit_of(request.params) :]
        rows = []
        for trade in trades:
            row = {
                "id": trade.trade_id,
                "price": px_text(listing, trade.px_ticks),
                "qty": qty_text(listing, trade.qty_lots),
                "quoteQty": money(listing.value(trade.px_ticks, trade.qty_lots)),
                "time": trade.ts_ns // MS,
                "isBuyerMaker": trade.taker_side is Side.SELL,
            }
            rows.append(row | ({"isBestMatch": True} if listing.is_spot else {"isRPITrade": False}))
        return rows

    def agg_trades(self, request: Request) -> list[Json]:
        listing, params = need_listing(self.core, request), request.params
        from_id, limit = params.integer("fromId", 0), limit_of(request.params)
        start, end = params.integer("startTime", 0), params.integer("endTime", 2**60)
        aggs = [
            agg for agg in self.tapes[listing.index].aggs if agg.agg_id >= from_id and start <= agg.ts_ns // MS <= end
        ]
        chosen = aggs[:limit] if from_id or start else aggs[-limit:]
        return [
            {
                "a": agg.agg_id,
                "p": px_text(listing, agg.px_ticks),
                "q": qty_text(listing, agg.qty_lots),
                "f": agg.first_id,
                "l": agg.last_id,
                "T": agg.ts_ns // MS,
                "m": agg.taker_side is Side.SELL,
            }
            | ({"M": True} if listing.is_spot else {})
            for agg in chosen
        ]

    def _one_or_all(self, request: Request, rows: list[Json]) -> Any:
        return rows[0] if request.params.get("symbol") else rows

    def book_ticker(self, request: Request) -> Any:
        rows = []
        for listing in self._chosen(request):
            bid, bid_qty, ask, ask_qty = self.core.best(listing)
            row = {
                "symbol": listing.symbol,
                "bidPrice": px_text(listing, bid),
                "bidQty": qty_text(listing, bid_qty),
                "askPrice": px_text(listing, ask),
                "askQty": qty_text(listing, ask_qty),
            }
            rows.append(row if listing.is_spot else row | {"time": request.now_ms, "lastUpdateId": listing.update_id})
        return self._one_or_all(request, rows)

    def price_ticker(self, request: Request) -> Any:
        rows = [
            {"symbol": each.symbol, "price": px_text(each, each.last_px_ticks or each.mark_px_ticks)}
            | ({} if each.is_spot else {"time": request.now_ms})
            for each in self._chosen(request)
        ]
        return self._one_or_all(request, rows)

    def day_ticker(self, request: Request) -> Any:
        return self._one_or_all(request, [self.day_row(each, request.now_ns) for each in self._chosen(request)])

    def day_row(self, listing: Listing, now_ns: int) -> Json:
        tape = self.tapes[listing.index]
        day = tape.day(now_ns)
        bid, bid_qty, ask, ask_qty = self.core.best(listing)
        change = day.close - day.open
        percent = change * 100_000 // day.open if day.open else 0
        average = day.quote_atoms * 10**8 // (day.qty_lots * listing.lot_atoms) if day.qty_lots else 0
        row = {
            "symbol": listing.symbol,
            "priceChange": px_text(listing, change),
            "priceChangePercent": fixed_text(percent, 3),
            "weightedAvgPrice": fixed_text(average, 8),
            "lastPrice": px_text(listing, day.close),
            "lastQty": qty_text(listing, tape.trades[-1].qty_lots if tape.trades else 0),
            "openPrice": px_text(listing, day.open),
            "highPrice": px_text(listing, day.high),
            "lowPrice": px_text(listing, day.low),
            "volume": qty_text(listing, day.qty_lots),
            "quoteVolume": money(day.quote_atoms),
            "openTime": day.start_ns // MS,
            "closeTime": now_ns // MS,
            "firstId": day.first_id or -1,
            "lastId": listing.last_trade_id if day.count else -1,
            "count": day.count,
        }
        if listing.is_spot:
            row |= {
                "prevClosePrice": px_text(listing, day.open),
                "bidPrice": px_text(listing, bid),
                "bidQty": qty_text(listing, bid_qty),
                "askPrice": px_text(listing, ask),
                "askQty": qty_text(listing, ask_qty),
            }
        return row

    def klines(self, request: Request) -> list[list[Any]]:
        """One-minute candles of what was traded since the exchange started; other intervals are refused."""
        listing = need_listing(self.core, request)
        if request.params.need("interval") != "1m":
            raise ApiError(-1120, "Invalid interval.")
        limit = limit_of(request.params, 500, 1500)
        return [
            [
                minute.start_ns // MS,
                px_text(listing, minute.open),
                px_text(listing, minute.high),
                px_text(listing, minute.low),
                px_text(listing, minute.close),
                qty_text(listing, minute.qty_lots),
                minute.start_ns // MS + 59_999,
                money(minute.quote_atoms),
                minute.count,
                qty_text(listing, minute.taker_lots),
                money(minute.taker_quote),
                "0",
            ]
            for minute in list(self.tapes[listing.index].minutes)[-limit:]
        ]

    # --- USD-M only -------------------------------------------------------------------------------------------------

    def premium_index(self, request: Request) -> Any:
        rows = [
            {
                "symbol": listing.symbol,
                "markPrice": px_text(listing, listing.mark_px_ticks),
                "indexPrice": px_text(listing, listing.mark_px_ticks),
                "estimatedSettlePrice": px_text(listing, listing.mark_px_ticks),
                "lastFundingRate": money(listing.funding_rate_e8),
                "interestRate": "0.00010000",
                "nextFundingTime": next_funding_ms(listing, request.now_ms),
                "time": request.now_ms,
            }
            for listing in self._chosen(request)
        ]
        return self._one_or_all(request, rows)

    def funding_rate(self, request: Request) -> list[Json]:
        only = some_listing(self.core, request)
        return [
            {
                "symbol": listing.symbol,
                "fundingTime": next_funding_ms(listing, request.now_ms) - FUNDING_PERIOD_MS,
                "fundingRate": money(listing.funding_rate_e8),
                "markPrice": px_text(listing, listing.mark_px_ticks),
            }
            for listing in self.listings
            if only in (None, listing)
        ]

    def funding_info(self, request: Request) -> list[Json]:
        return [
            {
                "symbol": listing.symbol,
                "adjustedFundingRateCap": "0.02500000",
                "adjustedFundingRateFloor": "-0.02500000",
                "fundingIntervalHours": 8,
                "disclaimer": False,
            }
            for listing in self.listings
        ]

    def open_interest(self, request: Request) -> Json:
        listing = need_listing(self.core, request)
        lots = sum(
            max(0, account.positions[listing.index].qty_lots)
            for account in self.core.accounts.values()
            if listing.index in account.positions
        )
        return {"openInterest": qty_text(listing, lots), "symbol": listing.symbol, "time": request.now_ms}


def next_funding_ms(listing: Listing, now_ms: int) -> int:
    if listing.next_funding_ns:
        return listing.next_funding_ns // MS
    return now_ms - now_ms % FUNDING_PERIOD_MS + FUNDING_PERIOD_MS
