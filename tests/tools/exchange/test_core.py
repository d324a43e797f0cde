"""The venue core: acceptance, funds, amendments, reduce-only, the house, events; and a seeded stress of all of it."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from engine.instrument import Instrument
from engine.types import InstrumentKind, InstrumentState, Market, OrdStatus, OrdType, Side, TimeInForce, Venue
from tools.exchange.core import VenueCore
from tools.exchange.model import (
    ATOMS,
    BalanceChange,
    BookChange,
    Event,
    Listing,
    NewOrder,
    Order,
    OrderChange,
    OrderEvent,
    Policy,
    PositionChange,
    PublicTrade,
    Reason,
    Refused,
    Stp,
)

BUY, SELL = Side.BUY, Side.SELL
LIMIT, MARKET = OrdType.LIMIT, OrdType.MARKET


def make_listing(index: int, market: Market, **extra: object) -> Listing:
    kind = InstrumentKind.SPOT if market is Market.SPOT else InstrumentKind.PERPETUAL
    instrument = Instrument(
        index=index,
        venue=Venue.BINANCE,
        market=market,
        kind=kind,
        symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        settle="USDT",
        tick_size=Decimal("0.1"),
        lot_size=Decimal("0.001"),
        min_notional_atoms=5 * ATOMS,
    )
    return Listing(instrument, maker_fee_e8=20_000, taker_fee_e8=50_000, **extra)  # type: ignore[arg-type]


class Rig:
    def __init__(self, **policy: bool) -> None:
        self.spot, self.linear = make_listing(0, Market.SPOT), make_listing(1, Market.LINEAR)
        policies = {Market.SPOT: Policy(**policy), Market.LINEAR: Policy(**policy)}  # type: ignore[arg-type]
        self.core = VenueCore("binance", [self.spot, self.linear], policies)
        self.events: list[Event] = []
        self.core.subscribe(self.events.extend)
        self.now_ns = 1_000
        self.a = self.account("a")
        self.b = self.account("b")

    def account(self, name: str) -> int:
        account_id = self.core.add_account(name).account_id
        for market in (Market.SPOT, Market.LINEAR):
            self.core.deposit(account_id, market, "USDT", 100_000 * ATOMS, self.now_ns)
        self.core.deposit(account_id, Market.SPOT, "BTC", 10 * ATOMS, self.now_ns)
        self.events.clear()
        return account_id

    def limit(self, who: int, listing: Listing, side: Side, px: int, qty: int, **extra: object) -> Order:
        new = NewOrder(listing, side, LIMIT, qty, px, **extra)  # type: ignore[arg-type]
        return self.core.place(who, new, self.now_ns)

    def market(self, who: int, listing: Listing, side: Side, qty: int, **extra: object) -> Order:
        return self.core.place(who, NewOrder(listing, side, MARKET, qty, **extra), self.now_ns)  # type: ignore[arg-type]

    def balance(self, who: int, market: Market, asset: str) -> tuple[int, int]:
        balance = self.core.accounts[who].balance(market, asset)
        return balance.free, balance.locked

    def refused(self, call: object, *args: object, **kwargs: object) -> Reason:
        with pytest.raises(Refused) as caught:
            call(*args, **kwargs)  # type: ignore[operator]
        self.core.check()
        return caught.value.reason


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_spot_buy_locks_quote_at_its_limit_and_cancel_gives_it_back(rig: Rig) -> None:
    order = rig.limit(rig.a, rig.spot, BUY, 250_000, 100)  # 0.1 BTC at 25000
    assert rig.balance(rig.a, Market.SPOT, "USDT") == (97_500 * ATOMS, 2_500 * ATOMS)
    rig.core.cancel(rig.a, order, rig.now_ns)
    assert rig.balance(rig.a, Market.SPOT, "USDT") == (100_000 * ATOMS, 0)
    assert (order.status, order.reason) == (OrdStatus.CANCELED, Reason.USER)
    rig.core.check()


def test_spot_trade_at_a_better_price_pays_that_price_and_fees_in_the_asset_received(rig: Rig) -> None:
    rig.limit(rig.b, rig.spot, SELL, 250_000, 100)
    order = rig.limit(rig.a, rig.spot, BUY, 260_000, 100)
    assert order.status is OrdStatus.FILLED
    assert rig.balance(rig.a, Market.SPOT, "USDT") == (97_500 * ATOMS, 0)
    assert rig.balance(rig.a, Market.SPOT, "BTC") == (10 * ATOMS + 10_000_000 - 5_000, 0)  # taker 0.05 % of 0.1 BTC
    assert rig.balance(rig.b, Market.SPOT, "USDT") == (102_500 * ATOMS - 50_000_000, 0)  # maker 0.02 % of 2500
    rig.core.check()


def test_spot_order_beyond_the_balance_is_refused(rig: Rig) -> None:
    assert rig.refused(rig.limit, rig.a, rig.spot, BUY, 250_000, 5_000) is Reason.BALANCE
    assert rig.refused(rig.limit, rig.a, rig.spot, SELL, 250_000, 10_001) is Reason.BALANCE


def test_market_order_by_quote_spends_no_more_than_its_amount(rig: Rig) -> None:
    rig.limit(rig.b, rig.spot, SELL, 250_000, 10)
    rig.limit(rig.b, rig.spot, SELL, 250_100, 100)
    order = rig.market(rig.a, rig.spot, BUY, 0, quote_atoms=1_000 * ATOMS)
    assert order.status is OrdStatus.FILLED
    assert order.cum_lots == 10 + 29  # 250 at 25000, then 750 // 25.01
    assert order.cum_quote == 250 * ATOMS + 29 * 25_010 * ATOMS // 1000
    rig.core.check()


def test_market_order_without_book_expires(rig: Rig) -> None:
    rig.limit(rig.b, rig.spot, SELL, 250_000, 10)
    order = rig.market(rig.a, rig.spot, BUY, 20)
    assert (order.status, order.reason, order.cum_lots) == (OrdStatus.EXPIRED, Reason.NO_LIQUIDITY, 10)
    rig.core.check()


def test_post_only_that_would_take_is_refused_or_expires_by_policy(rig: Rig) -> None:
    rig.limit(rig.b, rig.spot, SELL, 250_000, 10)
    assert rig.refused(rig.limit, rig.a, rig.spot, BUY, 250_000, 10, post_only=True) is Reason.POST_ONLY
    other = Rig(post_only_refuses=False)
    other.limit(other.b, other.spot, SELL, 250_000, 10)
    order = other.limit(other.a, other.spot, BUY, 250_000, 10, post_only=True)
    assert (order.status, order.reason) == (OrdStatus.EXPIRED, Reason.POST_ONLY)
    other.core.check()


def test_fok_fills_whole_or_not_at_all(rig: Rig) -> None:
    rig.limit(rig.b, rig.spot, SELL, 250_000, 10)
    order = rig.limit(rig.a, rig.spot, BUY, 250_000, 11, tif=TimeInForce.FOK)
    assert (order.status, order.reason, order.cum_lots) == (OrdStatus.EXPIRED, Reason.FOK, 0)
    order = rig.limit(rig.a, rig.spot, BUY, 250_000, 10, tif=TimeInForce.FOK)
    assert order.status is OrdStatus.FILLED
    rig.core.check()


def test_client_id_is_free_again_after_its_order_closed(rig: Rig) -> None:
    order = rig.limit(rig.a, rig.spot, BUY, 250_000, 10, client_id="x")
    assert rig.refused(rig.limit, rig.a, rig.spot, BUY, 250_000, 10, client_id="x") is Reason.DUPLICATE_ID
    rig.core.cancel(rig.a, order, rig.now_ns)
    again = rig.limit(rig.a, rig.spot, BUY, 250_000, 10, client_id="x")
    assert rig.core.find(rig.a, rig.spot, client_id="x") is again


def test_linear_round_trip_realises_the_difference_and_pays_fees_in_settle(rig: Rig) -> None:
    rig.limit(rig.b, rig.linear, SELL, 250_000, 100)
    rig.market(rig.a, rig.linear, BUY, 100)
    rig.limit(rig.b, rig.linear, BUY, 251_000, 100)
    rig.market(rig.a, rig.linear, SELL, 100)
    position = rig.core.accounts[rig.a].position(rig.linear)
    assert (position.qty_lots, position.cost_atoms) == (0, 0)
    assert position.realized_atoms == 10 * ATOMS  # 0.1 BTC times 100
    fees = (2_500 + 2_510) * ATOMS * 5 // 10_000
    assert rig.balance(rig.a, Market.LINEAR, "USDT") == (100_010 * ATOMS - fees, 0)
    rig.core.check()


def test_linear_order_beyond_the_margin_is_refused_and_a_closing_one_is_not(rig: Rig) -> None:
    rig.core.set_leverage(rig.a, rig.linear, 1, rig.now_ns)
    assert rig.refused(rig.limit, rig.a, rig.linear, BUY, 250_000, 4_000) is Reason.MARGIN
    rig.limit(rig.b, rig.linear, SELL, 250_000, 3_900)
    rig.market(rig.a, rig.linear, BUY, 3_900)
    assert rig.refused(rig.limit, rig.a, rig.linear, BUY, 250_000, 1_000) is Reason.MARGIN
    rig.limit(rig.a, rig.linear, SELL, 260_000, 3_900)
    rig.core.check()


def test_reduce_only_shrinks_to_the_position_and_dies_with_it(rig: Rig) -> None:
    assert rig.refused(rig.limit, rig.a, rig.linear, SELL, 260_000, 10, reduce_only=True) is Reason.REDUCE_ONLY
    rig.limit(rig.b, rig.linear, SELL, 250_000, 100)
    rig.market(rig.a, rig.linear, BUY, 100)
    first = rig.limit(rig.a, rig.linear, SELL, 260_000, 150, reduce_only=True)
    second = rig.limit(rig.a, rig.linear, SELL, 260_000, 60, reduce_only=True)
    assert first.qty_lots == 100
    rig.market(rig.b, rig.linear, BUY, 160)
    assert first.status is OrdStatus.FILLED
    assert (second.status, second.reason, second.cum_lots) == (OrdStatus.EXPIRED, Reason.REDUCE_ONLY, 0)
    assert rig.core.accounts[rig.a].position(rig.linear).qty_lots == 0
    rig.core.check()


@pytest.mark.parametrize(
    ("stp", "maker", "taker"),
    [
        (Stp.EXPIRE_MAKER, OrdStatus.EXPIRED, OrdStatus.NEW),
        (Stp.EXPIRE_TAKER, OrdStatus.NEW, OrdStatus.EXPIRED),
        (Stp.EXPIRE_BOTH, OrdStatus.EXPIRED, OrdStatus.EXPIRED),
        (Stp.NONE, OrdStatus.FILLED, OrdStatus.FILLED),
    ],
)
def test_self_trade_prevention_ends_the_side_its_mode_names(
    rig: Rig, stp: Stp, maker: OrdStatus, taker: OrdStatus
) -> None:
    first = rig.limit(rig.a, rig.spot, SELL, 250_000, 10)
    second = rig.limit(rig.a, rig.spot, BUY, 250_000, 10, stp=stp)
    assert (first.status, second.status) == (maker, taker)
    rig.core.check()


def test_amend_down_keeps_priority_only_where_the_policy_says_so() -> None:
    for keeps in (True, False):
        rig = Rig(qty_down_keeps_priority=keeps)
        first = rig.limit(rig.a, rig.spot, SELL, 250_000, 20)
        second = rig.limit(rig.b, rig.spot, SELL, 250_000, 20)
        rig.core.amend(rig.a, first, rig.now_ns, qty_lots=10)
        rig.core.house_trade(rig.spot, BUY, 10, rig.now_ns)
        assert (first.cum_lots, second.cum_lots) == ((10, 0) if keeps else (0, 10))
        rig.core.check()


def test_amend_to_a_crossing_price_trades_and_to_the_filled_quantity_cancels(rig: Rig) -> None:
    order = rig.limit(rig.a, rig.linear, BUY, 240_000, 20)
    rig.limit(rig.b, rig.linear, SELL, 250_000, 5)
    rig.core.amend(rig.a, order, rig.now_ns, px_ticks=250_000)
    assert (order.cum_lots, order.px_ticks, order.status) == (5, 250_000, OrdStatus.PARTIALLY_FILLED)
    assert rig.refused(rig.core.amend, rig.a, order, rig.now_ns, px_ticks=250_000) is Reason.AMEND_SAME
    rig.core.amend(rig.a, order, rig.now_ns, qty_lots=5)
    assert (order.status, order.reason) == (OrdStatus.CANCELED, Reason.AMENDED_AWAY)
    rig.core.check()


def test_house_level_is_absolute_and_trades_with_what_it_crosses(rig: Rig) -> None:
    core, spot = rig.core, rig.spot
    core.house_level(spot, BUY, 249_990, 50, rig.now_ns)
    mine = rig.limit(rig.a, spot, BUY, 249_990, 20)
    core.house_level(spot, BUY, 249_990, 80, rig.now_ns)  # 30 more behind mine
    core.house_level(spot, BUY, 249_990, 60, rig.now_ns)  # 20 of those go again
    assert core.depth(spot, BUY) == [(249_990, 80)]
    assert core.house_trade(spot, SELL, 60, rig.now_ns) == 60
    assert mine.cum_lots == 10
    core.house_level(spot, SELL, 250_010, 5, rig.now_ns)
    core.house_level(spot, BUY, 250_020, 7, rig.now_ns)  # the house's own ask makes way
    assert core.best(spot) == (250_020, 7, 0, 0)
    core.check()


def test_events_of_one_call_come_as_one_list_in_order(rig: Rig) -> None:
    batches: list[list[Event]] = []
    rig.core.subscribe(batches.append)
    rig.limit(rig.b, rig.linear, SELL, 250_000, 10)
    rig.limit(rig.a, rig.linear, BUY, 250_000, 20)
    assert [type(event) for event in batches[0]] == [OrderEvent, BookChange]
    kinds = [OrderEvent, OrderEvent, BalanceChange, PositionChange, OrderEvent, BalanceChange, PositionChange]
    assert [type(event) for event in batches[1]] == [*kinds, PublicTrade, BookChange, BookChange]
    taker = batches[1][4]
    assert isinstance(taker, OrderEvent)
    assert (taker.change, taker.status, taker.cum_lots) == (OrderChange.TRADE, OrdStatus.PARTIALLY_FILLED, 10)
    updates = [event.update_id for batch in batches for event in batch if isinstance(event, BookChange)]
    assert updates == [1, 2, 3]


def test_halt_refuses_and_may_expire_what_rests(rig: Rig) -> None:
    order = rig.limit(rig.a, rig.spot, BUY, 240_000, 10)
    rig.core.set_state(rig.spot, InstrumentState.HALTED, rig.now_ns, cancel_orders=True)
    assert (order.status, order.reason) == (OrdStatus.EXPIRED, Reason.VENUE)
    assert rig.refused(rig.limit, rig.a, rig.spot, BUY, 240_000, 10) is Reason.HALTED


def test_funding_moves_money_from_longs_to_shorts(rig: Rig) -> None:
    rig.limit(rig.b, rig.linear, SELL, 250_000, 100)
    rig.market(rig.a, rig.linear, BUY, 100)
    before = [rig.balance(who, Market.LINEAR, "USDT")[0] for who in (rig.a, rig.b)]
    rig.core.apply_funding(rig.linear, 10_000, rig.now_ns)  # 0.01 % of 2500
    after = [rig.balance(who, Market.LINEAR, "USDT")[0] for who in (rig.a, rig.b)]
    assert [x - y for x, y in zip(after, before, strict=True)] == [-25_000_000, 25_000_000]
    rig.core.check()


def test_gtd_order_expires_at_its_time(rig: Rig) -> None:
    order = rig.limit(rig.a, rig.linear, BUY, 240_000, 10, tif=TimeInForce.GTD, expire_ns=5_000)
    rig.core.expire_due(4_999)
    assert order.is_open
    rig.core.expire_due(5_000)
    assert order.status is OrdStatus.EXPIRED
    rig.core.check()


def random_step(rig: Rig, draw: random.Random, open_orders: list[tuple[int, Order]]) -> None:
    listing = draw.choice((rig.spot, rig.linear))
    who, side, px, qty = draw.choice((rig.a, rig.b)), draw.choice((BUY, SELL)), draw.randint(249_950, 250_050), 0
    qty = draw.randint(1, 40)
    match draw.randrange(8):
        case 0 | 1 | 2:
            tif = draw.choice((TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK))
            extra = {"post_only": draw.random() < 0.2, "stp": draw.choice(list(Stp))}
            extra["reduce_only"] = not listing.is_spot and draw.random() < 0.3
            open_orders.append((who, rig.limit(who, listing, side, px, qty, tif=tif, **extra)))
        case 3:
            by_quote = listing.is_spot and draw.random() < 0.5
            rig.market(who, listing, side, 0 if by_quote else qty, quote_atoms=500 * ATOMS if by_quote else 0)
        case 4 if open_orders:
            who, order = draw.choice(open_orders)
            rig.core.cancel(who, order, rig.now_ns)
        case 5 if open_orders:
            who, order = draw.choice(open_orders)
            rig.core.amend(who, order, rig.now_ns, px_ticks=draw.choice((None, px)), qty_lots=draw.choice((None, qty)))
        case 6:
            rig.core.house_level(listing, side, px - 5 * side, draw.choice((0, qty)), rig.now_ns)
        case _:
            rig.core.house_trade(listing, side, qty, rig.now_ns)


@pytest.mark.parametrize("seed", range(8))
def test_random_orders_keep_every_invariant(seed: int) -> None:
    draw = random.Random(seed)
    rig = Rig(qty_down_keeps_priority=seed % 2 == 0, post_only_refuses=seed % 3 == 0, unified_wallet=seed % 4 == 1)
    open_orders: list[tuple[int, Order]] = []
    refused = 0
    for _ in range(400):
        rig.now_ns += 1
        try:
            random_step(rig, draw, open_orders)
        except Refused:
            refused += 1
        rig.core.check()
    trades = sum(isinstance(event, PublicTrade) for event in rig.events)
    assert trades > 30
    assert refused < 250
