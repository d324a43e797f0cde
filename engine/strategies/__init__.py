"""Strategies by kind. A kind is a name in the configuration."""

from __future__ import annotations

from engine.strategies.cross_arbitrage import CrossArbitrage
from engine.strategy import Strategy

KINDS: dict[str, type[Strategy]] = {"cross_arbitrage": CrossArbitrage}
