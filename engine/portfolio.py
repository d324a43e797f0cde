"""What strategies see: positions, balances, fees and P&L, over all venues, in integers.

Cost is kept as the exact sum of px * qty of what is open (ticks x lots), so nothing is rounded until money is asked
for. Knows no venue's protocol. Netting per underlying is in base atoms (10**-8 of one unit).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engine.instrument import Instrument
from engine.types import NO_PX, InstrumentKind, Side, Venue


class Position(msgspec.Struct):
    """One instrument on one venue, one-way. `cost` is signed as the position is."""

    instrument: int
    qty_lots: int = 0
    cost: int = 0  # sum of px_ticks * lots of the open part
    realised: int = 0  # ticks x lots, before fees
    bought_lots: int = 0
    sold_lots: int = 0
    fees_quote_atoms: int = 0  # fees paid in quote, and in base at the price of the fill
    fees: dict[str, int] = {}  # atoms by asset, as the venue charged them
    funding_atoms: int = 0
    fill_count: int = 0

    def apply_fill(self, side: int, px_ticks: int, qty_lots: int) -> None:
        """Average cost; a fill through zero closes first and opens the rest at its own price."""
        assert qty_lots > 0, f"fill of {qty_lots} lots"
        if side > 0:
            self.bought_lots += qty_lots
        else:
            self.sold_lots += qty_lots
        self.fill_count += 1
        held = self.qty_lots
        closing = min(qty_lots, abs(held)) if held * side < 0 else 0
        if closing:
            part = self.cost * closing // abs(held)
            self.realised += -part - side * px_ticks * closing
            self.cost -= part
            self.qty_lots += side * closing
        opening = qty_lots - closing
        if opening:
            self.qty_lots += side * opening
            self.cost += side * px_ticks * opening
        assert self.qty_lots != 0 or self.cost == 0, f"flat with cost {self.cost}"


class Holding(msgspec.Struct):
    """Balance of one asset on one venue. `expected_atoms` is what our fills make of the last agreed total."""

    total_atoms: int
    available_atoms: int
    expected_atoms: int = 0
    is_agreed: bool = False


class PortfolioManager:
    """One consistent view over all venues. Strategies read it; only the ledger's fold writes it."""

    def __init__(self) -> None:
        self.instruments: dict[int, Instrument] = {}
        self.positions: dict[int, Position] = {}
        self.holdings: dict[tuple[Venue, str], Holding] = {}

    def position_lots(self, instrument: int) -> int:
        position = self.positions.get(instrument)
        return position.qty_lots if position is not None else 0

    def position_atoms(self, instrument: int) -> int:
        """Base atoms of one instrument's position."""
        return self.position_lots(instrument) * self.instruments[instrument].base_atoms_per_lot

    def net_atoms(self, underlying: str) -> int:
        """Base atoms of one underlying, netted over all venues and kinds."""
        return sum(self.position_atoms(i) for i in self.positions if self.instruments[i].base == underlying)

    def available_atoms(self, venue: Venue, asset: str) -> int:
        holding = self.holdings.get((venue, asset))
        return holding.available_atoms if holding is not None else 0

    def total_atoms(self, asset: str) -> int:
        return sum(holding.total_atoms for (_, name), holding in self.holdings.items() if name == asset)

    def realised_atoms(self) -> int:
        """Realised P&L before fees and funding, in quote atoms."""
        return sum(self._money(p.instrument, p.realised) for p in self.positions.values())

    def fees_atoms(self) -> int:
        return sum(position.fees_quote_atoms for position in self.positions.values())

    def funding_atoms(self) -> int:
        return sum(position.funding_atoms for position in self.positions.values())

    def unrealised_atoms(self, mid_ticks: Mapping[int, int]) -> int:
        """Open positions at the given mids; a position without one counts at cost."""
        total = 0
        for position in self.positions.values():
            mid = mid_ticks.get(position.instrument, NO_PX)
            if position.qty_lots and mid != NO_PX:
                total += self._money(position.instrument, position.qty_lots * mid - position.cost)
        return total

    def pnl_atoms(self, mid_ticks: Mapping[int, int]) -> int:
        """Realised + unrealised + funding - fees, in quote atoms (all quotes are the same currency here)."""
        return self.realised_atoms() + self.unrealised_atoms(mid_ticks) + self.funding_atoms() - self.fees_atoms()

    def _money(self, instrument: int, ticks_lots: int) -> int:
        num, den = self.instruments[instrument].value_ratio
        return ticks_lots * num // den

    def apply_fill(self, instrument: int, side: Side, px_ticks: int, qty_lots: int, fee: int, asset: str) -> None:
        position = self.positions.setdefault(instrument, Position(instrument))
        position.apply_fill(side, px_ticks, qty_lots)
        position.fees[asset] = position.fees.get(asset, 0) + fee
        definition = self.instruments[instrument]
        if asset == definition.base:
            position.fees_quote_atoms += base_value_atoms(definition, px_ticks, fee)
        elif asset == definition.quote or asset == definition.settle:
            position.fees_quote_atoms += fee
        if definition.kind is InstrumentKind.SPOT:
            base = side * qty_lots * definition.base_atoms_per_lot
            self._expect(definition.venue, definition.base, base - (fee if asset == definition.base else 0))

    def apply_funding(self, instrument: int, amount_atoms: int) -> None:
        self.positions.setdefault(instrument, Position(instrument)).funding_atoms += amount_atoms

    def apply_balance(self, venue: Venue, asset: str, total_atoms: int, available_atoms: int) -> None:
        holding = self.holdings.get((venue, asset))
        if holding is None:
            self.holdings[venue, asset] = Holding(total_atoms, available_atoms)
        else:
            holding.total_atoms, holding.available_atoms = total_atoms, available_atoms

    def correct_position(self, instrument: int, qty_lots: int) -> None:
        """The venue's position is right. The difference enters at the average cost: it makes no P&L by itself."""
        position = self.positions.setdefault(instrument, Position(instrument))
        held = position.qty_lots
        position.cost = position.cost * qty_lots // held if held else 0
        position.qty_lots = qty_lots
        if qty_lots == 0:
            position.cost = 0

    def agree_holding(self, venue: Venue, asset: str, total_atoms: int) -> None:
        """From here on the total of this asset is explained by our fills alone."""
        holding = self.holdings.setdefault((venue, asset), Holding(total_atoms, total_atoms))
        holding.expected_atoms, holding.is_agreed = total_atoms, True

    def _expect(self, venue: Venue, asset: str, change_atoms: int) -> None:
        holding = self.holdings.get((venue, asset))
        if holding is not None and holding.is_agreed:
            holding.expected_atoms += change_atoms


def base_value_atoms(instrument: Instrument, px_ticks: int, base_atoms: int) -> int:
    """Base atoms in quote atoms at a price, rounded up: it values costs."""
    num, den = instrument.tick_size.as_integer_ratio()
    return -(-base_atoms * px_ticks * num // den)
