"""Settings of the local exchange: what its TOML file may say, and the venues built from them.

Owns the defaults: two demo accounts' keys, balances, fees, listings, and the shape of the synthetic market. A file
may change any of them; an unknown key is refused with its name. Money and rates are decimal text, as venues print.
"""

from __future__ import annotations

import base64
import tomllib
from decimal import Decimal
from pathlib import Path

import msgspec

from engine.errors import ConfigError


class KeySettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One API key. `ed25519_public` is the 32 raw bytes in base64 (Binance); else `secret` signs with HMAC."""

    venue: str
    key: str
    secret: str = ""
    ed25519_public: str = ""
    can_trade: bool = True
    can_withdraw: bool = False

    def public_bytes(self) -> bytes:
        return base64.b64decode(self.ed25519_public) if self.ed25519_public else b""


class AccountSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One account, on every venue it has balances at: balances[venue][market][asset] = amount."""

    name: str
    keys: list[KeySettings]
    balances: dict[str, dict[str, dict[str, str]]]


class ListingSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One instrument of one venue; `market` is spot or linear."""

    venue: str
    market: str
    symbol: str
    base: str
    quote: str
    tick_size: str
    lot_size: str
    min_qty: str
    max_qty: str
    max_market_qty: str
    min_notional: str
    min_px: str
    max_px: str
    maker_fee: str
    taker_fee: str
    band_e4: int = 1000
    max_open_orders: int = 200


class UnderlyingSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The latent price that all books of one base asset follow."""

    start_px: float
    vol_bps_per_sqrt_s: float = 0.8
    level_notional: float = 20_000.0  # mean value of one resting level, in quote


class MarketSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The synthetic market.

    A book's fair price is the latent price `lag_ms` ago, times 1 + basis + noise + dislocation. Noise is an
    Ornstein-Uhlenbeck process; dislocations are shots that open an arbitrage window and decay.
    """

    step_ms: int = 30
    levels: int = 60  # resting levels a side
    half_spread_bps: float = 0.15
    grid_bps: float = 0.15  # distance of two levels
    resizes_per_step: int = 4  # levels that change size though the price does not move
    trades_per_s: float = 3.0  # takers, per book
    noise_bps: float = 0.8
    noise_half_life_s: float = 2.0
    dislocations_per_s: float = 0.5  # per book
    dislocation_bps: float = 7.0  # mean size beyond the floor
    dislocation_floor_bps: float = 6.0
    dislocation_half_life_s: float = 0.35
    basis_bps: dict[str, float] = msgspec.field(default_factory=lambda: {"binance.linear": 1.0, "bybit.linear": 0.5})
    lag_ms: dict[str, int] = msgspec.field(default_factory=lambda: {"bybit.spot": 90, "bybit.linear": 60})
    underlyings: dict[str, UnderlyingSettings] = msgspec.field(
        default_factory=lambda: {
            "BTC": UnderlyingSettings(start_px=64_000.0),
            "ETH": UnderlyingSettings(start_px=3_200.0, vol_bps_per_sqrt_s=1.0),
        }
    )


class LatencySettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Delays that a venue adds to its own answers; 0 is as fast as the process is."""

    ack_us: int = 0
    event_us: int = 0


class ExchangeSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    host: str = "127.0.0.1"
    port: int = 8700
    seed: int = 1
    market: str = "synthetic"  # synthetic, playback, none
    recordings: list[str] = []
    playback_speed: float = 1.0
    control_token: str = "local-control"
    faults: list[str] = []
    bybit_limit_factor: float = 1.0  # request limits of the account's tier: 1 is the lowest, VIP 2 has 4
    double_filled: float = 0.02  # Bybit: share of fills whose order says Filled twice
    synthetic: MarketSettings = msgspec.field(default_factory=MarketSettings)
    latency: LatencySettings = LatencySettings()
    accounts: list[AccountSettings] = []
    listings: list[ListingSettings] = []


