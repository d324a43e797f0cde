"""One venue: listings, books, accounts and orders behind one door, without clock or socket.

Every call that can change something takes `now_ns` (UTC ns). Events of one call go to every subscriber as one list, in
order, after the call has done its work (so a subscriber may call back). All accounts are alike; `unlimited` ones
(house: market maker, synthetic flow, playback) skip funds checks, may go negative, and emit no OrderEvent,
BalanceChange or PositionChange. Account 0 takes the fees.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from engine.types import InstrumentState, Market, OrdStatus, OrdType, Side, TimeInForce
from tools.exchange.account import Account
from tools.exchange.checks import (
    check_amend_funds,
    check_filters,
    check_request,
    ends_at_once,
    funds_needed,
    reduce_only_lots,
)
from tools.exchange.lifecycle import Lifecycle
from tools.exchange.model import (
    RATE_SCALE,
    Fill,
    Listing,
    ListingChange,
    NewOrder,
    Order,
    OrderChange,
    Policy,
    Reason,
    Refused,
)

FOREVER: Final = 2**63 - 1


@dataclass(slots=True)
class ApiKey:
    key: str
    account_id: int
    secret: str = ""  # HMAC
    ed25519_public: bytes = b""  # 32 raw bytes; when set the key is an Ed25519 one
    can_trade: bool = True
    can_withdraw: bool = False
    ips: tuple[str, ...] = ()
    created_ns: int = 0


class VenueCore(Lifecycle):
    """Units: px ticks, qty lots, money atoms, time UTC ns.   Errors: Refused, which changed nothing."""

    def __init__(
        self,
        name: str,
        listings: Iterable[Listing],
        policies: dict[Market, Policy],
        *,
        first_order_id: int = 1,
        first_trade_id: int = 1,
    ) -> None:
        super().__init__(list(listings), policies, first_order_id)
        self.name = name
        self.next_expiry_ns = FOREVER
        self.keys: dict[str, ApiKey] = {}
        self.deposits: dict[tuple[Market, str], int] = {}  # net, for `check`
        self._by_symbol = {(listing.market, listing.symbol): listing for listing in self.listings}
        self._house: dict[tuple[int, Side, int], list[Order]] = {}
        for listing in self.listings:
            listing.last_trade_id = max(listing.last_trade_id, first_trade_id - 1)
        self.house = self.add_account("house", unlimited=True)

    # --- set-up -----------------------------------------------------------------------------------------------------

    def add_account(self, name: str, *, unlimited: bool = False) -> Account:
        """A new account; ids are dense, 0 is the fees' and 1 the house's own."""
        account = Account(len(self.accounts), name, unlimited=unlimited)
        if self.policies and next(iter(self.policies.values())).unified_wallet:
            account.linear = account.spot
        self.accounts[account.account_id] = account
        return account

    def add_key(self, key: ApiKey) -> None:
        self.keys[key.key] = key

    def listing(self, market: Market, symbol: str) -> Listing | None:
        return self._by_symbol.get((market, symbol))

    def deposit(
        self, account_id: int, market: Market, asset: str, atoms: int, now_ns: int, cause: str = "DEPOSIT"
    ) -> None:
        """Add (or, negative, take) money from outside."""
        self.begin(now_ns)
        self.deposits[market, asset] = self.deposits.get((market, asset), 0) + atoms
        self._credit(self.accounts[account_id], market, asset, atoms, cause)
        self.commit()

    def transfer(self, account_id: int, asset: str, atoms: int, source: Market, target: Market, now_ns: int) -> None:
        """Move free money between wallets; Refused BALANCE when there is less."""
        account = self.accounts[account_id]
        usable = account.balance(source, asset).free
        if source is Market.LINEAR:
            usable = min(usable, account.available(asset))
        if atoms > usable and not account.unlimited:
            raise Refused(Reason.BALANCE)
        self.begin(now_ns)
        for market, delta in ((source, -atoms), (target, atoms)):
            self.deposits[market, asset] = self.deposits.get((market, asset), 0) + delta
            self._credit(account, market, asset, delta, "TRANSFER")
        self.commit()

    # --- orders -----------------------------------------------------------------------------------------------------

    def place(self, account_id: int, new: NewOrder, now_ns: int) -> Order:
        """Accept and match an order, or raise Refused.

        The order returned may already be closed (filled, expired). An order by reduce-only may have been shrunk.
        """
        account, listing = self.accounts[account_id], new.listing
        policy, book = self.policies[listing.market], self.books[listing.index]
        px = new.px_ticks if new.ord_type is OrdType.LIMIT else None
        check_request(account, new, policy)
        qty = reduce_only_lots(account, new, policy) if new.reduce_only else new.qty_lots
        ends = ends_at_once(account, book, new, qty, policy)
        lock = 0 if account.unlimited else funds_needed(account, book, new, qty)
        self.begin(now_ns)
        order = self._make_order(account, new, qty)
        if order.expire_ns:
            self.next_expiry_ns = min(self.next_expiry_ns, order.expire_ns)
        self._open(account, order, lock)
        if ends is not Reason.NONE:
            self._close(order, OrdStatus.EXPIRED, ends, OrderChange.EXPIRED)
        else:
            self._execute(order, px)
        self.commit()
        return order

    def cancel(
        self,
        account_id: int,
        order: Order,
        now_ns: int,
        *,
        reason: Reason = Reason.USER,
        note: dict[str, object] | None = None,
    ) -> Order:
        """Cancel an open order; Refused UNKNOWN_ORDER when it is closed or another account's."""
        if order.account_id != account_id or not order.is_open:
            raise Refused(Reason.UNKNOWN_ORDER)
        self.begin(now_ns)
        self._unrest(order)
        self._close(order, OrdStatus.CANCELED, reason, OrderChange.CANCELED, note)
        self.commit()
        return order

    def cancel_all(
        self,
        account_id: int,
        listing: Listing | None,
        now_ns: int,
        *,
        market: Market | None = None,
        reason: Reason = Reason.USER,
    ) -> list[Order]:
        """Cancel the account's open orders of a listing, a market, or all; returns those canceled."""
        canceled = [
            order
            for order in self.accounts[account_id].open.values()
            if (listing is None or order.listing is listing) and (market is None or order.listing.market is market)
        ]
        self.begin(now_ns)
        for order in canceled:
            self.cancel(account_id, order, now_ns, reason=reason)
        self.commit()
        return canceled

    def amend(
        self,
        account_id: int,
        order: Order,
        now_ns: int,
        *,
        px_ticks: int | None = None,
        qty_lots: int | None = None,
        note: dict[str, object] | None = None,
    ) -> Order:
        """Change price and total quantity of a resting limit order.

        Keeps the place in the queue when only the quantity goes down and the policy says so; else the order goes to
        the back and may trade. A quantity not above what is filled cancels the order (reason AMENDED_AWAY).
        """
        if order.account_id != account_id or not order.is_open:
            raise Refused(Reason.UNKNOWN_ORDER)
        account, listing, policy = self.accounts[account_id], order.listing, self.policies[order.listing.market]
        px = order.px_ticks if px_ticks is None else px_ticks
        qty = order.qty_lots if qty_lots is None else qty_lots
        if px == order.px_ticks and qty == order.qty_lots:
            raise Refused(Reason.AMEND_SAME)
        if order.amend_count >= policy.max_amends:
            raise Refused(Reason.AMEND_LIMIT)
        check_filters(listing, OrdType.LIMIT, px, qty, order.reduce_only)
        if qty <= order.cum_lots:
            return self.cancel(account_id, order, now_ns, reason=Reason.AMENDED_AWAY, note=note)
        check_amend_funds(account, order, px, qty)
        self.begin(now_ns)
        order.amend_count += 1
        order.updated_ns = now_ns
        if px == order.px_ticks and qty < order.qty_lots and policy.qty_down_keeps_priority:
            self._reduce(account, order, qty, note)
        else:
            self._requeue(account, order, px, qty, note)
        self.commit()
        return order

    def set_leverage(self, account_id: int, listing: Listing, leverage: int, now_ns: int) -> None:
        """Refused MARGIN when position and open orders would need more than is available."""
        account = self.accounts[account_id]
        position = account.position(listing)
        before = position.leverage
        position.leverage = leverage
        if leverage < before and account.available(listing.instrument.settle) < 0:
            position.leverage = before
            raise Refused(Reason.MARGIN)
        position.updated_ns = now_ns

    # --- queries ----------------------------------------------------------------------------------------------------

    def find(self, account_id: int, listing: Listing, *, order_id: int = 0, client_id: str = "") -> Order | None:
        """The order by id, or the newest with that client id. Both given must agree: Refused ID_MISMATCH."""
        account = self.accounts[account_id]
        order = account.orders.get(order_id) if order_id else account.by_client_id.get((listing.index, client_id))
        if order is None or order.listing is not listing:
            return None
        if order_id and client_id and order.client_id != client_id:
            raise Refused(Reason.ID_MISMATCH)
        return order

    def is_visible(self, record: Order | Fill, now_ns: int) -> bool:
        """False while a query must not yet show it (`hooks.query_lag_ns`)."""
        born = record.created_ns if isinstance(record, Order) else record.ts_ns
        return now_ns - born >= self.hooks.query_lag_ns

    def open_orders(self, account_id: int, market: Market, listing: Listing | None = None) -> list[Order]:
        orders = self.accounts[account_id].open.values()
        return [o for o in orders if o.listing.market is market and (listing is None or o.listing is listing)]

    def orders(self, account_id: int, market: Market, listing: Listing | None = None) -> list[Order]:
        """Every order kept, oldest first."""
        orders = self.accounts[account_id].orders.values()
        return [o for o in orders if o.listing.market is market and (listing is None or o.listing is listing)]

    def fills(self, account_id: int, market: Market, listing: Listing | None = None) -> list[Fill]:
        """Oldest first."""
        fills = self.accounts[account_id].fills
        return [f for f in fills if f.listing.market is market and (listing is None or f.listing is listing)]

    def depth(self, listing: Listing, side: Side, limit: int = 0) -> list[tuple[int, int]]:
        """(px_ticks, qty_lots), best first; limit 0 is all."""
        book = self.books[listing.index].side(side)
        keys = book.keys[-limit:] if limit else book.keys
        return [(book.sign * key, book.levels[book.sign * key].qty_lots) for key in reversed(keys)]

    def best(self, listing: Listing) -> tuple[int, int, int, int]:
        """(bid px, bid qty, ask px, ask qty); an empty side is (0, 0)."""
        book = self.books[listing.index]
        bid, ask = book.bids.best(), book.asks.best()
        return (
            bid.px_ticks if bid else 0,
            bid.qty_lots if bid else 0,
            ask.px_ticks if ask else 0,
            ask.qty_lots if ask else 0,
        )

    # --- the house and the market's own doings ----------------------------------------------------------------------

    def house_level(self, listing: Listing, side: Side, px_ticks: int, qty_lots: int, now_ns: int) -> None:
        """Make the house's resting quantity at this level exactly `qty_lots` (absolute, as in a depth diff).

        More joins the back of the queue, less is taken from the back. A level that crosses removes the house's own
        levels of the other side first; orders of others it crosses are traded against.
        """
        self.begin(now_ns)
        if qty_lots:
            self._clear_crossed_house(listing, side, px_ticks)
        orders = self._house.setdefault((listing.index, side, px_ticks), [])
        orders[:] = [order for order in orders if order.is_open]
        surplus = sum(order.leaves for order in orders) - qty_lots
        if surplus < 0:
            new = NewOrder(listing, side, OrdType.LIMIT, -surplus, px_ticks)
            order = self._make_order(self.house, new, -surplus)
            orders.append(order)
            self._execute(order, px_ticks)
        while surplus > 0:
            surplus -= self._shrink_house(orders, surplus)
        if not orders:
            del self._house[listing.index, side, px_ticks]
        self.commit()

    def house_trade(self, listing: Listing, taker_side: Side, qty_lots: int, now_ns: int, *, px_ticks: int = 0) -> int:
        """The house takes up to `qty_lots` (limit `px_ticks`, 0 is at market); returns the lots traded."""
        new = NewOrder(listing, taker_side, OrdType.LIMIT, qty_lots, px_ticks, TimeInForce.IOC)
        self.begin(now_ns)
        order = self._make_order(self.house, new, qty_lots)
        self._execute(order, px_ticks or None)
        self.commit()
        return order.cum_lots

    def set_mark(self, listing: Listing, px_ticks: int, now_ns: int) -> None:
        if px_ticks != listing.mark_px_ticks:
            self.begin(now_ns)
            listing.mark_px_ticks = px_ticks
            self._batch.append(ListingChange(listing, "mark", now_ns))
            self.commit()

    def set_state(self, listing: Listing, state: InstrumentState, now_ns: int, *, cancel_orders: bool = False) -> None:
        """`cancel_orders`: the venue cancels what rests (Binance expires it with EXCHANGE_CANCELED)."""
        self.begin(now_ns)
        listing.state = state
        self._batch.append(ListingChange(listing, "state", now_ns))
        if cancel_orders:
            for account in self.accounts.values():
                for order in [order for order in account.open.values() if order.listing is listing]:
                    self._unrest(order)
                    self._close(order, OrdStatus.EXPIRED, Reason.VENUE, OrderChange.EXPIRED)
        self.commit()

    def apply_funding(self, listing: Listing, rate_e8: int, now_ns: int) -> None:
        """Longs pay shorts at a positive rate; what rounding leaves goes to the fees' account."""
        self.begin(now_ns)
        settle, residue = listing.instrument.settle, 0
        for account in self.accounts.values():
            position = account.positions.get(listing.index)
            if position is None or position.qty_lots == 0:
                continue
            paid = position.mark_value() * rate_e8 // RATE_SCALE
            residue += paid
            position.funding_atoms -= paid
            self._credit(account, Market.LINEAR, settle, -paid, "FUNDING", listing)
        self._credit(self.accounts[0], Market.LINEAR, settle, residue, "FUNDING", listing)
        listing.funding_rate_e8 = rate_e8
        self._batch.append(ListingChange(listing, "funding", now_ns))
        self.commit()

    def expire_due(self, now_ns: int) -> None:
        """End the GTD orders whose time has come."""
        if now_ns < self.next_expiry_ns:
            return
        self.next_expiry_ns = FOREVER
        for account in self.accounts.values():
            due = [order for order in account.open.values() if 0 < order.expire_ns <= now_ns]
            later = [order.expire_ns for order in account.open.values() if order.expire_ns > now_ns]
            self.next_expiry_ns = min([self.next_expiry_ns, *later])
            for order in due:
                self.begin(now_ns)
                self._unrest(order)
                self._close(order, OrdStatus.EXPIRED, Reason.VENUE, OrderChange.EXPIRED)
                self.commit()

    def check(self) -> None:
        """Assert books, accounts, and that no money came or went but by deposits."""
        for book in self.books:
            book._check()
        for account in self.accounts.values():
            account._check()
        unified = any(policy.unified_wallet for policy in self.policies.values())
        totals: dict[tuple[Market, str], int] = {}
        for account in self.accounts.values():
            for market in (Market.SPOT,) if account.linear is account.spot else (Market.SPOT, Market.LINEAR):
                for asset, balance in account.wallet(market).items():
                    key = (Market.SPOT if unified else market, asset)
                    totals[key] = totals.get(key, 0) + balance.total
            for position in account.positions.values():
                key = (Market.SPOT if unified else Market.LINEAR, position.listing.instrument.settle)
                totals[key] = totals.get(key, 0) - position.cost_atoms
        expected: dict[tuple[Market, str], int] = {}
        for (market, asset), atoms in self.deposits.items():
            key = (Market.SPOT if unified else market, asset)
            expected[key] = expected.get(key, 0) + atoms
        for key in totals.keys() | expected.keys():
            assert totals.get(key, 0) == expected.get(key, 0), (
                f"{key}: {totals.get(key)} held, {expected.get(key)} put in"
            )
        for listing in self.listings:
            net = sum(
                a.positions[listing.index].qty_lots for a in self.accounts.values() if listing.index in a.positions
            )
            assert net == 0, f"{listing.symbol}: positions add up to {net} lots"

    def _shrink_house(self, orders: list[Order], surplus: int) -> int:
        # Takes lots off the newest house order of a level; returns how many.
        order = orders[-1]
        if order.leaves > surplus:
            left = self.books[order.listing.index].reduce(order, order.qty_lots - surplus)
            self._book_event(order.listing, order.side, order.px_ticks, left)
            return surplus
        orders.pop()
        self._unrest(order)
        order.status = OrdStatus.CANCELED
        return order.leaves

    def _clear_crossed_house(self, listing: Listing, side: Side, px_ticks: int) -> None:
        book = self.books[listing.index].side(side.opposite)
        crossed = []
        for key in reversed(book.keys):
            px = book.sign * key
            if side * px > side * px_ticks:
                break
            crossed += [o for o in book.levels[px].orders.values() if o.account_id == self.house.account_id]
        for order in crossed:
            self._unrest(order)
            order.status = OrdStatus.CANCELED
