"""Build the venues that a settings file describes: cores with listings, accounts and keys, fronts, market source."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from engine.instrument import Instrument, atoms_from_text, exact_units
from engine.types import InstrumentKind, Market
from engine.types import Venue as VenueId
from tools.exchange.binance.front import BinanceFront
from tools.exchange.bybit.front import BybitFront
from tools.exchange.core import ApiKey, VenueCore
from tools.exchange.front import Front, Sink
from tools.exchange.market import SyntheticMarket
from tools.exchange.model import Listing, Policy
from tools.exchange.playback import Playback, Recording, open_recordings
from tools.exchange.settings import AccountSettings, ExchangeSettings, ListingSettings, rate_e8

MARKETS = {"spot": Market.SPOT, "linear": Market.LINEAR}
VENUES = {"binance": VenueId.BINANCE, "bybit": VenueId.BYBIT}

POLICIES: dict[str, dict[Market, Policy]] = {
    "binance": {
        Market.SPOT: Policy(post_only_refuses=True, fok_refuses=False, qty_down_keeps_priority=True, max_amends=10),
        Market.LINEAR: Policy(post_only_refuses=True, fok_refuses=True, max_amends=10_000),
    },
    "bybit": {
        market: Policy(
            post_only_refuses=False,
            fok_refuses=False,
            qty_down_keeps_priority=True,
            client_id_forever=True,
            unified_wallet=True,
        )
        for market in (Market.SPOT, Market.LINEAR)
    },
}
FIRST_ORDER_ID = {"binance": 10_000_000_001, "bybit": 1_523_000_001}
FIRST_TRADE_ID = {"binance": 3_000_000_001, "bybit": 2_290_000_000_000_000_001}


def build_listing(index: int, conf: ListingSettings) -> Listing:
    market = MARKETS[conf.market]
    tick, lot = Decimal(conf.tick_size), Decimal(conf.lot_size)
    instrument = Instrument(
        index=index,
        venue=VENUES[conf.venue],
        market=market,
        kind=InstrumentKind.SPOT if market is Market.SPOT else InstrumentKind.PERPETUAL,
        symbol=conf.symbol,
        base=conf.base,
        quote=conf.quote,
        settle=conf.quote,
        tick_size=tick,
        lot_size=lot,
        min_qty_lots=exact_units(conf.min_qty, lot),
        max_qty_lots=exact_units(conf.max_qty, lot),
        min_notional_atoms=atoms_from_text(conf.min_notional),
    )
    return Listing(
        instrument,
        maker_fee_e8=rate_e8(conf.maker_fee),
        taker_fee_e8=rate_e8(conf.taker_fee),
        max_market_lots=exact_units(conf.max_market_qty, lot),
        min_px_ticks=exact_units(conf.min_px, tick),
        max_px_ticks=int(Decimal(conf.max_px) / tick),
        band_e4=conf.band_e4,
        max_open_orders=conf.max_open_orders,
    )


def add_account(core: VenueCore, conf: AccountSettings, now_ns: int) -> None:
    account = core.add_account(conf.name)
    for market, funds in conf.balances.get(core.name, {}).items():
        for asset, amount in funds.items():
            core.deposit(account.account_id, MARKETS[market], asset, atoms_from_text(amount), now_ns)
    for key in conf.keys:
        if key.venue == core.name:
            core.add_key(
                ApiKey(
                    key.key,
                    account.account_id,
                    secret=key.secret,
                    ed25519_public=key.public_bytes(),
                    can_trade=key.can_trade,
                    can_withdraw=key.can_withdraw,
                    created_ns=now_ns,
                )
            )


def build_cores(settings: ExchangeSettings, now_ns: int) -> dict[str, VenueCore]:
    cores = {}
    for name in VENUES:
        rows = [conf for conf in settings.listings if conf.venue == name]
        core = VenueCore(
            name,
            [build_listing(index, conf) for index, conf in enumerate(rows)],
            POLICIES[name],
            first_order_id=FIRST_ORDER_ID[name],
            first_trade_id=FIRST_TRADE_ID[name],
        )
        core.hooks.answer_delay_ns = settings.latency.ack_us * 1000
        core.hooks.event_delay_ns = settings.latency.event_us * 1000
        for account in settings.accounts:
            add_account(core, account, now_ns)
        cores[name] = core
    return cores


def build_fronts(settings: ExchangeSettings, cores: dict[str, VenueCore], sink: Sink) -> dict[str, Front]:
    bybit = BybitFront(cores["bybit"], sink, seed=settings.seed, double_filled=settings.double_filled)
    bybit.limits.factor = settings.bybit_limit_factor
    return {"binance": BinanceFront(cores["binance"], sink, seed=f"binance-{settings.seed}"), "bybit": bybit}


def build_source(
    settings: ExchangeSettings, cores: dict[str, VenueCore], recordings: list[Recording]
) -> SyntheticMarket | Playback | None:
    if settings.market == "playback":
        return Playback(recordings, cores, settings.playback_speed)
    if settings.market != "synthetic":
        return None
    market = SyntheticMarket(settings.synthetic, settings.seed)
    for name, core in cores.items():
        for listing in core.listings:
            market.add(core, name, listing)
    return market


def recorded(settings: ExchangeSettings) -> tuple[ExchangeSettings, list[Recording]]:
    """Open the recordings of a playback; a venue that was recorded lists what was recorded."""
    if settings.market != "playback":
        return settings, []
    recordings = open_recordings(settings.recordings)
    rows: dict[tuple[str, str, str], ListingSettings] = {}
    for recording in recordings:
        for row in recording.listing_settings():
            rows[row.venue, row.market, row.symbol] = row
    played = {row.venue for row in rows.values()}
    kept = [row for row in settings.listings if row.venue not in played]
    return msgspec.structs.replace(settings, listings=[*rows.values(), *kept]), recordings
