"""The synthetic market: one latent price per underlying drives the books of every venue through house orders.

Owns the prices, the ladders and the takers; everything reaches the books through `VenueCore.house_level` and
`house_trade`, so that the real matching engine makes every book change and trade. Knows no clock: `step` is told the
time, and the same seed with the same times makes the same market. All randomness is one `random.Random`.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from engine.types import Market, Side
from tools.exchange.model import Listing
from tools.exchange.settings import MarketSettings

NS = 1_000_000_000


class HouseCore(Protocol):
    """What the market needs of a venue core."""

    def begin(self, now_ns: int) -> None: ...
    def commit(self) -> None: ...
    def house_level(self, listing: Listing, side: Side, px_ticks: int, qty_lots: int, now_ns: int) -> None: ...
    def house_trade(
        self, listing: Listing, taker_side: Side, qty_lots: int, now_ns: int, *, px_ticks: int = 0
    ) -> int: ...
    def set_mark(self, listing: Listing, px_ticks: int, now_ns: int) -> None: ...
    def best(self, listing: Listing) -> tuple[int, int, int, int]: ...


@dataclass(slots=True)
class Latent:
    """The price nobody sees: a driftless log-normal walk, with a short history for venues that lag."""

    px: float
    vol_per_sqrt_s: float
    history: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=256))

    def advance(self, now_ns: int, dt_s: float, rng: random.Random) -> None:
        self.px *= math.exp(self.vol_per_sqrt_s * math.sqrt(dt_s) * rng.gauss(0.0, 1.0))
        self.history.append((now_ns, self.px))

    def at(self, ts_ns: int) -> float:
        for when, px in reversed(self.history):
            if when <= ts_ns:
                return px
        return self.history[0][1] if self.history else self.px


@dataclass(slots=True, eq=False)
class Ladder:
    """One book as the house makes it. `levels[side]` is what the house last set, px -> lots."""

    core: HouseCore
    listing: Listing
    latent: Latent
    basis: float
    lag_ns: int
    tick: float
    grid_ticks: int
    mean_lots: int
    noise: float = 0.0
    shot: float = 0.0
    best_bid: int = 0
    best_ask: int = 0
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    last_ns: int = 0
    due_ns: int = 0
    mark_due_ns: int = 0
    changes: int = 0
    trades: int = 0

    def fair(self, now_ns: int) -> float:
        return self.latent.at(now_ns - self.lag_ns) * (1.0 + self.basis + self.noise + self.shot)

    def set_level(self, side: Side, px_ticks: int, qty_lots: int, now_ns: int) -> None:
        levels = self.bids if side is Side.BUY else self.asks
        if qty_lots:
            levels[px_ticks] = qty_lots
        else:
            levels.pop(px_ticks, None)
        self.changes += 1
        self.core.house_level(self.listing, side, px_ticks, qty_lots, now_ns)


class SyntheticMarket:
    """All ladders. `step(now_ns)` moves prices and books; `shock` and `is_paused` are the control API's."""

    def __init__(self, settings: MarketSettings, seed: int) -> None:
        self.settings = settings
        self.rng = random.Random(seed)
        self.latents = {
            base: Latent(under.start_px, under.vol_bps_per_sqrt_s * 1e-4)
            for base, under in settings.underlyings.items()
        }
        self.ladders: list[Ladder] = []
        self._cores: list[HouseCore] = []
        self.is_paused = False
        self._last_ns = 0

    def add(self, core: HouseCore, venue: str, listing: Listing) -> bool:
        """Make a market in this listing; False when its base asset has no latent price."""
        base = listing.instrument.base
        under = self.settings.underlyings.get(base)
        if under is None:
            return False
        if core not in self._cores:
            self._cores.append(core)
        key = f"{venue}.{'spot' if listing.market is Market.SPOT else 'linear'}"
        tick = float(listing.instrument.tick_size)
        lot_value = under.start_px * float(listing.instrument.lot_size)
        self.ladders.append(
            Ladder(
                core=core,
                listing=listing,
                latent=self.latents[base],
                basis=self.settings.basis_bps.get(key, 0.0) * 1e-4,
                lag_ns=self.settings.lag_ms.get(key, 0) * 1_000_000,
                tick=tick,
                grid_ticks=max(1, round(under.start_px * self.settings.grid_bps * 1e-4 / tick)),
                mean_lots=max(1, round(under.level_notional / lot_value)),
            )
        )
        return True

    @property
    def interval_ns(self) -> int:
        """How often `step` wants to be called: the books take turns, so that none of them waits for all others."""
        return self.settings.step_ms * 1_000_000 // max(1, len(self.ladders))

    def step(self, now_ns: int) -> None:
        """Advance to `now_ns`: prices, then the books whose turn it is, each with its takers."""
        dt_s = self._elapsed_s(self._last_ns, now_ns)
        self._last_ns = now_ns
        if self.is_paused:
            return
        for latent in self.latents.values():
            latent.advance(now_ns, dt_s, self.rng)
        # One batch of events a core and step: the fronts then look at each book once.
        for core in self._cores:
            core.begin(now_ns)
        for number, ladder in enumerate(self.ladders):
            if now_ns >= ladder.due_ns:
                self._turn(ladder, number, now_ns)
        for core in self._cores:
            core.commit()

    def _turn(self, ladder: Ladder, number: int, now_ns: int) -> None:
        dt_s = self._elapsed_s(ladder.last_ns, now_ns)
        step_ns = self.settings.step_ms * 1_000_000
        # The first turn, which all have at once, spreads the following ones over a step.
        ahead_ns = step_ns if ladder.last_ns else step_ns + self.interval_ns * number
        ladder.due_ns = max(ladder.due_ns, now_ns - step_ns) + ahead_ns
        ladder.last_ns = now_ns
        self._disturb(ladder, dt_s)
        self._quote(ladder, now_ns)
        self._take(ladder, now_ns, dt_s)

    def _elapsed_s(self, last_ns: int, now_ns: int) -> float:
        if not last_ns:
            return self.settings.step_ms / 1000
        # A process that was stopped must not make up for it with one huge move.
        return min((now_ns - last_ns) / NS, 0.5)

    def shock(self, base: str, bps: float) -> None:
        """Move the latent price of one underlying at once."""
        self.latents[base].px *= 1.0 + bps * 1e-4

    def _disturb(self, ladder: Ladder, dt_s: float) -> None:
        conf, rng = self.settings, self.rng
        decay = 0.5 ** (dt_s / conf.noise_half_life_s)
        ladder.noise = ladder.noise * decay + conf.noise_bps * 1e-4 * math.sqrt(1.0 - decay * decay) * rng.gauss(
            0.0, 1.0
        )
        ladder.shot *= 0.5 ** (dt_s / conf.dislocation_half_life_s)
        if rng.random() < conf.dislocations_per_s * dt_s:
            size = conf.dislocation_floor_bps + rng.expovariate(1.0 / conf.dislocation_bps)
            ladder.shot = rng.choice((-1e-4, 1e-4)) * size

    def _quote(self, ladder: Ladder, now_ns: int) -> None:
        """Move the ladder to its fair price: the best two levels on the exact tick, the others on a grid below."""
        fair = ladder.fair(now_ns) / ladder.tick
        half = fair * self.settings.half_spread_bps * 1e-4
        bid = math.floor(fair - half)
        ask = max(bid + 1, math.ceil(fair + half))
        if now_ns >= ladder.mark_due_ns:
            ladder.mark_due_ns = now_ns + NS
            ladder.core.set_mark(ladder.listing, round(ladder.latent.px * (1.0 + ladder.basis) / ladder.tick), now_ns)
        if abs(bid - ladder.best_bid) + abs(ask - ladder.best_ask) <= 1:
            bid, ask = ladder.best_bid, ladder.best_ask
        # The side that gives way goes first, so that the house never crosses itself.
        sides = (Side.SELL, Side.BUY) if bid > ladder.best_bid else (Side.BUY, Side.SELL)
        for side in sides:
            self._quote_side(ladder, side, bid if side is Side.BUY else ask, now_ns)
        ladder.best_bid, ladder.best_ask = bid, ask
        self._resize(ladder, now_ns)

    def _quote_side(self, ladder: Ladder, side: Side, best: int, now_ns: int) -> None:
        is_bid = side is Side.BUY
        levels = ladder.bids if is_bid else ladder.asks
        step = -ladder.grid_ticks if is_bid else ladder.grid_ticks
        first = best // ladder.grid_ticks * ladder.grid_ticks
        if not is_bid and first < best:
            first += ladder.grid_ticks
        last = first + step * (self.settings.levels - 1)
        low, high = (last, best) if is_bid else (best, last)
        for px in [px for px in levels if not low <= px <= high or (px % ladder.grid_ticks and px != best)]:
            ladder.set_level(side, px, 0, now_ns)
        for px in range(first, last + step, step):
            if px not in levels:
                ladder.set_level(side, px, self._size(ladder, abs(px - best)), now_ns)
        for px in self._taken(ladder, side, best):
            ladder.set_level(side, px, self._size(ladder, abs(px - best)), now_ns)

    def _taken(self, ladder: Ladder, side: Side, best: int) -> list[int]:
        """Levels to put back: those that takers have emptied, seen from the book's best price."""
        levels = ladder.bids if side is Side.BUY else ladder.asks
        bid, _, ask, _ = ladder.core.best(ladder.listing)
        seen = bid if side is Side.BUY else ask
        gone = [px for px in levels if seen == 0 or (px - seen) * side > 0]
        return gone if best in levels else [best, *gone]

    def _size(self, ladder: Ladder, distance: int) -> int:
        """Lots of a level: small and uneven near the top, larger further down."""
        depth = min(1.0, 0.35 + distance / (ladder.grid_ticks * 20))
        return 1 + int(ladder.mean_lots * depth * (0.2 + self.rng.expovariate(1.25)))

    def _resize(self, ladder: Ladder, now_ns: int) -> None:
        """A few levels near the top change size, as books do between price moves."""
        grid = ladder.grid_ticks
        for _ in range(self.settings.resizes_per_step):
            side = Side.BUY if self.rng.random() < 0.5 else Side.SELL
            is_bid = side is Side.BUY
            depth = int(self.rng.expovariate(0.25))
            if depth == 0:
                px = ladder.best_bid if is_bid else ladder.best_ask
            else:
                px = (ladder.best_bid if is_bid else ladder.best_ask) // grid * grid + (
                    1 - depth if is_bid else depth
                ) * grid
            levels = ladder.bids if is_bid else ladder.asks
            if px in levels:
                ladder.set_level(side, px, self._size(ladder, depth * grid), now_ns)

    def _take(self, ladder: Ladder, now_ns: int, dt_s: float) -> None:
        if self.rng.random() >= self.settings.trades_per_s * dt_s:
            return
        # Takers lean against a dislocation: that is what closes it in a real market.
        is_buy = self.rng.random() < 0.5 - max(-0.3, min(0.3, ladder.shot * 500))
        qty_lots = 1 + int(ladder.mean_lots * 0.1 * self.rng.expovariate(1.0))
        ladder.core.house_trade(ladder.listing, Side.BUY if is_buy else Side.SELL, qty_lots, now_ns)
        ladder.trades += 1

    def counters(self) -> Mapping[str, int]:
        return {
            "level_changes": sum(ladder.changes for ladder in self.ladders),
            "trades": sum(ladder.trades for ladder in self.ladders),
        }
