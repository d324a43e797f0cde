"""Accounts: wallets, positions, what open orders hold. All in atoms; every change is conserved over all accounts.

Spot: an order locks what it would pay (BUY quote at its limit, SELL base); fees come off the asset received.
Linear: one-way positions at average cost; realised result, fees and funding go to the wallet of the settle asset.
Initial margin of one listing is max(|P + B|, |P - A|) / leverage with P the position's value at mark, B and A the open
bids and asks (Binance USD-M, "Initial Margin", read 2026-11-22; Bybit's differs by an estimated closing fee).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.types import Market, Side
from tools.exchange.model import Fill, Listing, Order


@dataclass(slots=True)
class Balance:
    free: int = 0
    locked: int = 0

    @property
    def total(self) -> int:
        return self.free + self.locked


@dataclass(slots=True)
class Position:
    """`cost_atoms` has the sign of `qty_lots`: what was paid for a long, minus what was received for a short."""

    listing: Listing
    qty_lots: int = 0
    cost_atoms: int = 0
    realized_atoms: int = 0  # since the beginning, fees not included
    fee_atoms: int = 0
    funding_atoms: int = 0
    leverage: int = 20
    updated_ns: int = 0
    created_ns: int = 0

    def apply_fill(self, side: Side, qty_lots: int, value_atoms: int) -> int:
        """Returns the result realised by the part that closes."""
        realized = 0
        closing = min(qty_lots, abs(self.qty_lots)) if self.qty_lots * side < 0 else 0
        opening_value = value_atoms
        if closing:
            closing_value = value_atoms * closing // qty_lots
            opening_value -= closing_value
            # The last lot takes the rest, so that rounding never leaves cost on a flat position.
            share = abs(self.cost_atoms) * closing // abs(self.qty_lots)
            sign = 1 if self.qty_lots > 0 else -1
            realized = sign * (closing_value - share)
            self.cost_atoms -= sign * share
            self.qty_lots -= sign * closing
        if qty_lots > closing:
            self.qty_lots += side * (qty_lots - closing)
            self.cost_atoms += side * opening_value
        self.realized_atoms += realized
        return realized

    def unrealized(self) -> int:
        return self.listing.value(self.listing.mark_px_ticks, self.qty_lots) - self.cost_atoms if self.qty_lots else 0

    def mark_value(self) -> int:
        return self.listing.value(self.listing.mark_px_ticks, self.qty_lots)


@dataclass(slots=True)
class OpenSums:
    """What the open orders of one listing add up to."""

    bid_atoms: int = 0
    ask_atoms: int = 0
    count: int = 0


@dataclass(slots=True)
class Account:
    account_id: int
    name: str
    unlimited: bool = False
    spot: dict[str, Balance] = field(default_factory=dict)
    linear: dict[str, Balance] = field(default_factory=dict)
    positions: dict[int, Position] = field(default_factory=dict)  # by listing index
    sums: dict[int, OpenSums] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)  # every order kept, oldest first
    open: dict[int, Order] = field(default_factory=dict)
    by_client_id: dict[tuple[int, str], Order] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    default_leverage: int = 20
    settings: dict[str, object] = field(default_factory=dict)  # a front's own switches: hedge mode, margin mode
    updated_ns: int = 0

    def wallet(self, market: Market) -> dict[str, Balance]:
        return self.spot if market is Market.SPOT else self.linear

    def balance(self, market: Market, asset: str) -> Balance:
        wallet = self.wallet(market)
        balance = wallet.get(asset)
        if balance is None:
            balance = wallet[asset] = Balance()
        return balance

    def position(self, listing: Listing) -> Position:
        position = self.positions.get(listing.index)
        if position is None:
            position = self.positions[listing.index] = Position(listing, leverage=self.default_leverage)
        return position

    def open_sums(self, listing: Listing) -> OpenSums:
        sums = self.sums.get(listing.index)
        if sums is None:
            sums = self.sums[listing.index] = OpenSums()
        return sums

    # --- margin -------------------------------------------------------------------------------------------------

    def initial_margin(self, listing: Listing, extra_bid: int = 0, extra_ask: int = 0) -> int:
        """Margin that position and open orders of a listing hold, with further open orders of that value."""
        position = self.position(listing)
        sums = self.open_sums(listing)
        value = position.mark_value()
        exposure = max(abs(value), abs(value + sums.bid_atoms + extra_bid), abs(value - sums.ask_atoms - extra_ask))
        return -(-exposure // position.leverage)

    def position_margin(self, listing: Listing) -> int:
        position = self.position(listing)
        return -(-abs(position.mark_value()) // position.leverage)

    def maintenance_margin(self, listing: Listing) -> int:
        return abs(self.position(listing).mark_value()) * listing.maint_margin_e8 // 10**8

    def margin_listings(self, asset: str) -> list[Listing]:
        """Listings settled in `asset` where the account has a position or an order."""
        found = [
            position.listing for position in self.positions.values() if position.listing.instrument.settle == asset
        ]
        return [listing for listing in found if self.positions[listing.index].qty_lots or self.open_sums(listing).count]

    def unrealized(self, asset: str) -> int:
        return sum(self.position(listing).unrealized() for listing in self.margin_listings(asset))

    def margin_used(self, asset: str) -> int:
        return sum(self.initial_margin(listing) for listing in self.margin_listings(asset))

    def available(self, asset: str) -> int:
        """What the linear wallet can still put up as margin (cross)."""
        free = self.balance(Market.LINEAR, asset).free
        return free + self.unrealized(asset) - self.margin_used(asset)

    def _check(self) -> None:
        for wallet in (self.spot, self.linear):
            for asset, balance in wallet.items():
                assert self.unlimited or balance.free >= 0 or wallet is self.linear, f"{self.name}: {asset} {balance}"
                assert balance.locked >= 0, f"{self.name}: {asset} {balance}"
        if self.unlimited:
            return
        held_by_asset: dict[str, int] = {}
        for order in self.open.values():
            if order.listing.is_spot:
                instrument = order.listing.instrument
                asset = instrument.quote if order.side is Side.BUY else instrument.base
                held_by_asset[asset] = held_by_asset.get(asset, 0) + order.locked
        for asset, balance in self.spot.items():
            held = held_by_asset.get(asset, 0)
            assert balance.locked == held, f"{self.name}: {asset} locked {balance.locked}, orders hold {held}"
        for index, sums in self.sums.items():
            orders = [order for order in self.open.values() if order.listing.index == index]
            assert sums.count == len(orders), f"{self.name}: {index} counts {sums.count} orders, has {len(orders)}"
            for side, summed in ((Side.BUY, sums.bid_atoms), (Side.SELL, sums.ask_atoms)):
                value = sum(order_value(order) for order in orders if order.side is side)
                assert summed == value, f"{self.name}: {index} {side.name} {summed} atoms, orders {value}"


def order_value(order: Order) -> int:
    """What the unfilled part adds to a listing's open orders; reduce-only orders add nothing."""
    return 0 if order.reduce_only else order.listing.value(order.px_ticks, order.leaves)
