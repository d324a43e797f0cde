"""exchangeInfo -> Instrument, and the border between Binance's decimal text and ticks and lots.

`pricePrecision` and `quantityPrecision` of USD-M are not tick and step: only the filters count.
Source: binance-spot-api-docs filters.md and enums.md; USD-M "Exchange Information"; read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from engine.instrument import Instrument, atoms_from_text
from engine.types import NO_PX, InstrumentKind, InstrumentState, Market, Venue
from engine.venue import InstrumentSpec

if TYPE_CHECKING:
    from connectors.binance.requests import Shape

_STATES: dict[str, InstrumentState] = {
    "TRADING": InstrumentState.TRADING,
    "CANCEL_ONLY": InstrumentState.CANCEL_ONLY,
    "HALT": InstrumentState.HALTED,
    "BREAK": InstrumentState.HALTED,
    "END_OF_DAY": InstrumentState.HALTED,
    "PENDING_TRADING": InstrumentState.HALTED,
    "PRE_SETTLE": InstrumentState.CLOSED,
    "SETTLING": InstrumentState.CLOSED,
    "PRE_DELIVERING": InstrumentState.CLOSED,
    "DELIVERING": InstrumentState.CLOSED,
    "DELIVERED": InstrumentState.CLOSED,
    "CLOSE": InstrumentState.CLOSED,
}

STP_WANTED: Final = "EXPIRE_MAKER"
"""What happens where two of our own orders meet: the taker's word counts, and the taker is a leg or a hedge that must
go through; our resting quote is the one that can be spared."""


class UnknownSymbol(ValueError):
    """A configured symbol is not in the venue's list, or its definition is not usable."""


def state_from_status(status: str) -> InstrumentState:
    return _STATES.get(status, InstrumentState.UNKNOWN)


def instrument_from_symbol(spec: InstrumentSpec, row: Mapping[str, Any]) -> Instrument:
    """One row of exchangeInfo. Raises UnknownSymbol when a filter that we need is missing."""
    try:
        return _instrument(spec, row, {f["filterType"]: f for f in row["filters"]})
    except (KeyError, ArithmeticError, ValueError) as error:
        raise UnknownSymbol(f"{spec.symbol} ({spec.market.name}): definition not usable: {error!r}") from None


def _instrument(spec: InstrumentSpec, row: Mapping[str, Any], filters: Mapping[str, Any]) -> Instrument:
    lot = filters["LOT_SIZE"]
    lot_size = Decimal(lot["stepSize"])
    is_spot = spec.market is Market.SPOT
    if is_spot:
        kind = InstrumentKind.SPOT
        notional = (filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or {}).get("minNotional", "0")
    else:
        kind = InstrumentKind.PERPETUAL if "PERPETUAL" in row["contractType"] else InstrumentKind.FUTURE
        notional = (filters.get("MIN_NOTIONAL") or {}).get("notional", "0")
    status = row["status"] if is_spot else row.get("status", row.get("contractStatus", ""))
    return Instrument(
        index=spec.index,
        venue=Venue.BINANCE,
        market=spec.market,
        kind=kind,
        symbol=spec.symbol,
        base=row["baseAsset"],
        quote=row["quoteAsset"],
        settle=row["quoteAsset"] if is_spot else row["marginAsset"],
        tick_size=Decimal(filters["PRICE_FILTER"]["tickSize"]),
        lot_size=lot_size,
        min_qty_lots=max(1, int(-(-Decimal(lot["minQty"]) // lot_size))),
        max_qty_lots=int(Decimal(lot["maxQty"]) // lot_size),
        min_notional_atoms=atoms_from_text(notional, round_up=True),
        state=state_from_status(status),
    )


class Symbol:
    """One instrument's texts: its templates of orders, conversions, and what its symbol allows."""

    __slots__ = ("instrument", "lower", "name", "px_decimals", "px_mantissa", "qty_decimals", "qty_mantissa", "shapes",
                 "stp")  # fmt: skip

    def __init__(self, instrument: Instrument, row: Mapping[str, Any]) -> None:
        self.instrument = instrument
        self.name = instrument.symbol.encode()
        self.lower = instrument.symbol.lower()
        self.px_decimals, self.px_mantissa = instrument.px_scale
        self.qty_decimals, self.qty_mantissa = instrument.qty_scale
        self.shapes: dict[tuple[object, ...], Shape] = {}  # filled by requests.Shapes; gone when tick or lot change
        allowed: Sequence[str] = row.get("allowedSelfTradePreventionModes", (STP_WANTED,))
        self.stp = STP_WANTED if STP_WANTED in allowed else row.get("defaultSelfTradePreventionMode", "NONE")

    def px(self, text: str) -> int:
        """Ticks, rounded to the nearest (a fill of a liquidation, or after a change of tick size, may be off the
        grid: its price must not be lost)."""
        units, is_exact = scaled(text, self.px_decimals)
        if is_exact and units % self.px_mantissa == 0:
            return units // self.px_mantissa
        return int((Decimal(text) / self.instrument.tick_size).to_integral_value())

    def lots(self, text: str) -> int:
        """Lots. Raises ValueError when the text is not a multiple of the lot: no quantity is ever rounded."""
        units, is_exact = scaled(text, self.qty_decimals)
        lots, rest = divmod(units, self.qty_mantissa)
        if not is_exact or rest:
            raise ValueError(f"{self.instrument.symbol}: {text} is not a multiple of {self.instrument.lot_size}")
        return lots

    def rate_e9(self, text: str) -> int:
        """A funding rate times 10**9, digits beyond it cut off."""
        return scaled(text, 9)[0]

    def order_px(self, text: str) -> int:
        """Price of an order report; NO_PX for "0" (market orders)."""
        return self.px(text) or NO_PX


def scaled(text: str, decimals: int) -> tuple[int, bool]:
    """(text * 10**decimals rounded towards zero, whether that was exact)."""
    whole, _, part = text.partition(".")
    cut = part[decimals:]
    return int(whole + part[:decimals].ljust(decimals, "0")), not cut or not cut.strip("0")
