"""Price-time priority book of one listing. Owns queues and the walk through them; knows no money and no venue.

The walk asks a `Handler` what to do: it settles each fill and is told of each order that self-trade prevention ends.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Protocol

from engine.types import Side
from tools.exchange.model import Listing, Order, Stp


class Level:
    """Orders of one price, oldest first (a dict keeps insertion order and removes from the middle in O(1))."""

    __slots__ = ("orders", "px_ticks", "qty_lots")

    def __init__(self, px_ticks: int) -> None:
        self.px_ticks = px_ticks
        self.qty_lots = 0
        self.orders: dict[int, Order] = {}


class Handler(Protocol):
    def wanted(self, taker: Order, px_ticks: int) -> int:
        """How many lots the taker still takes at this price."""

    def maker_lots(self, maker: Order) -> int:
        """How many lots the maker may trade now: fewer than its leaves for reduce-only, 0 ends it (`on_void`)."""

    def on_void(self, maker: Order) -> None:
        """A reduce-only maker with nothing to reduce; it has left the book already."""

    def on_match(self, maker: Order, taker: Order, px_ticks: int, qty_lots: int) -> None:
        """Settle one trade. The book has both orders' quantities before the trade; settle updates `cum_lots`."""

    def on_prevented(self, maker: Order, taker: Order, *, ends_maker: bool, ends_taker: bool) -> None:
        """Self-trade prevention ended one or both. The maker has left the book already."""

    def on_level(self, side: Side, px_ticks: int, qty_lots: int) -> None:
        """A level that the walk touched now has this quantity."""


class SideBook:
    """One side. `keys` is sorted so that the best price is last: popping it is cheap."""

    __slots__ = ("keys", "levels", "sign")

    def __init__(self, side: Side) -> None:
        self.sign = int(side)  # bids: key = px, best is highest; asks: key = -px
        self.keys: list[int] = []
        self.levels: dict[int, Level] = {}

    def best(self) -> Level | None:
        return self.levels[self.sign * self.keys[-1]] if self.keys else None

    def level(self, px_ticks: int) -> Level:
        level = self.levels.get(px_ticks)
        if level is None:
            level = self.levels[px_ticks] = Level(px_ticks)
            insort(self.keys, self.sign * px_ticks)
        return level

    def drop(self, px_ticks: int) -> None:
        del self.levels[px_ticks]
        del self.keys[bisect_left(self.keys, self.sign * px_ticks)]