_DEMO_FUNDS = {
    "binance": {
        "spot": {"USDT": "5000000", "BTC": "50", "ETH": "1000", "BNB": "100"},
        "linear": {"USDT": "5000000"},
    },
    "bybit": {"spot": {"USDT": "5000000", "BTC": "50", "ETH": "1000"}},
}


ED25519_KEY = "second-key-binance-ed25519"
ED25519_PUBLIC = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
"""The key pair of the signing test vectors: its private part is the 32 bytes 00 01 .. 1f."""


def demo_accounts() -> list[AccountSettings]:
    """The account of the demo configuration and a second one that tests and judges trade with."""
    accounts = []
    for number, name in ((1, "demo"), (2, "second")):
        keys = [
            KeySettings(venue=venue, key=f"{name}-key-{venue}-000{number}", secret=f"{name}-secret-{venue}-000{number}")
            for venue in ("binance", "bybit")
        ]
        if name == "second":
            keys.append(KeySettings(venue="binance", key=ED25519_KEY, ed25519_public=ED25519_PUBLIC))
        accounts.append(AccountSettings(name=name, keys=keys, balances=_DEMO_FUNDS))
    return accounts


# venue, market, base, tick, lot, min qty, max qty, max market qty, min notional: as the venues publish them.
_DEMO_LISTINGS = (
    ("binance", "spot", "BTC", "0.01", "0.00001", "0.00001", "9000", "120", "5"),
    ("binance", "spot", "ETH", "0.01", "0.0001", "0.0001", "9000", "2600", "5"),
    ("binance", "linear", "BTC", "0.10", "0.001", "0.001", "1000", "120", "100"),
    ("binance", "linear", "ETH", "0.01", "0.001", "0.001", "10000", "2000", "20"),
    ("bybit", "spot", "BTC", "0.1", "0.000001", "0.000011", "83", "41.5", "5"),
    ("bybit", "spot", "ETH", "0.01", "0.00001", "0.00062", "1400", "700", "5"),
    ("bybit", "linear", "BTC", "0.10", "0.001", "0.001", "1190", "500", "5"),
    ("bybit", "linear", "ETH", "0.01", "0.01", "0.01", "7240", "1600", "5"),
)
# Maker and taker fees of a high tier.
_DEMO_FEES = {"spot": ("0.0001", "0.0002"), "linear": ("0", "0.0002")}


def demo_listings() -> list[ListingSettings]:
    """BTC and ETH on all four markets."""
    return [
        ListingSettings(
            venue=venue,
            market=market,
            symbol=f"{base}USDT",
            base=base,
            quote="USDT",
            tick_size=tick,
            lot_size=lot,
            min_qty=least,
            max_qty=most,
            max_market_qty=most_market,
            min_notional=notional,
            min_px=tick,
            max_px="1000000",
            maker_fee=_DEMO_FEES[market][0],
            taker_fee=_DEMO_FEES[market][1],
            max_open_orders=500 if venue == "bybit" else 200,
        )
        for venue, market, base, tick, lot, least, most, most_market, notional in _DEMO_LISTINGS
    ]


def rate_e8(text: str) -> int:
    """A fee rate as text to 10**-8: `0.0004` is 40_000."""
    return int(Decimal(text).scaleb(8))


def load(path: Path | None) -> ExchangeSettings:
    """Read the file, or give the defaults. Raises ConfigError with file, key and limit."""
    settings = ExchangeSettings()
    if path is not None:
        try:
            settings = msgspec.convert(tomllib.loads(path.read_text()), ExchangeSettings)
        except FileNotFoundError:
            raise ConfigError([f"{path}: no such file"]) from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError([f"{path}: not TOML: {error}"]) from None
        except msgspec.ValidationError as error:
            raise ConfigError([f"{path}: {error}"]) from None
    return complete(settings)


def complete(settings: ExchangeSettings) -> ExchangeSettings:
    """Fill in the accounts and listings that the file left out."""
    changes: dict[str, object] = {}
    if not settings.accounts:
        changes["accounts"] = demo_accounts()
    if not settings.listings:
        changes["listings"] = demo_listings()
    return msgspec.structs.replace(settings, **changes)
