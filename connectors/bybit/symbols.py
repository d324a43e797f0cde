"""Bybit's words to ours and back: instruments, sides, times in force, decimal text.

Spot lots are `basePrecision` (its `minOrderQty` is deprecated and not enforced: `minOrderAmt` rules), linear lots are
`qtyStep`. Linear contracts are quoted in base units: multiplier 1. Source:
https://bybit-exchange.github.io/docs/v5/market/instrument, read 2026-07-24.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from engine.instrument import Instrument, atoms_from_text, exact_units
from engine.types import InstrumentKind, InstrumentState, Market, OrdType, Side, TimeInForce, Venue
from engine.venue import InstrumentSpec

_KIND: Final = {"LinearPerpetual": InstrumentKind.PERPETUAL, "LinearFutures": InstrumentKind.FUTURE}
_STATE: Final = {
    "Trading": InstrumentState.TRADING,
    "PreLaunch": InstrumentState.HALTED,
    "Delivering": InstrumentState.HALTED,
    "Settling": InstrumentState.HALTED,
    "Closed": InstrumentState.CLOSED,
}
SIDE: Final = {"Buy": Side.BUY, "Sell": Side.SELL}
SMP_TYPE: Final = b"CancelMaker"
"""What happens where two of our own orders meet: the taker's word counts, and the taker is a leg or a hedge that must
go through; our resting quote is the one that can be spared."""
SIDE_WORD: Final = {Side.BUY: "Buy", Side.SELL: "Sell"}
TIME_IN_FORCE: Final = {"GTC": TimeInForce.GTC, "PostOnly": TimeInForce.GTC, "RPI": TimeInForce.GTC,
                        "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK}  # fmt: skip
TIME_IN_FORCE_WORD: Final = {TimeInForce.GTC: "GTC", TimeInForce.IOC: "IOC", TimeInForce.FOK: "FOK"}
ORD_TYPE: Final = {"Limit": OrdType.LIMIT, "Market": OrdType.MARKET}

MS_TO_NS: Final = 1_000_000


def instrument_from_row(row: Mapping[str, Any], spec: InstrumentSpec) -> Instrument:
    """Raises KeyError, ValueError or ArithmeticError when the row is not understood."""
    lots: Mapping[str, str] = row["lotSizeFilter"]
    is_spot = spec.market is Market.SPOT
    lot_size = Decimal(lots["basePrecision"] if is_spot else lots["qtyStep"])
    tick_size = Decimal(row["priceFilter"]["tickSize"])
    if lot_size <= 0 or tick_size <= 0:
        raise ValueError(f"{spec.symbol}: tick {tick_size}, lot {lot_size}")
    largest = lots.get("maxLimitOrderQty") or lots["maxOrderQty"]
    return Instrument(
        index=spec.index,
        venue=Venue.BYBIT,
        market=spec.market,
        kind=InstrumentKind.SPOT if is_spot else _KIND[row["contractType"]],
        symbol=row["symbol"],
        base=row["baseCoin"],
        quote=row["quoteCoin"],
        settle=row["quoteCoin"] if is_spot else row["settleCoin"],
        tick_size=tick_size,
        lot_size=lot_size,
        min_qty_lots=1 if is_spot else exact_units(lots["minOrderQty"], lot_size),
        max_qty_lots=int(Decimal(largest) / lot_size),
        min_notional_atoms=atoms_from_text((lots["minOrderAmt"] if is_spot else lots.get("minNotionalValue")) or "0"),
        state=_STATE.get(row["status"], InstrumentState.UNKNOWN),
    )


def decimal_of(text: str | None) -> Decimal:
    """Bybit writes "" (and in places null) for "not applicable"."""
    return Decimal(text) if text else Decimal(0)


def atoms_of(text: str | None, *, round_up: bool = False) -> int:
    return atoms_from_text(text, round_up=round_up) if text else 0


def ticks_near(text: str | None, instrument: Instrument) -> int:
    """Nearest tick: mark prices and bankruptcy prices need not lie on the grid."""
    return int((decimal_of(text) / instrument.tick_size).to_integral_value(ROUND_HALF_EVEN))


def lots_of(text: str | None, instrument: Instrument) -> int:
    """Whole lots; raises ValueError for a quantity between two lots."""
    return exact_units(text, instrument.lot_size) if text else 0


def ns_of(ms_text: str | int | None) -> int:
    return int(ms_text) * MS_TO_NS if ms_text else 0


def fee_ppm(text: str) -> int:
    """Rate to parts per million, rounded up: a fee is never assumed smaller than it is."""
    return -(-atoms_from_text(text, round_up=True) // 100)
