"""Life of an accepted order: opening, matching, settling, resting, closing, and the events that tell of it.

The base of `VenueCore`. Everything that moves money or changes an order's state is here; what may be refused was
refused before (checks.py). Order of events for one order: its OrderEvent, then the balances and position it changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.types import Market, OrdStatus, OrdType, Side, TimeInForce
from tools.exchange.account import Account, order_value
from tools.exchange.checks import lots_for_quote, reduce_room, value_up
from tools.exchange.matching import MatchingBook
from tools.exchange.model import (
    RATE_SCALE,
    BalanceChange,
    BookChange,
    Event,
    Fill,
    Hooks,
    Listing,
    NewOrder,
    Order,
    OrderChange,
    OrderEvent,
    Policy,
    PositionChange,
    PublicTrade,
    Reason,
    Stp,
)

Subscriber = Callable[[list[Event]], None]
HISTORY_MAX = 200_000
"""Orders and fills kept for an account; the oldest closed ones leave first."""


class Lifecycle:
    def __init__(self, listings: list[Listing], policies: dict[Market, Policy], first_order_id: int) -> None:
        self.hooks = Hooks()
        self.policies = policies
        self.listings = listings
        assert [listing.index for listing in listings] == list(range(len(listings))), "listing indexes must be dense"
        self.books = [MatchingBook(listing) for listing in listings]
        self.accounts: dict[int, Account] = {0: Account(0, "fees", unlimited=True)}
        self.now_ns = 0
        self._subscribers: list[Subscriber] = []
        self._batch: list[Event] = []
        self._depth = 0
        self._next_order_id = first_order_id
        self._next_exec_id = 1
        self._matching: Listing | None = None
        self._reduced: dict[tuple[int, int], Account] = {}  # accounts whose reduce-only orders need another look

    def subscribe(self, subscriber: Subscriber) -> None:
        """Called with the list of events of each call that made any. The list must not be changed."""
        self._subscribers.append(subscriber)

    def begin(self, now_ns: int) -> None:
        """Open a batch: events of the calls until the matching `commit` go out as one list."""
        self._depth += 1
        self.now_ns = now_ns

    def commit(self) -> None:
        self._depth -= 1
        if self._depth == 0 and self._batch:
            batch, self._batch = self._batch, []
            for subscriber in self._subscribers:
                subscriber(batch)

    # --- opening and closing ----------------------------------------------------------------------------------------

    def _make_order(self, account: Account, new: NewOrder, qty: int) -> Order:
        order = Order(
            order_id=self._next_order_id,
            account_id=account.account_id,
            listing=new.listing,
            client_id=new.client_id,
            side=new.side,
            ord_type=new.ord_type,
            tif=new.tif,
            px_ticks=new.px_ticks,
            qty_lots=qty,
            post_only=new.post_only,
            reduce_only=new.reduce_only,
            quote_atoms=new.quote_atoms,
            stp=Stp.NONE if account.unlimited else new.stp,
            expire_ns=new.expire_ns,
            created_ns=self.now_ns,
            updated_ns=self.now_ns,
            wire=new.wire,
            original_qty_lots=new.qty_lots,
        )
        self._next_order_id += 1
        return order

    def _open(self, account: Account, order: Order, lock: int) -> None:
        if account.unlimited:
            return
        account.orders[order.order_id] = account.open[order.order_id] = order
        if order.client_id:
            account.by_client_id[order.listing.index, order.client_id] = order
        account.open_sums(order.listing).count += 1
        self._hold(account, order, 1)
        self._order_event(order, OrderChange.NEW)
        if lock:
            self._set_lock(account, order, lock)
        if len(account.orders) > HISTORY_MAX:
            self._forget_oldest(account)

    def _forget_oldest(self, account: Account) -> None:
        oldest = next(order for order in account.orders.values() if not order.is_open)
        del account.orders[oldest.order_id]
        key = (oldest.listing.index, oldest.client_id)
        if account.by_client_id.get(key) is oldest:
            del account.by_client_id[key]

    def _close(
        self,
        order: Order,
        status: OrdStatus,
        reason: Reason,
        change: OrderChange,
        note: dict[str, Any] | None = None,
    ) -> None:
        # The order has left the book, or was never in it.
        order.updated_ns = self.now_ns
        account = self.accounts[order.account_id]
        self._leave_open(account, order)
        order.status, order.reason = status, reason
        self._order_event(order, change, note=note)
        if order.locked:
            self._set_lock(account, order, 0)

    def _leave_open(self, account: Account, order: Order) -> None:
        if account.open.pop(order.order_id, None) is not None:
            self._hold(account, order, -1)
            account.open_sums(order.listing).count -= 1

    def _unrest(self, order: Order) -> None:
        left = self.books[order.listing.index].remove(order)
        self._book_event(order.listing, order.side, order.px_ticks, left)

    def _hold(self, account: Account, order: Order, sign: int) -> None:
        if account.unlimited:
            return
        sums = account.open_sums(order.listing)
        if order.side is Side.BUY:
            sums.bid_atoms += sign * order_value(order)
        else:
            sums.ask_atoms += sign * order_value(order)

    def _lock_asset(self, order: Order) -> str:
        instrument = order.listing.instrument
        return instrument.quote if order.side is Side.BUY else instrument.base

    def _set_lock(self, account: Account, order: Order, atoms: int) -> None:
        balance = account.balance(Market.SPOT, self._lock_asset(order))
        balance.free -= atoms - order.locked
        balance.locked += atoms - order.locked
        order.locked = atoms
        self._balance_event(account, Market.SPOT, self._lock_asset(order), 0, "ORDER", order.listing)

    def _lock_for_leaves(self, order: Order) -> int:
        if order.side is Side.SELL:
            return order.leaves * order.listing.lot_atoms
        return value_up(order.listing, order.px_ticks * order.leaves)

    # --- amending ---------------------------------------------------------------------------------------------------

    def _reduce(self, account: Account, order: Order, qty: int, note: dict[str, Any] | None) -> None:
        self._hold(account, order, -1)
        left = self.books[order.listing.index].reduce(order, qty)
        self._hold(account, order, 1)
        self._order_event(order, OrderChange.REPLACED, note=note)
        self._book_event(order.listing, order.side, order.px_ticks, left)
        if order.locked:
            self._set_lock(account, order, self._lock_for_leaves(order))

    def _requeue(self, account: Account, order: Order, px: int, qty: int, note: dict[str, Any] | None) -> None:
        self._unrest(order)
        self._hold(account, order, -1)
        order.px_ticks, order.qty_lots = px, qty
        self._hold(account, order, 1)
        self._order_event(order, OrderChange.REPLACED, note=note)
        if order.locked:
            self._set_lock(account, order, self._lock_for_leaves(order))
        if order.post_only and self.books[order.listing.index].crosses(order.side, px):
            self._close(order, OrdStatus.EXPIRED, Reason.POST_ONLY, OrderChange.EXPIRED)
        else:
            self._execute(order, px)

    # --- matching ---------------------------------------------------------------------------------------------------

    def _execute(self, order: Order, px: int | None) -> None:
        book = self.books[order.listing.index]
        self._matching = order.listing
        book.match(order, px, self)
        if order.is_open:
            if order.ord_type is OrdType.MARKET:
                self._close(order, OrdStatus.EXPIRED, Reason.NO_LIQUIDITY, OrderChange.EXPIRED)
            elif order.tif in (TimeInForce.IOC, TimeInForce.FOK):
                self._close(order, OrdStatus.EXPIRED, Reason.IOC, OrderChange.EXPIRED)
            else:
                level = book.add(order)
                self._book_event(order.listing, order.side, order.px_ticks, level.qty_lots)
        while self._reduced:
            (_, index), account = self._reduced.popitem()
            self._end_useless_reduce_only(account, self.listings[index])

    def _end_useless_reduce_only(self, account: Account, listing: Listing) -> None:
        useless = [
            order
            for order in account.open.values()
            if order.reduce_only and order.listing is listing and not reduce_room(account, listing, order.side)
        ]
        for order in useless:
            self._unrest(order)
            self._close(order, OrdStatus.EXPIRED, Reason.REDUCE_ONLY, OrderChange.EXPIRED)

    def wanted(self, taker: Order, px_ticks: int) -> int:
        if not taker.is_open:
            return 0
        if taker.quote_atoms:
            return lots_for_quote(taker.listing, px_ticks, taker.quote_atoms - taker.cum_quote)
        if taker.reduce_only:
            return min(taker.leaves, reduce_room(self.accounts[taker.account_id], taker.listing, taker.side))
        return taker.leaves

    def maker_lots(self, maker: Order) -> int:
        if maker.reduce_only:
            return min(maker.leaves, reduce_room(self.accounts[maker.account_id], maker.listing, maker.side))
        return maker.leaves

    def on_void(self, maker: Order) -> None:
        self._close(maker, OrdStatus.EXPIRED, Reason.REDUCE_ONLY, OrderChange.EXPIRED)

    def on_prevented(self, maker: Order, taker: Order, *, ends_maker: bool, ends_taker: bool) -> None:
        lots = min(maker.leaves, max(1, self.wanted(taker, maker.px_ticks)))
        maker.prevented_lots += lots
        taker.prevented_lots += lots
        if ends_maker:
            self._close(maker, OrdStatus.EXPIRED, Reason.SELF_TRADE, OrderChange.SELF_TRADE)
        if ends_taker:
            self._close(taker, OrdStatus.EXPIRED, Reason.SELF_TRADE, OrderChange.SELF_TRADE)

    def on_level(self, side: Side, px_ticks: int, qty_lots: int) -> None:
        assert self._matching is not None
        self._book_event(self._matching, side, px_ticks, qty_lots)

    def on_match(self, maker: Order, taker: Order, px_ticks: int, qty_lots: int) -> None:
        listing = taker.listing
        quote = listing.value(px_ticks, qty_lots)
        listing.last_trade_id += 1
        listing.last_px_ticks = px_ticks
        listing.mark_px_ticks = listing.mark_px_ticks or px_ticks
        self._settle(maker, px_ticks, qty_lots, quote, is_maker=True)
        self._settle(taker, px_ticks, qty_lots, quote, is_maker=False)
        buyer, seller = (taker, maker) if taker.side is Side.BUY else (maker, taker)
        self._batch.append(
            PublicTrade(
                listing,
                listing.last_trade_id,
                px_ticks,
                qty_lots,
                taker.side,
                buyer.order_id,
                seller.order_id,
                self.now_ns,
            )
        )

    # --- settling ---------------------------------------------------------------------------------------------------

    def _settle(self, order: Order, px: int, qty: int, quote: int, *, is_maker: bool) -> None:
        listing, account = order.listing, self.accounts[order.account_id]
        self._hold(account, order, -1)
        order.cum_lots += qty
        order.cum_quote += quote
        order.cum_value += px * qty
        order.updated_ns = self.now_ns
        if order.quote_atoms:
            order.qty_lots = order.cum_lots
        is_filled = self.wanted(order, px) <= 0 if order.quote_atoms else order.leaves == 0
        order.status = OrdStatus.FILLED if is_filled else OrdStatus.PARTIALLY_FILLED
        self._hold(account, order, 1)
        rate = listing.maker_fee_e8 if is_maker else listing.taker_fee_e8
        settle = self._settle_spot if listing.is_spot else self._settle_linear
        fill = Fill(
            trade_id=listing.last_trade_id,
            exec_id=self._next_exec_id,
            order=order,
            account_id=account.account_id,
            listing=listing,
            side=order.side,
            px_ticks=px,
            qty_lots=qty,
            quote_atoms=quote,
            fee_atoms=0,
            fee_asset="",
            is_maker=is_maker,
            realized_atoms=0,
            ts_ns=self.now_ns,
        )
        changes = settle(account, order, fill, rate)
        if is_filled:
            self._leave_open(account, order)
        if account.unlimited:
            return
        account.fills.append(fill)
        if len(account.fills) > HISTORY_MAX:
            del account.fills[: HISTORY_MAX // 10]
        self._order_event(order, OrderChange.TRADE, fill)
        self._batch.extend(changes)

    def _settle_spot(self, account: Account, order: Order, fill: Fill, rate: int) -> list[Event]:
        listing, instrument = order.listing, order.listing.instrument
        base, quote = account.balance(Market.SPOT, instrument.base), account.balance(Market.SPOT, instrument.quote)
        lots_atoms = fill.qty_lots * listing.lot_atoms
        is_buy = order.side is Side.BUY
        paid, received = (fill.quote_atoms, lots_atoms) if is_buy else (lots_atoms, fill.quote_atoms)
        paying, receiving = (quote, base) if is_buy else (base, quote)
        fill.fee_atoms, fill.fee_asset = fee_of(received, rate), instrument.base if is_buy else instrument.quote
        if order.locked:
            released = order.locked - self._lock_for_leaves(order)
            order.locked -= released
            paying.locked -= released
            paying.free += released
        paying.free -= paid
        receiving.free += received - fill.fee_atoms
        self.accounts[0].balance(Market.SPOT, fill.fee_asset).free += fill.fee_atoms
        account.updated_ns = self.now_ns
        if account.unlimited:
            return []
        deltas = {instrument.base: lots_atoms, instrument.quote: -fill.quote_atoms}
        deltas[fill.fee_asset] -= fill.fee_atoms * (1 if is_buy else -1)
        sign = 1 if is_buy else -1
        return [
            BalanceChange(
                account.account_id,
                Market.SPOT,
                asset,
                balance.free,
                balance.locked,
                sign * deltas[asset],
                "ORDER",
                self.now_ns,
                listing,
            )
            for asset, balance in ((instrument.base, base), (instrument.quote, quote))
        ]

    def _settle_linear(self, account: Account, order: Order, fill: Fill, rate: int) -> list[Event]:
        listing, settle = order.listing, order.listing.instrument.settle
        position, wallet = account.position(listing), account.balance(Market.LINEAR, settle)
        fill.fee_atoms, fill.fee_asset = fee_of(fill.quote_atoms, rate), settle
        if position.qty_lots == 0:
            position.created_ns = self.now_ns
        fill.realized_atoms = position.apply_fill(order.side, fill.qty_lots, fill.quote_atoms)
        position.fee_atoms += fill.fee_atoms
        position.updated_ns = account.updated_ns = self.now_ns
        delta = fill.realized_atoms - fill.fee_atoms
        wallet.free += delta
        self.accounts[0].balance(Market.LINEAR, settle).free += fill.fee_atoms
        if account.unlimited:
            return []
        self._reduced[account.account_id, listing.index] = account
        return [
            BalanceChange(
                account.account_id,
                Market.LINEAR,
                settle,
                wallet.free,
                wallet.locked,
                delta,
                "ORDER",
                self.now_ns,
                listing,
            ),
            PositionChange(
                account.account_id,
                listing,
                position.qty_lots,
                position.cost_atoms,
                fill.realized_atoms,
                "ORDER",
                self.now_ns,
            ),
        ]

    def _credit(
        self, account: Account, market: Market, asset: str, atoms: int, cause: str, listing: Listing | None = None
    ) -> None:
        account.balance(market, asset).free += atoms
        account.updated_ns = self.now_ns
        self._balance_event(account, market, asset, atoms, cause, listing)

    # --- events -----------------------------------------------------------------------------------------------------

    def _order_event(
        self, order: Order, change: OrderChange, fill: Fill | None = None, note: dict[str, Any] | None = None
    ) -> None:
        if self.accounts[order.account_id].unlimited:
            return
        order.last_exec_id = self._next_exec_id
        event = OrderEvent(
            change,
            order,
            self.now_ns,
            self._next_exec_id,
            order.status,
            order.reason,
            order.px_ticks,
            order.qty_lots,
            order.cum_lots,
            order.cum_quote,
            order.cum_value,
            fill,
            note or {},
        )
        self._next_exec_id += 1
        self._batch.append(event)

    def _balance_event(
        self, account: Account, market: Market, asset: str, delta: int, cause: str, listing: Listing | None = None
    ) -> None:
        if account.unlimited:
            return
        balance = account.balance(market, asset)
        self._batch.append(
            BalanceChange(
                account.account_id, market, asset, balance.free, balance.locked, delta, cause, self.now_ns, listing
            )
        )

    def _book_event(self, listing: Listing, side: Side, px_ticks: int, qty_lots: int) -> None:
        listing.update_id += 1
        self._batch.append(BookChange(listing, listing.update_id, side, px_ticks, qty_lots, self.now_ns))


def fee_of(received_atoms: int, rate_e8: int) -> int:
    """Rounded towards zero, as the venues do with what is below their precision."""
    fee = abs(received_atoms * rate_e8) // RATE_SCALE
    return fee if rate_e8 >= 0 else -fee
