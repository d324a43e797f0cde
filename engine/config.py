"""The configuration: its shape, its limits, and every complaint about it at once. Reads text, touches no file."""

from __future__ import annotations

import tomllib
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import msgspec

from engine.errors import ConfigError
from engine.instrument import atoms_from_text
from engine.loop_settings import LoopSettings
from engine.types import Market, Venue
from engine.venue import InstrumentSpec, VenueSettings

LIVE = "live"


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class EngineSettings(Strict, frozen=True):
    """`[engine]`. `trading`: "off" refuses every order, "test" allows test environments only, "live" allows all."""

    instance: int
    state_dir: str
    trading: Literal["off", "test", "live"] = "off"
    credentials: str = ""  # file with [NAME] api_key, secret; empty: $CREDENTIALS_DIRECTORY/venues.toml
    unknown_window_ms: int = 5_000  # an order that no query finds for this long, twice and more, was not placed
    reconcile_ms: int = 10_000
    stop_timeout_ms: int = 10_000


class JournalSettings(Strict, frozen=True):
    ring_mib: int = 64
    segment_mib: int = 256
    sync_interval_ms: int = 5
    durability: Literal["batch", "strict"] = "batch"


class UnderlyingLimit(Strict, frozen=True):
    """Position limit over all venues, in units of the underlying; open and unknown orders count in full."""

    max_long: str
    max_short: str


class RiskSettings(Strict, frozen=True):
    """`[risk]`. Every limit must be written down; none has a default that would let an engine trade unlimited."""

    underlyings: dict[str, UnderlyingLimit]
    max_gross_notional: str
    loss_limit: str
    max_orders: int  # in window_ms
    window_ms: int = 1_000
    duplicate_count: int = 5
    duplicate_window_ms: int = 200
    stale_ms: int = 1_000
    max_executions: int = 100_000  # a strategy stops after so many fills until an operator re-arms it


class InstrumentSettings(Strict, frozen=True):
    """One `[[instruments]]` row."""

    venue: str
    market: Literal["spot", "linear"]
    symbol: str
    max_order_notional: str
    max_position: str  # base units
    collar_ppm: int = 5_000
    max_open_orders: int = 20


class StrategySettings(Strict, frozen=True):
    """One `[[strategies]]` row. `allotment` is quote money per venue; `params` belong to the kind."""

    name: str
    kind: str
    allotment: dict[str, str]
    params: dict[str, Any] = {}


class EngineConfig(Strict, frozen=True):
    engine: EngineSettings
    risk: RiskSettings
    venues: dict[str, VenueSettings]
    instruments: list[InstrumentSettings]
    strategies: list[StrategySettings] = []
    journal: JournalSettings = JournalSettings()
    loop: LoopSettings = LoopSettings()

    def specs(self, venue: Venue) -> list[InstrumentSpec]:
        """Instruments of one venue; the index of each is its row in the configuration."""
        return [
            InstrumentSpec(index, Market[row.market.upper()], row.symbol)
            for index, row in enumerate(self.instruments)
            if Venue[row.venue.upper()] is venue
        ]

    def venue_list(self) -> list[Venue]:
        return [Venue[name.upper()] for name in self.venues]


