"""exchangeInfo of both markets, from the listings. Source: venues/binance.md 2.1 (subset that clients need)."""

from __future__ import annotations

from typing import Any, Final

from engine.types import InstrumentState
from tools.exchange.limits import Rule
from tools.exchange.model import Listing, fixed_text

SPOT_RULES: Final = (
    Rule("REQUEST_WEIGHT", "MINUTE", 1, 6000),
    Rule("ORDERS", "SECOND", 10, 50),
    Rule("ORDERS", "DAY", 1, 160_000),
    Rule("RAW_REQUESTS", "MINUTE", 5, 300_000),
)
USDM_RULES: Final = (
    Rule("REQUEST_WEIGHT", "MINUTE", 1, 2400),
    Rule("ORDERS", "MINUTE", 1, 1200),
    Rule("ORDERS", "SECOND", 10, 300),
)
CONNECTION_RULES: Final = (Rule("CONNECTIONS", "MINUTE", 5, 300),)

SPOT_STATUS: Final = {
    InstrumentState.TRADING: "TRADING",
    InstrumentState.CANCEL_ONLY: "CANCEL_ONLY",
    InstrumentState.HALTED: "HALT",
    InstrumentState.CLOSED: "BREAK",
    InstrumentState.UNKNOWN: "BREAK",
}
USDM_STATUS: Final = {
    InstrumentState.TRADING: "TRADING",
    InstrumentState.CANCEL_ONLY: "PENDING_TRADING",
    InstrumentState.HALTED: "PENDING_TRADING",
    InstrumentState.CLOSED: "SETTLING",
    InstrumentState.UNKNOWN: "CLOSE",
}


def rule_rows(rules: tuple[Rule, ...]) -> list[dict[str, Any]]:
    return [
        {"rateLimitType": rule.kind, "interval": rule.interval, "intervalNum": rule.count, "limit": rule.limit}
        for rule in rules
    ]


def px_filter(listing: Listing, decimals: int) -> dict[str, Any]:
    return {
        "filterType": "PRICE_FILTER",
        "minPrice": listing.px_text(listing.min_px_ticks, decimals),
        "maxPrice": listing.px_text(min(listing.max_px_ticks, 10**14), decimals),
        "tickSize": listing.px_text(1, decimals),
    }


def lot_filter(listing: Listing, name: str, most_lots: int, decimals: int) -> dict[str, Any]:
    return {
        "filterType": name,
        "minQty": listing.qty_text(max(1, listing.instrument.min_qty_lots), decimals),
        "maxQty": listing.qty_text(min(most_lots, 10**14), decimals),
        "stepSize": listing.qty_text(1, decimals),
    }


def spot_symbol(listing: Listing) -> dict[str, Any]:
    instrument = listing.instrument
    most = min(instrument.max_qty_lots, listing.max_market_lots)
    filters = [
        px_filter(listing, 8),
        lot_filter(listing, "LOT_SIZE", instrument.max_qty_lots, 8),
        lot_filter(listing, "MARKET_LOT_SIZE", most, 8) | {"minQty": "0.00000000", "stepSize": "0.00000000"},
        {
            "filterType": "NOTIONAL",
            "minNotional": fixed_text(instrument.min_notional_atoms, 8),
            "applyMinToMarket": True,
            "maxNotional": "9000000.00000000",
            "applyMaxToMarket": False,
            "avgPriceMins": 5,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": listing.max_open_orders},
        {"filterType": "MAX_NUM_ORDER_AMENDS", "maxNumOrderAmends": 10},
    ]
    if listing.band_e4:
        up, down = fixed_text(10_000 + listing.band_e4, 4), fixed_text(10_000 - listing.band_e4, 4)
        band = {"bidMultiplierUp": up, "bidMultiplierDown": down, "askMultiplierUp": up, "askMultiplierDown": down}
        filters.append({"filterType": "PERCENT_PRICE_BY_SIDE", **band, "avgPriceMins": 5})
    return {
        "symbol": listing.symbol,
        "status": SPOT_STATUS[listing.state],
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": filters,
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }


def spot_info(listings: list[Listing], now_ms: int) -> dict[str, Any]:
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": rule_rows(SPOT_RULES),
        "exchangeFilters": [],
        "symbols": [spot_symbol(listing) for listing in listings],
    }


def usdm_px_precision(listing: Listing) -> int:
    """The venue's `pricePrecision`: more digits than the tick has, so that nobody takes it for the tick."""
    return listing.px_decimals + 1


def usdm_symbol(listing: Listing) -> dict[str, Any]:
    instrument = listing.instrument
    most = min(instrument.max_qty_lots, listing.max_market_lots)
    band = listing.band_e4 or 500
    filters = [
        px_filter(listing, -1),
        lot_filter(listing, "LOT_SIZE", instrument.max_qty_lots, -1),
        lot_filter(listing, "MARKET_LOT_SIZE", most, -1),
        {"filterType": "MAX_NUM_ORDERS", "limit": listing.max_open_orders},
        {"filterType": "MIN_NOTIONAL", "notional": min_notional_text(listing)},
        {
            "filterType": "PERCENT_PRICE",
            "multiplierUp": fixed_text(10_000 + band, 4),
            "multiplierDown": fixed_text(10_000 - band, 4),
            "multiplierDecimal": "4",
        },
    ]
    return {
        "symbol": listing.symbol,
        "pair": listing.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
        "status": USDM_STATUS[listing.state],
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": instrument.base,
        "quoteAsset": instrument.quote,
        "marginAsset": instrument.settle,
        "pricePrecision": usdm_px_precision(listing),
        "quantityPrecision": listing.qty_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": ["PoW"],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": filters,
        "orderTypes": ["LIMIT", "MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        "permissionSets": ["GRID"],
    }


def min_notional_text(listing: Listing) -> str:
    text = fixed_text(listing.instrument.min_notional_atoms, 8)
    return text.rstrip("0").rstrip(".")


def usdm_info(listings: list[Listing], now_ms: int) -> dict[str, Any]:
    assets = sorted({listing.instrument.settle for listing in listings})
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": rule_rows(USDM_RULES),
        "exchangeFilters": [],
        "assets": [{"asset": asset, "marginAvailable": True, "autoAssetExchange": "-10000"} for asset in assets],
        "symbols": [usdm_symbol(listing) for listing in listings],
    }
