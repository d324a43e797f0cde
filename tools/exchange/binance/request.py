"""One request on its way through the front, and the small things every operation needs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.types import Market
from tools.exchange.binance.errors import ApiError, illegal
from tools.exchange.binance.params import Params
from tools.exchange.core import ApiKey, VenueCore
from tools.exchange.model import Listing

NS_PER_MS = 1_000_000


@dataclass(slots=True)
class Request:
    """`now_ms` is the venue's own clock (skew included); `now_ns` is the caller's."""

    params: Params
    now_ns: int
    now_ms: int
    ip: str
    market: Market
    key: ApiKey | None = None
    conn_id: int = 0
    count_order: Callable[[], None] = lambda: None  # one more order against the account's limit
    is_micro: bool = False
    extra_headers: dict[str, str] = field(default_factory=dict)

    @property
    def account_id(self) -> int:
        assert self.key is not None, "operation of an account reached without a key"
        return self.key.account_id


@dataclass(slots=True)
class Ids:
    """Ids the venue makes up: the same run makes the same ids."""

    seed: str
    count: int = 0

    def text(self, length: int = 22) -> str:
        self.count += 1
        return hashlib.sha256(f"{self.seed}:{self.count}".encode()).hexdigest()[:length]


def need_listing(core: VenueCore, request: Request, name: str = "symbol") -> Listing:
    symbol = request.params.need(name)
    listing = core.listing(request.market, symbol)
    if listing is None:
        if not symbol.isalnum() or not symbol.isupper():
            raise illegal(name, "^[A-Z0-9-_.]{1,20}$")
        raise ApiError(-1121, "Invalid symbol.")
    return listing


def some_listing(core: VenueCore, request: Request) -> Listing | None:
    """The listing of an optional `symbol`."""
    return need_listing(core, request) if request.params.get("symbol") else None


def to_ms(ts_ns: int, skew_ns: int = 0) -> int:
    return (ts_ns + skew_ns) // NS_PER_MS
