"""Capital by internal accounting: what each strategy may use on each venue.

A double-entry book: every move takes from one venue what it gives to another, so the sum of a strategy's allotments
never changes. Physical transfers are not made here.
"""

from __future__ import annotations

from engine.config import EngineConfig
from engine.instrument import atoms_from_text
from engine.types import Venue
from ext import Gate


class Capital:
    def __init__(self, config: EngineConfig, gate: Gate, moved_atoms: dict[tuple[int, Venue], int]) -> None:
        self.gate = gate
        self.allotted: dict[tuple[int, Venue], int] = {}
        for at, strategy in enumerate(config.strategies):
            for name in config.venues:
                venue = Venue[name.upper()]
                atoms = atoms_from_text(strategy.allotment.get(name, "0"))
                self.allotted[at, venue] = atoms + moved_atoms.get((at, venue), 0)
        self.total = sum(self.allotted.values())
        for key in self.allotted:
            self._tell(key)

    def free_atoms(self, strategy: int, venue: Venue) -> int:
        return self.allotted.get((strategy, venue), 0) - self.gate.used(strategy, venue)

    def plan_move(self, strategy: int, to_venue: Venue, need_atoms: int) -> tuple[Venue, int] | None:
        """The venue with most capital left that can give what is missing; None when none can."""
        if (strategy, to_venue) not in self.allotted:
            return None
        missing = need_atoms - self.free_atoms(strategy, to_venue)
        if missing <= 0:
            return None
        others = [venue for at, venue in self.allotted if at == strategy and venue is not to_venue]
        best = max(others, key=lambda venue: self.free_atoms(strategy, venue), default=None)
        if best is None or self.free_atoms(strategy, best) < missing:
            return None
        return best, missing

    def move(self, strategy: int, from_venue: Venue, to_venue: Venue, amount_atoms: int) -> None:
        assert amount_atoms > 0, f"move of {amount_atoms}"
        self.allotted[strategy, from_venue] -= amount_atoms
        self.allotted[strategy, to_venue] += amount_atoms
        assert sum(self.allotted.values()) == self.total, "capital is not conserved"
        self._tell((strategy, from_venue))
        self._tell((strategy, to_venue))

    def _tell(self, key: tuple[int, Venue]) -> None:
        self.gate.set_allotment(key[0], key[1], self.allotted[key])
