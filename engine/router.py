"""Choose the instrument that gives the best price net of fees for a size, among venues that may be used now.

Prices of different venues are compared in quote atoms for one base unit, so ticks and lots of venues do not matter.
Every decision returns all candidates with their scores, so that an audit can recompute why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from engine.health import VenueHealth
from engine.instrument import Instrument
from engine.portfolio import PortfolioManager
from engine.types import MONEY_SCALE, NO_PX, HealthState, Side, Venue
from ext import Book

PPM = 1_000_000
EXPOSURE_PPM = 100
"""What a full position must be better by: among equal prices the emptier venue is taken."""
DEGRADED_PPM = 500
"""What a degraded venue must be better by: half a basis point a venue's trouble is not worth."""


class Candidate(msgspec.Struct, frozen=True):
    """`net_px`: quote atoms a base unit, fees included, for the whole size. `refusal` "" when it may be used."""

    instrument: int
    net_px: int
    depth_atoms: int
    refusal: str

    def row(self) -> tuple[int, int, int, str]:
        return self.instrument, self.net_px, self.depth_atoms, self.refusal


class OrderRouter:
    def __init__(self, health: Mapping[Venue, VenueHealth], portfolio: PortfolioManager | None = None) -> None:
        self.health = health
        self.portfolio = portfolio
        self.max_position_lots: dict[int, int] = {}
        self.instruments: dict[int, Instrument] = {}
        self.books: dict[int, Book] = {}
        self.taker_ppm: dict[int, int] = {}
        self.tick_atoms: dict[int, int] = {}
        self.lot_atoms: dict[int, int] = {}

    def define(self, instrument: Instrument, taker_ppm: int, max_position_lots: int = 0) -> None:
        """`max_position_lots` 0: exposure does not count for this instrument."""
        index = instrument.index
        self.max_position_lots[index] = max_position_lots
        self.instruments[index] = instrument
        self.taker_ppm.setdefault(index, taker_ppm)
        self.tick_atoms[index] = int(instrument.tick_size * 10**MONEY_SCALE)
        self.lot_atoms[index] = instrument.base_atoms_per_lot

    def touch(self, index: int, side: Side) -> int:
        """Net price of taking the best level now; NO_PX when there is none or the book is not valid. Hot: no walk."""
        book = self.books.get(index)
        if book is None or not book.is_valid:
            return NO_PX
        if side > 0:
            px = book.best_ask_px
            return px if px == NO_PX else px * self.tick_atoms[index] * (PPM + self.taker_ppm[index]) // PPM
        px = book.best_bid_px
        return px if px == NO_PX else px * self.tick_atoms[index] * (PPM - self.taker_ppm[index]) // PPM

    def score(self, indexes: Sequence[int], side: Side, qty_atoms: int, now_ns: int) -> list[Candidate]:
        """All candidates, best first; those that may not be used last, in their given order."""
        scored = [self._score_one(index, side, qty_atoms, now_ns) for index in indexes]
        usable = sorted((c for c in scored if not c.refusal), key=lambda c: (side * c.net_px, c.instrument))
        return usable + [c for c in scored if c.refusal]

    def _score_one(self, index: int, side: Side, qty_atoms: int, now_ns: int) -> Candidate:
        instrument, book = self.instruments.get(index), self.books.get(index)
        if instrument is None or book is None:
            return Candidate(index, 0, 0, "no book")
        state = self.health[instrument.venue].state(now_ns)
        if state is HealthState.DOWN:
            return Candidate(index, 0, 0, "venue down")
        if not book.is_valid:
            return Candidate(index, 0, 0, "book invalid")
        lots = qty_atoms // self.lot_atoms[index]
        if lots < instrument.min_qty_lots:
            return Candidate(index, 0, 0, "below minimum quantity")
        filled, _, value = book.walk(-side, lots)
        if filled < lots:
            return Candidate(index, 0, filled * self.lot_atoms[index], "depth")
        exposure = self._exposure_ppm(index, side, lots)
        if exposure > EXPOSURE_PPM:
            return Candidate(index, 0, filled * self.lot_atoms[index], "position limit")
        fee = self.taker_ppm[index] + exposure + (DEGRADED_PPM if state is HealthState.DEGRADED else 0)
        net_px = value * self.tick_atoms[index] * (PPM + side * fee) // (lots * PPM)
        return Candidate(index, net_px, filled * self.lot_atoms[index], "")

    def _exposure_ppm(self, index: int, side: Side, lots: int) -> int:
        """What holding more here costs: nothing while the trade brings the position towards flat, then up to
        EXPOSURE_PPM at the limit, in proportion; beyond it the instrument is out."""
        limit = self.max_position_lots.get(index, 0)
        if not limit or self.portfolio is None:
            return 0
        after = side * self.portfolio.position_lots(index) + lots
        if after > limit:
            return EXPOSURE_PPM + 1
        return max(0, after) * EXPOSURE_PPM // limit

    def bound_ticks(self, index: int, side: Side, bound_ppm: int) -> int:
        """Limit price of an aggressive order: the touch, worsened by at most `bound_ppm`."""
        book = self.books[index]
        touch = book.best_ask_px if side > 0 else book.best_bid_px
        if touch == NO_PX:
            return NO_PX
        allowance = touch * bound_ppm // PPM
        return touch + side * allowance
