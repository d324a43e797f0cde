from typing import Final, Self, final

from ext.book import Book

NOT_TRADING: Final[int]
KILLED: Final[int]
REDUCE_ONLY_MODE: Final[int]
BAD_PX: Final[int]
BAD_QTY: Final[int]
MIN_NOTIONAL: Final[int]
MAX_ORDER_QTY: Final[int]
MAX_ORDER_NOTIONAL: Final[int]
PRICE_COLLAR: Final[int]
NO_REFERENCE: Final[int]
STALE_BOOK: Final[int]
INVALID_BOOK: Final[int]
POSITION_LIMIT: Final[int]
UNDERLYING_LIMIT: Final[int]
GROSS_LIMIT: Final[int]
ALLOTMENT: Final[int]
OPEN_ORDERS: Final[int]
ORDER_RATE: Final[int]
DUPLICATE: Final[int]
SELF_MATCH: Final[int]
LOSS_LIMIT: Final[int]
REASONS: Final[dict[int, str]]

@final
class Gate:
    is_killed: bool
    is_reduce_only: bool
    loss_atoms: int

    def __new__(cls, instruments: int, underlyings: int, strategies: int) -> Self: ...
    def define(
        self,
        index: int,
        *,
        underlying: int,
        base_atoms_per_lot: int,
        value_num: int,
        value_den: int,
        min_qty_lots: int,
        max_qty_lots: int,
        min_notional_atoms: int,
        max_order_notional_atoms: int,
        collar_ppm: int,
        max_position_lots: int,
        max_open_orders: int,
    ) -> None: ...
    def bind_book(self, index: int, book: Book) -> None: ...
    def set_venue(self, index: int, venue: int) -> None: ...
    def set_state(self, index: int, state: int) -> None: ...
    def set_mark(self, index: int, px_ticks: int, now_ns: int) -> None: ...
    def set_underlying_limit(self, underlying: int, max_long_atoms: int, max_short_atoms: int) -> None: ...
    def set_allotment(self, strategy: int, instrument_venue: int, atoms: int) -> None: ...
    def set_rates(
        self,
        *,
        max_orders: int,
        window_ns: int,
        duplicate_count: int,
        duplicate_window_ns: int,
        stale_ns: int,
        max_gross_notional_atoms: int,
        loss_limit_atoms: int,
    ) -> None: ...
    def set_own(self, index: int, best_own_bid_px: int, best_own_ask_px: int) -> None: ...
    def check(
        self, index: int, strategy: int, side: int, px_ticks: int, qty_lots: int, reduce_only: bool, now_ns: int
    ) -> int: ...
    def reserve(self, index: int, strategy: int, side: int, px_ticks: int, qty_lots: int) -> None: ...
    def release(self, index: int, strategy: int, side: int, px_ticks: int, qty_lots: int, is_closed: bool) -> None: ...
    def on_fill(
        self, index: int, strategy: int, side: int, order_px_ticks: int, qty_lots: int, is_closed: bool
    ) -> None: ...
    def set_position(self, index: int, qty_lots: int) -> None: ...
    def position(self, index: int) -> int: ...
    def open_buy(self, index: int) -> int: ...
    def open_sell(self, index: int) -> int: ...
    def worst_long(self, underlying: int) -> int: ...
    def worst_short(self, underlying: int) -> int: ...
    def used(self, strategy: int, venue: int) -> int: ...
    def open_orders(self, index: int) -> int: ...
    def market_px(self, index: int, side: int, now_ns: int) -> int: ...
    @property
    def gross_atoms(self) -> int: ...
    @property
    def instrument_count(self) -> int: ...
    @property
    def underlying_count(self) -> int: ...
    @property
    def strategy_count(self) -> int: ...
    @property
    def last_value(self) -> int: ...
    @property
    def last_limit(self) -> int: ...
