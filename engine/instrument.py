"""What one tradable thing is, and the border between decimal text and integers. Decimals live only here."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import cached_property

import msgspec

from engine.types import MONEY_SCALE, InstrumentKind, InstrumentState, Market, Venue


class Instrument(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One instrument as its venue defines it.

    Units: tick_size in quote per base unit, lot_size in base units (or contracts), multiplier in base units a
    contract (FIX 231; 1 for spot and for linear contracts quoted in base units).
    `index` is dense, given by the order of the configuration; arrays in `ext` are addressed with it.
    `notional_atoms(px, qty) = px_ticks * qty_lots * value_num // value_den`, in atoms of `quote`.
    """

    index: int
    venue: Venue
    market: Market
    kind: InstrumentKind
    symbol: str  # the venue's own name
    base: str
    quote: str
    settle: str
    tick_size: Decimal  # FIX 969
    lot_size: Decimal  # FIX 561
    multiplier: Decimal = Decimal(1)
    min_qty_lots: int = 1
    max_qty_lots: int = 2**62
    min_notional_atoms: int = 0
    state: InstrumentState = InstrumentState.TRADING

    @cached_property
    def name(self) -> str:
        """Our name: `BINANCE:BTC-USDT:SPOT`, `BYBIT:BTC-USDT:PERPETUAL`."""
        return f"{self.venue.name}:{self.base}-{self.quote}:{self.kind.name}"

    @cached_property
    def value_ratio(self) -> tuple[int, int]:
        """(value_num, value_den): atoms of quote that one tick times one lot is worth."""
        value = self.tick_size * self.lot_size * self.multiplier * (10**MONEY_SCALE)
        return value.as_integer_ratio()

    @cached_property
    def px_scale(self) -> tuple[int, int]:
        """(decimals, mantissa): tick_size = mantissa * 10**-decimals."""
        return decimals_and_mantissa(self.tick_size)

    @cached_property
    def qty_scale(self) -> tuple[int, int]:
        """(decimals, mantissa): lot_size = mantissa * 10**-decimals."""
        return decimals_and_mantissa(self.lot_size)

    @cached_property
    def base_atoms_per_lot(self) -> int:
        """Base atoms that one lot moves a position by."""
        atoms = self.lot_size * self.multiplier * 10**MONEY_SCALE
        assert atoms == int(atoms), f"{self.name}: a lot of {self.lot_size} is finer than an atom"
        return int(atoms)

    def px_text(self, px_ticks: int) -> str:
        return plain(self.tick_size * px_ticks)

    def qty_text(self, qty_lots: int) -> str:
        return plain(self.lot_size * qty_lots)

    def ticks_from_text(self, text: str) -> int:
        """Raises ValueError when the price is not on the tick grid."""
        return exact_units(text, self.tick_size)

    def lots_from_text(self, text: str) -> int:
        """Raises ValueError when the quantity is not on the lot grid."""
        return exact_units(text, self.lot_size)

    def notional_atoms(self, px_ticks: int, qty_lots: int) -> int:
        """Value in atoms of quote, rounded down."""
        num, den = self.value_ratio
        return px_ticks * qty_lots * num // den


def decimals_and_mantissa(size: Decimal) -> tuple[int, int]:
    normal = size.normalize()
    exponent = normal.as_tuple().exponent
    assert isinstance(exponent, int), f"size must be finite, was {size}"
    decimals = max(0, -exponent)
    return decimals, int(normal.scaleb(decimals))


def exact_units(text: str, size: Decimal) -> int:
    units = Decimal(text) / size
    whole = int(units)
    if units != whole:
        raise ValueError(f"{text} is not a multiple of {plain(size)}")
    return whole


def plain(value: Decimal) -> str:
    """Canonical text: no exponent, no zeros after the last digit of the fraction."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def atoms_from_text(text: str, *, round_up: bool = False) -> int:
    """Money text to atoms. Digits beyond the atom are rounded down, or up (costs) where asked."""
    scaled = Decimal(text).scaleb(MONEY_SCALE)
    return int(scaled.to_integral_value(ROUND_CEILING if round_up else ROUND_FLOOR))


def text_from_atoms(atoms: int) -> str:
    return plain(Decimal(atoms).scaleb(-MONEY_SCALE))
