"""Capital moves between venues by a book in which nothing is made and nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.capital import Capital
from engine.config import EngineConfig
from engine.types import Venue
from ext import Gate

UNIT = 10**8
VENUES = (Venue.BINANCE, Venue.BYBIT)


def capital_of(config: EngineConfig, moved: dict[tuple[int, Venue], int] | None = None) -> Capital:
    return Capital(config, Gate(2, 1, 1), moved or {})


def test_allotments_come_from_the_configuration(config: EngineConfig) -> None:
    capital = capital_of(config)
    assert capital.allotted == {(0, venue): 100_000 * UNIT for venue in VENUES}
    assert capital.free_atoms(0, Venue.BYBIT) == 100_000 * UNIT


def test_moves_of_earlier_runs_are_kept(config: EngineConfig) -> None:
    moved = {(0, Venue.BINANCE): -30 * UNIT, (0, Venue.BYBIT): 30 * UNIT}
    capital = capital_of(config, moved)
    assert capital.allotted[0, Venue.BYBIT] == 100_030 * UNIT
    assert capital.total == 200_000 * UNIT


def test_plan_takes_what_is_missing_from_the_venue_with_most_left(config: EngineConfig) -> None:
    capital = capital_of(config)
    assert capital.plan_move(0, Venue.BINANCE, 100_000 * UNIT) is None, "nothing is missing"
    assert capital.plan_move(0, Venue.BINANCE, 130_000 * UNIT) == (Venue.BYBIT, 30_000 * UNIT)
    assert capital.plan_move(0, Venue.BINANCE, 200_001 * UNIT) is None, "there is not so much"


def test_strategy_that_is_not_configured_gets_nothing(config: EngineConfig) -> None:
    assert capital_of(config).plan_move(7, Venue.BINANCE, 1) is None


def test_move_of_nothing_is_a_bug(config: EngineConfig) -> None:
    with pytest.raises(AssertionError):
        capital_of(config).move(0, Venue.BINANCE, Venue.BYBIT, 0)


def test_gate_knows_the_new_allotment(config: EngineConfig) -> None:
    capital = capital_of(config)
    capital.move(0, Venue.BINANCE, Venue.BYBIT, 40_000 * UNIT)
    assert capital.free_atoms(0, Venue.BINANCE) == 60_000 * UNIT
    assert capital.free_atoms(0, Venue.BYBIT) == 140_000 * UNIT


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(1, 10**13)), max_size=20))
def test_sum_is_conserved_by_any_moves(moves: list[tuple[int, int]]) -> None:
    from engine.config import parse_config

    capital = capital_of(parse_config(CONFIG))
    for at, atoms in moves:
        capital.move(0, VENUES[at], VENUES[1 - at], atoms)
    assert sum(capital.allotted.values()) == 200_000 * UNIT


CONFIG = """
[engine]
instance = 1
state_dir = "unused"
[risk]
max_gross_notional = "1"
loss_limit = "1"
max_orders = 1
[risk.underlyings]
BTC = { max_long = "1", max_short = "1" }
[venues.binance]
environment = "local"
[venues.bybit]
environment = "local"
[[instruments]]
venue = "binance"
market = "linear"
symbol = "BTCUSDT"
max_order_notional = "1"
max_position = "1"
[[strategies]]
name = "quiet"
kind = "cross_arbitrage"
allotment = { binance = "100000", bybit = "100000" }
[strategies.params]
underlying = "BTC"
qty = "0.01"
min_edge_ppm = 1
"""
