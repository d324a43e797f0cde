"""Rows as Bybit sends them, and the recorded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from engine.ids import cl_ord_id, text_from_cl_ord_id

ID = cl_ord_id(1, 2, 3, 4)
LINK = text_from_cl_ord_id(ID)
FRAMES = "nautilus_trader/HEAD/crates/adapters/bybit/test_data"

ORDER = {
    "category": "linear", "symbol": "BTCUSDT", "orderId": "V1", "orderLinkId": LINK, "side": "Buy", "positionIdx": 0,
    "orderType": "Limit", "timeInForce": "PostOnly", "orderStatus": "New", "cancelType": "UNKNOWN",
    "rejectReason": "EC_NoError", "price": "25000", "qty": "0.010", "avgPrice": "", "leavesQty": "0.010",
    "cumExecQty": "0", "updatedTime": "1763800000018", "tpslMode": "",
}  # fmt: skip
EXECUTION = {
    "category": "linear", "symbol": "BTCUSDT", "orderId": "V1", "orderLinkId": LINK, "side": "Buy",
    "orderPrice": "25000", "orderQty": "0.010", "leavesQty": "0.006", "orderType": "Limit", "execId": "E1",
    "execPrice": "25000", "execQty": "0.004", "execValue": "100", "execFee": "0.02", "feeCurrency": "USDT",
    "feeRate": "0.0002", "execType": "Trade", "isMaker": True, "execTime": "1763800000018", "seq": 5, "extraFees": [],
}  # fmt: skip


COIN = {
    "coin": "USDT", "equity": "1000", "usdValue": "999", "walletBalance": "1000", "locked": "100", "spotBorrow": "0",
    "totalPositionIM": "30", "totalOrderIM": "20", "bonus": "5",
}  # fmt: skip


def recorded(captures: Path, name: str) -> dict[str, Any]:
    return orjson.loads((captures / FRAMES / name).read_bytes())


def fine_row(symbol: str) -> dict[str, Any]:
    """An instrument so fine that every recorded number lies on its grid."""
    return {
        "symbol": symbol, "contractType": "LinearPerpetual", "status": "Trading",
        "baseCoin": symbol.removesuffix("USDT"), "quoteCoin": "USDT", "settleCoin": "USDT",
        "priceFilter": {"tickSize": "0.00001"},
        "lotSizeFilter": {
            "maxOrderQty": "1190", "minOrderQty": "0.001", "qtyStep": "0.001", "basePrecision": "0.0001",
            "minOrderAmt": "5", "maxLimitOrderQty": "83",
        },
    }  # fmt: skip
