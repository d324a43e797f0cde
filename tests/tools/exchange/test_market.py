"""The synthetic market: deterministic, alive, uncrossed, and with arbitrage between the venues."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from engine.types import Market, OrdType, Side, TimeInForce
from tools.exchange.assemble import build_cores
from tools.exchange.core import VenueCore
from tools.exchange.market import SyntheticMarket
from tools.exchange.model import BookChange, Event, Listing, NewOrder, PublicTrade
from tools.exchange.settings import MarketSettings, load

START_NS = 10**18
STEP_NS = 30_000_000
STEPS_PER_S = 10**9 // STEP_NS


def build(seed: int = 1, **changes: object) -> tuple[SyntheticMarket, dict[str, VenueCore]]:
    cores = build_cores(load(None), START_NS)
    market = SyntheticMarket(msgspec.structs.replace(MarketSettings(), **changes), seed)
    for name, core in cores.items():
        for listing in core.listings:
            market.add(core, name, listing)
    return market, cores


def steps(market: SyntheticMarket, count: int, first: int = 0) -> Iterator[int]:
    for number in range(first, first + count):
        now_ns = START_NS + number * STEP_NS
        market.step(now_ns)
        yield now_ns


def listings_of(cores: dict[str, VenueCore]) -> list[tuple[VenueCore, Listing]]:
    return [(core, listing) for core in cores.values() for listing in core.listings]


def tops(cores: dict[str, VenueCore]) -> list[tuple[int, int, int, int]]:
    return [core.best(listing) for core, listing in listings_of(cores)]


def prices(core: VenueCore, listing: Listing) -> tuple[float, float]:
    bid, _, ask, _ = core.best(listing)
    tick = float(listing.instrument.tick_size)
    return bid * tick, ask * tick


def test_same_seed_makes_the_same_market_and_another_one_does_not() -> None:
    (one, cores), (two, others), (three, strangers) = build(1), build(1), build(2)
    for market in (one, two, three):
        list(steps(market, 40))
    assert tops(cores) == tops(others)
    assert tops(cores) != tops(strangers)


def test_books_are_full_and_never_crossed_and_money_is_conserved() -> None:
    market, cores = build()
    for _ in steps(market, 100):
        for bid, bid_qty, ask, ask_qty in tops(cores):
            assert 0 < bid < ask
            assert bid_qty > 0 and ask_qty > 0
    for core, listing in listings_of(cores):
        assert len(core.depth(listing, Side.BUY)) >= 50
        assert len(core.depth(listing, Side.SELL)) >= 50
        core.check()


def test_each_book_changes_20_to_60_levels_in_100_ms_and_trades() -> None:
    market, cores = build()
    changes: dict[tuple[str, int], int] = {}
    trades: dict[tuple[str, int], int] = {}

    def watch(name: str, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, BookChange):
                key = name, event.listing.index
                changes[key] = changes.get(key, 0) + 1
            elif isinstance(event, PublicTrade):
                key = name, event.listing.index
                trades[key] = trades.get(key, 0) + 1

    for name, core in cores.items():
        core.subscribe(lambda events, name=name: watch(name, events))
    seconds = 10
    list(steps(market, 2))
    changes.clear()
    list(steps(market, seconds * STEPS_PER_S, 2))
    assert len(changes) == 8
    per_100_ms = sum(changes.values()) / len(changes) / seconds / 10
    assert 20 <= per_100_ms <= 75
    assert all(count >= seconds for count in trades.values()) and len(trades) == 8


def test_arbitrage_opens_several_times_a_second_at_the_demos_fees() -> None:
    market, cores = build()
    pairs = [
        (a, b)
        for a in listings_of({"binance": cores["binance"]})
        for b in listings_of({"bybit": cores["bybit"]})
        if a[1].symbol == b[1].symbol and Market.LINEAR in (a[1].market, b[1].market)
    ]
    fees = 2 * 2e-4
    opened, was_open = 0, dict.fromkeys(range(len(pairs)), False)
    seconds = 20
    for _ in steps(market, seconds * STEPS_PER_S):
        for number, (a, b) in enumerate(pairs):
            (bid_a, ask_a), (bid_b, ask_b) = prices(*a), prices(*b)
            edge = max(bid_a / ask_b, bid_b / ask_a) - 1
            opened += edge > fees + 1e-4 and not was_open[number]
            was_open[number] = edge > fees + 1e-4
    assert 1.5 <= opened / seconds <= 12
    assert not all(was_open.values()), "the windows close again"


def test_without_noise_and_dislocations_venues_agree_but_for_their_basis() -> None:
    market, cores = build(noise_bps=0.0, dislocations_per_s=0.0, lag_ms={})
    for _ in steps(market, 60):
        pass
    spot = [sum(prices(core, listing)) / 2 for core, listing in listings_of(cores) if listing.symbol == "BTCUSDT"]
    assert max(spot) / min(spot) - 1 < 2e-4


def test_lagging_venue_follows_the_leader() -> None:
    market, cores = build(noise_bps=0.0, dislocations_per_s=0.0, basis_bps={}, lag_ms={"bybit.linear": 90})
    for _ in steps(market, 10):
        pass
    market.shock("BTC", 50.0)
    lead, lag = ((core, core.listing(Market.LINEAR, "BTCUSDT")) for core in (cores["binance"], cores["bybit"]))
    before = prices(*lag)[0]  # type: ignore[arg-type]
    list(steps(market, 1, 10))
    assert prices(*lead)[0] / before > 1.004  # type: ignore[arg-type]
    assert prices(*lag)[0] / before < 1.001  # type: ignore[arg-type]
    list(steps(market, 4, 11))
    assert prices(*lag)[0] / before > 1.004  # type: ignore[arg-type]


def test_pause_stops_every_book() -> None:
    market, cores = build()
    list(steps(market, 5))
    before = tops(cores)
    market.is_paused = True
    list(steps(market, 5, 5))
    assert tops(cores) == before


def test_user_takes_from_the_house_and_the_house_comes_back() -> None:
    market, cores = build(dislocations_per_s=0.0, trades_per_s=0.0)
    list(steps(market, 5))
    core = cores["bybit"]
    listing = core.listing(Market.LINEAR, "BTCUSDT")
    assert listing is not None
    _, _, ask, _ = core.best(listing)
    deep = core.depth(listing, Side.SELL, 5)
    lots = sum(qty for _, qty in deep)
    order = NewOrder(listing, Side.BUY, OrdType.LIMIT, lots, deep[-1][0], TimeInForce.IOC)
    assert core.place(2, order, START_NS + 5 * STEP_NS).cum_lots == lots
    assert core.best(listing)[2] > deep[-1][0]
    list(steps(market, 1, 6))
    assert core.best(listing)[2] <= ask + 20
    core.check()


def test_takers_fill_what_users_rest() -> None:
    market, cores = build(trades_per_s=10.0)
    list(steps(market, 5))
    core = cores["binance"]
    listing = core.listing(Market.LINEAR, "ETHUSDT")
    assert listing is not None
    bid, _, _, _ = core.best(listing)
    order = core.place(2, NewOrder(listing, Side.BUY, OrdType.LIMIT, 100, bid), START_NS + 5 * STEP_NS)
    list(steps(market, 20 * STEPS_PER_S, 6))
    assert order.cum_lots == 100
    assert core.accounts[2].positions[listing.index].qty_lots == 100


@pytest.mark.parametrize("gap_s", [3, 600])
def test_process_that_slept_does_not_jump(gap_s: int) -> None:
    market, cores = build()
    list(steps(market, 3))
    before = market.latents["BTC"].px
    market.step(START_NS + gap_s * 10**9)
    assert abs(market.latents["BTC"].px / before - 1) < 1e-3
    assert all(bid < ask for bid, _, ask, _ in tops(cores))
