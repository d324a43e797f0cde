"""What the benchmarks are held against: the same work the way it is usually done in Python."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable

import orjson
from sortedcontainers import SortedDict

Levels = Iterable[tuple[int, int]]


class DictBook:
    """Two dictionaries and the best price of each, looked for anew when it was taken away."""

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.best_bid = 0
        self.best_ask = 2**62

    def apply(self, bids: Levels, asks: Levels, is_snapshot: bool) -> None:
        if is_snapshot:
            self.__init__()  # type: ignore[misc]
        for px, qty in bids:
            if qty:
                self.bids[px] = qty
                if px > self.best_bid:
                    self.best_bid = px
            elif self.bids.pop(px, 0) and px == self.best_bid:
                self.best_bid = max(self.bids, default=0)
        for px, qty in asks:
            if qty:
                self.asks[px] = qty
                if px < self.best_ask:
                    self.best_ask = px
            elif self.asks.pop(px, 0) and px == self.best_ask:
                self.best_ask = min(self.asks, default=2**62)


class SortedBook:
    """sortedcontainers, the best price read after each message."""

    def __init__(self) -> None:
        self.bids: SortedDict = SortedDict()
        self.asks: SortedDict = SortedDict()
        self.best = (0, 0)

    def apply(self, bids: Levels, asks: Levels, is_snapshot: bool) -> None:
        if is_snapshot:
            self.bids.clear()
            self.asks.clear()
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for px, qty in levels:
                if qty:
                    side[px] = qty
                else:
                    side.pop(px, None)
        self.best = (self.bids.peekitem()[0] if self.bids else 0, self.asks.peekitem(0)[0] if self.asks else 0)


def decode_into_dicts(frame: bytes, book: DictBook) -> None:
    """orjson and integers of ticks and lots by way of float, the usual short cut."""
    message = orjson.loads(frame)
    fields = message["data"]
    bids = [(round(float(px) * 10), round(float(qty) * 1000)) for px, qty in fields["b"]]
    asks = [(round(float(px) * 10), round(float(qty) * 1000)) for px, qty in fields["a"]]
    book.apply(bids, asks, message["type"] == "snapshot")


def copied_hmac(key: bytes) -> Callable[[bytes], str]:
    """HMAC-SHA256 from copies of two hashes that have taken the padded key: the quickest in the standard library."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def sign(message: bytes) -> str:
        first = inner.copy()
        first.update(message)
        second = outer.copy()
        second.update(first.digest())
        return second.hexdigest()

    assert sign(b"x") == hmac.new(key, b"x", hashlib.sha256).hexdigest()
    return sign


def order_by_orjson(px_ticks: int, qty_lots: int, link: int) -> bytes:
    """The order of the Bybit connector as a dictionary, encoded."""
    return orjson.dumps(
        {
            "category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit",
            "qty": f"{qty_lots // 1000}.{qty_lots % 1000:03}", "price": f"{px_ticks // 10}.{px_ticks % 10}",
            "timeInForce": "IOC", "orderLinkId": f"tw{link:016x}", "positionIdx": 0, "smpType": "CancelMaker",
        }
    )  # fmt: skip