def parse_config(text: str, name: str = "config") -> EngineConfig:
    """Raises ConfigError with every problem found: file, key, value, limit."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{name}: not TOML: {error}"]) from None
    problems = list(shape_problems(raw, EngineConfig, name, ""))
    if problems:
        raise ConfigError(problems)
    config = msgspec.convert(raw, EngineConfig)
    problems = [f"{name}: {line}" for line in value_problems(config)]
    if problems:
        raise ConfigError(problems)
    return config


def shape_problems(raw: Any, kind: Any, name: str, path: str) -> list[str]:
    """Unknown keys, missing keys and wrong types below `raw`, each with its path."""
    if not isinstance(raw, dict):
        return [f"{name}: {path or 'top level'}: must be a table, was {raw!r}"]
    found: list[str] = []
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for key, value in raw.items():
        where = f"{path}.{key}" if path else key
        if key not in fields:
            found.append(f"{name}: {where}: unknown key (known: {', '.join(fields)})")
            continue
        found += field_problems(value, fields[key].type, name, where)
    for key, field in fields.items():
        if key not in raw and field.required:
            found.append(f"{name}: {path + '.' if path else ''}{key}: missing")
    return found


def field_problems(value: Any, kind: Any, name: str, where: str) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return shape_problems(value, kind, name, where)
    origin, args = getattr(kind, "__origin__", None), getattr(kind, "__args__", ())
    item = args[-1] if args else None
    if isinstance(item, type) and issubclass(item, msgspec.Struct):
        if origin is dict and isinstance(value, dict):
            return [p for key, row in value.items() for p in shape_problems(row, item, name, f"{where}.{key}")]
        if origin is list and isinstance(value, list):
            return [p for at, row in enumerate(value) for p in shape_problems(row, item, name, f"{where}[{at}]")]
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return [f"{name}: {where}: {str(error).split(' - at')[0]}, was {value!r}"]
    return []


def value_problems(config: EngineConfig) -> list[str]:
    found: list[str] = []
    positive_money(found, "risk.max_gross_notional", config.risk.max_gross_notional)
    positive_money(found, "risk.loss_limit", config.risk.loss_limit)
    between(found, "engine.instance", config.engine.instance, 0, 255)
    between(found, "engine.unknown_window_ms", config.engine.unknown_window_ms, 500, 600_000)
    between(found, "risk.max_orders", config.risk.max_orders, 1, 10_000)
    between(found, "risk.stale_ms", config.risk.stale_ms, 1, 60_000)
    between(found, "journal.ring_mib", config.journal.ring_mib, 1, 4_096)
    between(found, "journal.segment_mib", config.journal.segment_mib, 8, 65_536)
    between(found, "journal.sync_interval_ms", config.journal.sync_interval_ms, 1, 1_000)
    for key, limit in config.risk.underlyings.items():
        positive_money(found, f"risk.underlyings.{key}.max_long", limit.max_long)
        positive_money(found, f"risk.underlyings.{key}.max_short", limit.max_short)
    for venue_key, settings in config.venues.items():
        venue_problems(found, config, venue_key, settings)
    seen: list[tuple[str, str, str]] = []
    for at, row in enumerate(config.instruments):
        where = f"instruments[{at}]"
        if row.venue not in config.venues:
            found.append(f"{where}.venue: must be one of [venues]: {', '.join(config.venues)}, was {row.venue!r}")
        if (row.venue, row.market, row.symbol) in seen:
            found.append(f"{where}: {row.venue} {row.market} {row.symbol} is listed twice")
        seen.append((row.venue, row.market, row.symbol))
        positive_money(found, f"{where}.max_order_notional", row.max_order_notional)
        positive_money(found, f"{where}.max_position", row.max_position)
        between(found, f"{where}.collar_ppm", row.collar_ppm, 1, 500_000)
    if not config.instruments:
        found.append("instruments: at least one row is needed")
    for at, strategy in enumerate(config.strategies):
        for key, amount in strategy.allotment.items():
            positive_money(found, f"strategies[{at}].allotment.{key}", amount)
            if key not in config.venues:
                found.append(f"strategies[{at}].allotment.{key}: must be one of [venues], was {key!r}")
    return found


def venue_problems(found: list[str], config: EngineConfig, key: str, settings: VenueSettings) -> None:
    where = f"venues.{key}"
    if key.upper() not in Venue.__members__ or key != key.lower():
        found.append(f"{where}: must be one of binance, okx, bybit, dydx, was {key!r}")
    environments = ("local", "testnet", "demo", LIVE)
    if settings.environment not in environments:
        found.append(f"{where}.environment: must be one of {', '.join(environments)}, was {settings.environment!r}")
    if settings.environment == LIVE and config.engine.trading == "test":
        found.append(f'{where}.environment: "live" needs engine.trading = "live" (or "off"), was "test"')
    between(found, f"{where}.recv_window_ms", settings.recv_window_ms, 1, 60_000)
    between(found, f"{where}.order_timeout_ms", settings.order_timeout_ms, 100, 60_000)
    if settings.dead_man_ms:
        between(found, f"{where}.dead_man_ms", settings.dead_man_ms, 3_000, 300_000)


def between(found: list[str], where: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        found.append(f"{where}: must be {low}..{high}, was {value}")


def positive_money(found: list[str], where: str, text: str) -> None:
    try:
        good = Decimal(text) > 0 and atoms_from_text(text) < 2**62
    except (InvalidOperation, ValueError, OverflowError):
        good = False
    if not good:
        found.append(f"{where}: must be a positive decimal in quotes, was {text!r}")
