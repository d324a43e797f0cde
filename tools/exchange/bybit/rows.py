"""The JSON rows of Bybit v5: instruments, orders, executions, positions, wallet. Amounts are text.

`orders[...]` of the private stream and of REST are one shape; a position's average price is `entryPrice` on the
stream and `avgPrice` in REST. Source: bybit-exchange/docs, "Private" and "Order", snapshot 2026-07-24.
"""

from __future__ import annotations

from typing import Any

from engine.instrument import plain, text_from_atoms
from engine.types import InstrumentState, Market, OrdStatus, OrdType, Side
from tools.exchange.account import Account, Position
from tools.exchange.bybit.codes import category, ended_words, status_word
from tools.exchange.core import VenueCore
from tools.exchange.model import ATOMS, Fill, Listing, Order, OrderEvent, fixed_text

MS = 1_000_000
SEQ_BASE = 7_961_638_724
SIDE_WORDS = {Side.BUY: "Buy", Side.SELL: "Sell"}
STATES = {
    InstrumentState.TRADING: "Trading",
    InstrumentState.CANCEL_ONLY: "Delivering",
    InstrumentState.HALTED: "PreLaunch",
    InstrumentState.CLOSED: "Closed",
}


def px_decimals(listing: Listing) -> int:
    """Linear prices have priceScale digits (at least two), spot prices as many as the tick."""
    return listing.px_decimals if listing.is_spot else max(2, listing.px_decimals)


def px_text(listing: Listing, px_ticks: int) -> str:
    return listing.px_text(px_ticks, px_decimals(listing))


def seq_of(listing: Listing) -> int:
    """The cross sequence: one count of everything that happens in a symbol's book."""
    return SEQ_BASE + listing.update_id


def exec_id(listing: Listing, trade_id: int) -> str:
    """Digits on spot, a UUID on linear; the same for public trade and execution."""
    if listing.is_spot:
        return str(trade_id)
    text = f"{0x0AB1BDF74219438B + listing.index:016x}{trade_id:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def average_text(listing: Listing, value: int, lots: int) -> str:
    """`value / lots` (ticks) as a price with up to six more digits than the tick."""
    scaled = value * listing.px_mantissa * 10**6 // lots
    return strip_zeros(fixed_text(scaled, listing.px_decimals + 6))