class MatchingBook:
    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.bids = SideBook(Side.BUY)
        self.asks = SideBook(Side.SELL)
        self._seq = 0

    def side(self, side: Side) -> SideBook:
        return self.bids if side is Side.BUY else self.asks

    def add(self, order: Order) -> Level:
        """Join the back of the queue at the order's price."""
        self._seq += 1
        order.seq = self._seq
        level = self.side(order.side).level(order.px_ticks)
        level.orders[order.order_id] = order
        level.qty_lots += order.leaves
        return level

    def remove(self, order: Order) -> int:
        """Take a resting order out; returns what is left at its price."""
        book = self.side(order.side)
        level = book.levels[order.px_ticks]
        del level.orders[order.order_id]
        level.qty_lots -= order.leaves
        if not level.orders:
            assert level.qty_lots == 0, f"{self.listing.symbol} {order.px_ticks}: {level.qty_lots} lots without order"
            book.drop(order.px_ticks)
        return level.qty_lots

    def reduce(self, order: Order, qty_lots: int) -> int:
        """Lower a resting order's total quantity, keeping its place; returns what is left at its price."""
        assert order.cum_lots < qty_lots <= order.qty_lots, f"{order.order_id}: {order.qty_lots} to {qty_lots} lots"
        level = self.side(order.side).levels[order.px_ticks]
        level.qty_lots -= order.qty_lots - qty_lots
        order.qty_lots = qty_lots
        return level.qty_lots

    def crosses(self, side: Side, px_ticks: int) -> bool:
        """True when an order of `side` at `px_ticks` would take liquidity."""
        best = self.side(side.opposite).best()
        return best is not None and side * px_ticks >= side * best.px_ticks

    def fillable(self, side: Side, px_ticks: int | None, qty_lots: int, skip_account: int = -1) -> int:
        """Lots, at most `qty_lots`, that an order could take now; own orders (`skip_account`) not counted."""
        book = self.side(side.opposite)
        found = 0
        for key in reversed(book.keys):
            px = book.sign * key
            if px_ticks is not None and side * px > side * px_ticks:
                break
            level = book.levels[px]
            found += level.qty_lots
            found -= sum(order.leaves for order in level.orders.values() if order.account_id == skip_account)
            if found >= qty_lots:
                return qty_lots
        return found

    def cost(self, side: Side, qty_lots: int) -> tuple[int, int]:
        """(lots found, sum of px * lots) of taking `qty_lots` at market."""
        book = self.side(side.opposite)
        found = total = 0
        for key in reversed(book.keys):
            px = book.sign * key
            take = min(qty_lots - found, book.levels[px].qty_lots)
            found += take
            total += px * take
            if found == qty_lots:
                break
        return found, total

    def match(self, taker: Order, px_ticks: int | None, handler: Handler) -> None:
        """Walk the other side from its best price while the taker wants more; `px_ticks` None is at any price."""
        book = self.side(taker.side.opposite)
        while book.keys:
            level = book.levels[book.sign * book.keys[-1]]
            px = level.px_ticks
            if px_ticks is not None and taker.side * px > taker.side * px_ticks:
                return
            if handler.wanted(taker, px) <= 0:
                return
            ended = self._match_level(taker, level, handler)
            if not level.orders:
                book.drop(px)
            handler.on_level(taker.side.opposite, px, level.qty_lots)
            if ended:
                return

    def _match_level(self, taker: Order, level: Level, handler: Handler) -> bool:
        """Returns True when self-trade prevention ended the taker."""
        while level.orders:
            maker = next(iter(level.orders.values()))
            if maker.account_id == taker.account_id and taker.stp is not Stp.NONE:
                ends_taker = taker.stp is not Stp.EXPIRE_MAKER
                ends_maker = taker.stp is not Stp.EXPIRE_TAKER
                if ends_maker:
                    del level.orders[maker.order_id]
                    level.qty_lots -= maker.leaves
                handler.on_prevented(maker, taker, ends_maker=ends_maker, ends_taker=ends_taker)
                if ends_taker:
                    return True
                continue
            can_trade = handler.maker_lots(maker)
            if can_trade <= 0:
                del level.orders[maker.order_id]
                level.qty_lots -= maker.leaves
                handler.on_void(maker)
                continue
            qty = min(handler.wanted(taker, level.px_ticks), can_trade)
            if qty <= 0:
                return False
            level.qty_lots -= qty
            handler.on_match(maker, taker, level.px_ticks, qty)
            if maker.leaves == 0:
                del level.orders[maker.order_id]
        return False

    def _check(self) -> None:
        for book in (self.bids, self.asks):
            assert book.keys == sorted(book.sign * px for px in book.levels), f"{self.listing.symbol}: keys and levels"
            for px, level in book.levels.items():
                assert level.orders, f"{self.listing.symbol} {px}: empty level kept"
                total = sum(order.leaves for order in level.orders.values())
                assert level.qty_lots == total, f"{self.listing.symbol} {px}: {level.qty_lots} lots, orders {total}"
                seqs = [order.seq for order in level.orders.values()]
                assert seqs == sorted(seqs), f"{self.listing.symbol} {px}: time priority broken {seqs}"
                assert all(order.leaves > 0 and order.px_ticks == px for order in level.orders.values())
        bid, ask = self.bids.best(), self.asks.best()
        assert bid is None or ask is None or bid.px_ticks < ask.px_ticks, f"{self.listing.symbol}: crossed at rest"
