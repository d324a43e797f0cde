"""The REST answers that the Bybit connector needs to start and to reconcile, in a process of its own.

Fixed answers of an empty account with one instrument; nothing is checked. Run: python -m bench.rest_stub, prints its
port.
"""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

INSTRUMENT: Final = {
    "symbol": "BTCUSDT", "contractType": "LinearPerpetual", "status": "Trading", "baseCoin": "BTC",
    "quoteCoin": "USDT", "settleCoin": "USDT", "priceFilter": {"tickSize": "0.10"},
    "lotSizeFilter": {"maxOrderQty": "1190.000", "minOrderQty": "0.001", "qtyStep": "0.001", "minNotionalValue": "5"},
}  # fmt: skip
KEY: Final = {
    "readOnly": 0, "permissions": {"ContractTrade": ["Order", "Position"], "Spot": ["SpotTrade"], "Wallet": []},
    "ips": ["203.0.113.7"], "deadlineDay": -1, "userID": 1, "uta": 1,
}  # fmt: skip
COIN: Final = {"coin": "USDT", "walletBalance": "1000000", "totalOrderIM": "0", "totalPositionIM": "0", "locked": "0"}
EMPTY: Final[dict[str, Any]] = {"list": [], "nextPageCursor": ""}
RESULTS: Final[dict[str, dict[str, Any]]] = {
    "/v5/market/instruments-info": {"list": [INSTRUMENT]},
    "/v5/user/query-api": KEY,
    "/v5/account/info": {"marginMode": "REGULAR_MARGIN", "unifiedMarginStatus": 5, "dcpStatus": "OFF"},
    "/v5/account/fee-rate": {"list": [{"symbol": "BTCUSDT", "makerFeeRate": "0.0002", "takerFeeRate": "0.00055"}]},
    "/v5/account/wallet-balance": {"list": [{"accountType": "UNIFIED", "totalAvailableBalance": "1000000",
                                             "coin": [COIN]}]},
    "/v5/position/list": {"list": [{"symbol": "BTCUSDT", "positionIdx": 0, "side": "", "size": "0"}]},
}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        result = {"timeNano": str(time.time_ns())} if path == "/v5/market/time" else RESULTS.get(path, EMPTY)
        envelope = {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": time.time_ns() // 10**6}
        body = json.dumps(envelope).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = answer  # noqa: N815 - the names that http.server looks for
    do_POST = answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