def strip_zeros(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def rate_text(rate_e8: int) -> str:
    return strip_zeros(fixed_text(rate_e8, 8))


# --- instruments ----------------------------------------------------------------------------------------------------


def instrument_row(listing: Listing) -> dict[str, Any]:
    return _spot_instrument(listing) if listing.is_spot else _linear_instrument(listing)


def _band(listing: Listing) -> dict[str, str]:
    ratio = strip_zeros(fixed_text(listing.band_e4, 4)) if listing.band_e4 else "0.5"
    return {"priceLimitRatioX": ratio, "priceLimitRatioY": ratio}


def _spot_instrument(listing: Listing) -> dict[str, Any]:
    instrument = listing.instrument
    most = listing.qty_text(instrument.max_qty_lots)
    return {
        "symbol": listing.symbol,
        "symbolId": listing.index + 1,
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "innovation": "0",
        "status": STATES[listing.state],
        "marginTrading": "utaOnly",
        "stTag": "0",
        "lotSizeFilter": {
            "basePrecision": plain(instrument.lot_size),
            "quotePrecision": "0.0000001",
            "minOrderQty": listing.qty_text(instrument.min_qty_lots),
            "maxOrderQty": most,
            "minOrderAmt": text_from_atoms(instrument.min_notional_atoms),
            "maxOrderAmt": "8000000",
            "maxLimitOrderQty": most,
            "maxMarketOrderQty": listing.qty_text(listing.max_market_lots),
            "postOnlyMaxLimitOrderSize": most,
        },
        "priceFilter": {"tickSize": plain(instrument.tick_size)},
        "riskParameters": _band(listing),
        "symbolType": "",
    }


def _linear_instrument(listing: Listing) -> dict[str, Any]:
    instrument = listing.instrument
    most = listing.qty_text(instrument.max_qty_lots)
    return {
        "symbol": listing.symbol,
        "symbolId": listing.index + 1,
        "contractType": "LinearPerpetual",
        "status": STATES[listing.state],
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "settleCoin": instrument.settle,
        "launchTime": "1584230400000",
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(px_decimals(listing)),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": f"{listing.max_leverage}.00", "leverageStep": "0.01"},
        "priceFilter": {
            "minPrice": px_text(listing, listing.min_px_ticks),
            "maxPrice": px_text(listing, listing.max_px_ticks),
            "tickSize": px_text(listing, 1),
        },
        "lotSizeFilter": {
            "maxOrderQty": most,
            "minOrderQty": listing.qty_text(instrument.min_qty_lots),
            "qtyStep": plain(instrument.lot_size),
            "postOnlyMaxOrderQty": most,
            "maxMktOrderQty": listing.qty_text(listing.max_market_lots),
            "minNotionalValue": text_from_atoms(instrument.min_notional_atoms),
        },
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "copyTrading": "both",
        "upperFundingRate": "0.005",
        "lowerFundingRate": "-0.005",
        "isPreListing": False,
        "preListingInfo": None,
        "riskParameters": _band(listing),
        "displayName": "",
        "symbolType": "",
    }


# --- orders ---------------------------------------------------------------------------------------------------------


def order_row(state: Order | OrderEvent) -> dict[str, Any]:
    """An order as it was at an event, or as it is now."""
    order = state.order if isinstance(state, OrderEvent) else state
    listing, wire = order.listing, order.wire
    at_ns = state.ts_ns if isinstance(state, OrderEvent) else order.updated_ns
    cum, leaves = state.cum_lots, 0 if state.status >= OrdStatus.FILLED else state.qty_lots - state.cum_lots
    cancel_type, reject_reason = "UNKNOWN", "EC_NoError"
    if state.status >= OrdStatus.CANCELED:
        cancel_type, reject_reason = ended_words(state.reason)
    fees: dict[str, int] = wire.get("fees", {})
    px = wire.get("band_px", "0") if order.ord_type is OrdType.MARKET else px_text(listing, state.px_ticks)
    row: dict[str, Any] = {
        "category": category(listing),
        "symbol": listing.symbol,
        "orderId": str(order.order_id),
        "orderLinkId": order.client_id,
        "parentOrderLinkId": "",
        "side": SIDE_WORDS[order.side],
        "positionIdx": 0,
        "orderType": wire.get("type", "Limit"),
        "timeInForce": wire.get("tif", "GTC"),
        "orderStatus": status_word(state.status, cum, is_spot=listing.is_spot),
        "cancelType": cancel_type,
        "rejectReason": reject_reason,
        "price": px,
        "qty": wire.get("qty_text") or listing.qty_text(state.qty_lots),
        "avgPrice": average_text(listing, state.cum_value, cum) if cum else "",
        "leavesQty": listing.qty_text(leaves) if leaves else "0",
        "leavesValue": text_from_atoms(listing.value(state.px_ticks, leaves)) if leaves else "0",
        "cumExecQty": listing.qty_text(cum) if cum else "0",
        "cumExecValue": text_from_atoms(state.cum_quote),
        "cumExecFee": text_from_atoms(sum(fees.values())),
        "cumFeeDetail": {asset: text_from_atoms(atoms) for asset, atoms in fees.items()},
        "closedPnl": text_from_atoms(wire.get("pnl", 0)),
        "stopOrderType": "",
        "triggerPrice": "",
        "triggerDirection": 0,
        "triggerBy": "",
        "takeProfit": "",
        "stopLoss": "",
        "tpLimitPrice": "",
        "slLimitPrice": "",
        "tpTriggerBy": "",
        "slTriggerBy": "",
        "reduceOnly": order.reduce_only,
        "closeOnTrigger": False,
        "smpType": wire.get("smp", "None"),
        "smpGroup": 0,
        "smpOrderId": "",
        "isLeverage": "0" if listing.is_spot else "",
        "blockTradeId": "",
        "orderIv": "",
        "placeType": "",
        "marketUnit": wire.get("unit", ""),
        "lastPriceOnCreated": wire.get("last_px", ""),
        "feeCurrency": "",
        "createdTime": str(order.created_ns // MS),
        "updatedTime": str(at_ns // MS),
        "rpiTakerAccess": False,
        "rpiMatchedQty": "0",
    }
    if not listing.is_spot:
        # Clients tell a contract from spot by the presence of this key, even when it is empty.
        row["tpslMode"] = ""
        row["createType"] = "CreateByUser"
    return row


def execution_row(fill: Fill, leaves_lots: int) -> dict[str, Any]:
    order, listing = fill.order, fill.listing
    rate_e8 = listing.maker_fee_e8 if fill.is_maker else listing.taker_fee_e8
    px = order.wire.get("band_px", "0") if order.ord_type is OrdType.MARKET else px_text(listing, order.px_ticks)
    return {
        "category": category(listing),
        "symbol": listing.symbol,
        "orderId": str(order.order_id),
        "orderLinkId": order.client_id,
        "side": SIDE_WORDS[fill.side],
        "orderPrice": px,
        "orderQty": order.wire.get("qty_text") or listing.qty_text(order.qty_lots),
        "leavesQty": listing.qty_text(leaves_lots) if leaves_lots else "0",
        "createType": "CreateByUser",
        "orderType": order.wire.get("type", "Limit"),
        "stopOrderType": "UNKNOWN",
        "execFee": text_from_atoms(fill.fee_atoms),
        "execId": exec_id(listing, fill.trade_id),
        "execPrice": px_text(listing, fill.px_ticks),
        "execQty": listing.qty_text(fill.qty_lots),
        "execPnl": text_from_atoms(fill.realized_atoms),
        "execType": "Trade",
        "execValue": text_from_atoms(fill.quote_atoms),
        "execTime": str(fill.ts_ns // MS),
        "isMaker": fill.is_maker,
        "feeRate": rate_text(rate_e8),
        "feeCurrency": fill.fee_asset,
        "closedSize": "0" if listing.is_spot or not fill.realized_atoms else listing.qty_text(fill.qty_lots),
        "isLeverage": "0",
        "seq": seq_of(listing),
        "extraFees": [],
        "marketUnit": order.wire.get("unit", ""),
        "blockTradeId": "",
        "tradeIv": "",
        "markIv": "",
        "markPrice": px_text(listing, listing.mark_px_ticks),
        "indexPrice": "",
        "underlyingPrice": "",
    }


def fast_execution_row(fill: Fill) -> dict[str, Any]:
    """`execution.fast`: no fee, and no orderLinkId on maker fills."""
    row = execution_row(fill, 0)
    fast = {name: row[name] for name in _FAST_FIELDS}
    if fill.is_maker:
        fast["orderLinkId"] = ""
    return fast


_FAST_FIELDS = (
    "category",
    "symbol",
    "execId",
    "execPrice",
    "execQty",
    "orderId",
    "isMaker",
    "orderLinkId",
    "side",
    "execTime",
    "seq",
)


def funding_row(listing: Listing, qty_lots: int, paid_atoms: int, now_ns: int) -> dict[str, Any]:
    """Funding comes as an execution that moves no size; `paid_atoms` positive is paid."""
    return {
        "category": category(listing),
        "symbol": listing.symbol,
        "orderId": f"funding-{listing.symbol}-{now_ns // MS}",
        "orderLinkId": "",
        "side": "Buy" if qty_lots >= 0 else "Sell",
        "orderPrice": "0",
        "orderQty": "0",
        "leavesQty": "0",
        "createType": "",
        "orderType": "UNKNOWN",
        "stopOrderType": "UNKNOWN",
        "execFee": text_from_atoms(paid_atoms),
        "execId": f"funding-{listing.index}-{now_ns}",
        "execPrice": px_text(listing, listing.mark_px_ticks),
        "execQty": listing.qty_text(abs(qty_lots)),
        "execPnl": "0",
        "execType": "Funding",
        "execValue": text_from_atoms(listing.value(listing.mark_px_ticks, abs(qty_lots))),
        "execTime": str(now_ns // MS),
        "isMaker": False,
        "feeRate": rate_text(listing.funding_rate_e8),
        "feeCurrency": listing.instrument.settle,
        "closedSize": "0",
        "isLeverage": "0",
        "seq": seq_of(listing),
        "extraFees": [],
        "marketUnit": "",
        "blockTradeId": "",
        "tradeIv": "",
        "markIv": "",
        "markPrice": px_text(listing, listing.mark_px_ticks),
        "indexPrice": "",
        "underlyingPrice": "",
    }


# --- positions and wallet -------------------------------------------------------------------------------------------


def position_row(account: Account, position: Position, average_name: str) -> dict[str, Any]:
    """`average_name`: avgPrice in REST, entryPrice on the stream."""
    listing, qty = position.listing, position.qty_lots
    average = "0"
    if qty:
        average = strip_zeros(fixed_text(_average_e8(position), 8))
    side = "" if qty == 0 else SIDE_WORDS[Side.BUY if qty > 0 else Side.SELL]
    return {
        "category": "linear",
        "symbol": listing.symbol,
        "side": side,
        "size": listing.qty_text(abs(qty)) if qty else "0",
        "positionIdx": 0,
        "positionValue": text_from_atoms(abs(position.cost_atoms)) if qty else "",
        "riskId": 1,
        "riskLimitValue": "2000000",
        average_name: average,
        "markPrice": px_text(listing, listing.mark_px_ticks),
        "leverage": str(position.leverage),
        "breakEvenPrice": average if qty else "",
        "autoAddMargin": 0,
        "positionIM": text_from_atoms(account.position_margin(listing)) if qty else "0",
        "positionMM": text_from_atoms(account.maintenance_margin(listing)) if qty else "0",
        "positionBalance": text_from_atoms(account.position_margin(listing)) if qty else "0",
        "liqPrice": "",
        "bustPrice": "",
        "tradeMode": 0,
        "tpslMode": "Full",
        "takeProfit": "",
        "stopLoss": "",
        "trailingStop": "0",
        "unrealisedPnl": text_from_atoms(position.unrealized()) if qty else "0",
        "curRealisedPnl": text_from_atoms(position.realized_atoms - position.fee_atoms),
        "cumRealisedPnl": text_from_atoms(position.realized_atoms - position.fee_atoms + position.funding_atoms),
        "sessionAvgPrice": "",
        "positionStatus": "Normal",
        "adlRankIndicator": 2 if qty else 0,
        "isReduceOnly": False,
        "createdTime": str(position.created_ns // MS),
        "updatedTime": str(position.updated_ns // MS),
        "openTime": position.created_ns // MS,
        "seq": seq_of(listing) if qty else -1,
        "mmrSysUpdatedTime": "",
        "leverageSysUpdatedTime": "",
    }


def _average_e8(position: Position) -> int:
    # Atoms of quote per lot, scaled to one unit of base.
    return abs(position.cost_atoms) * ATOMS // (abs(position.qty_lots) * position.listing.lot_atoms)


def usd_px_atoms(core: VenueCore, coin: str) -> int:
    """Atoms of USD that one unit of a coin is worth, from the venue's own books; 0 when it has none."""
    if coin in ("USDT", "USD"):
        return ATOMS
    for listing in core.listings:
        if listing.instrument.base == coin:
            px = listing.mark_px_ticks or listing.last_px_ticks
            return px * listing.px_mantissa * ATOMS // int(10**listing.px_decimals)
    return 0


def wallet_row(core: VenueCore, account: Account, coins: set[str] | None = None) -> dict[str, Any]:
    """The unified account. Account figures are USD over all coins; only USDT serves as collateral here."""
    rows, equity_usd, wallet_usd = [], 0, 0
    for coin, balance in account.spot.items():
        px = usd_px_atoms(core, coin)
        upl = account.unrealized(coin)
        equity_usd += (balance.total + upl) * px // ATOMS
        wallet_usd += balance.total * px // ATOMS
        if coins is None or coin in coins:
            rows.append(_coin_row(account, coin, px))
    margin_usd = account.available("USDT") + account.margin_used("USDT")
    used, maintenance = (
        account.margin_used("USDT"),
        sum(account.maintenance_margin(listing) for listing in account.margin_listings("USDT")),
    )
    return {
        "accountType": "UNIFIED",
        "accountLTV": "",
        "accountIMRate": rate_text(used * ATOMS // margin_usd) if margin_usd > 0 else "0",
        "accountMMRate": rate_text(maintenance * ATOMS // margin_usd) if margin_usd > 0 else "0",
        "totalEquity": text_from_atoms(equity_usd),
        "totalWalletBalance": text_from_atoms(wallet_usd),
        "totalMarginBalance": text_from_atoms(margin_usd),
        "totalAvailableBalance": text_from_atoms(account.available("USDT")),
        "totalPerpUPL": text_from_atoms(account.unrealized("USDT")),
        "totalInitialMargin": text_from_atoms(used),
        "totalMaintenanceMargin": text_from_atoms(maintenance),
        "coin": rows,
    }


def _coin_row(account: Account, coin: str, px_atoms: int) -> dict[str, Any]:
    balance = account.balance(Market.SPOT, coin)
    upl = account.unrealized(coin)
    held = sum(account.position_margin(listing) for listing in account.margin_listings(coin))
    orders = account.margin_used(coin) - held
    is_collateral = coin == "USDT"
    return {
        "coin": coin,
        "equity": text_from_atoms(balance.total + upl),
        "usdValue": text_from_atoms((balance.total + upl) * px_atoms // ATOMS),
        "walletBalance": text_from_atoms(balance.total),
        "locked": text_from_atoms(balance.locked),
        "totalOrderIM": text_from_atoms(max(0, orders)),
        "totalPositionIM": text_from_atoms(held),
        "totalPositionMM": text_from_atoms(
            sum(account.maintenance_margin(listing) for listing in account.margin_listings(coin))
        ),
        "unrealisedPnl": text_from_atoms(upl),
        "cumRealisedPnl": text_from_atoms(
            sum(
                position.realized_atoms - position.fee_atoms + position.funding_atoms
                for position in account.positions.values()
                if position.listing.instrument.settle == coin
            )
        ),
        "borrowAmount": "0",
        "spotBorrow": "0",
        "accruedInterest": "0",
        "bonus": "0",
        "collateralSwitch": is_collateral,
        "marginCollateral": is_collateral,
        "availableToWithdraw": "",
        "availableToBorrow": "",
        "spotHedgingQty": "0",
    }
