"""The configuration: all problems at once, each with file, key, value and limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import parse_config
from engine.errors import ConfigError
from engine.types import Market, Venue

ROOT = Path(__file__).resolve().parents[2]
DEMO = (ROOT / "config" / "demo.toml").read_text()


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "x.toml")
    return caught.value.problems


@pytest.mark.parametrize("name", [path.name for path in (ROOT / "config").glob("*.toml")])
def test_shipped_configurations_are_good(name: str) -> None:
    parse_config((ROOT / "config" / name).read_text(), name)


def test_live_configuration_ships_with_trading_off() -> None:
    config = parse_config((ROOT / "config" / "live.toml").read_text())
    assert config.engine.trading == "off"
    assert {settings.environment for settings in config.venues.values()} == {"live"}


def test_index_of_an_instrument_is_its_row() -> None:
    config = parse_config(DEMO)
    specs = config.specs(Venue.BYBIT)
    assert [(spec.index, spec.market, spec.symbol) for spec in specs] == [
        (2, Market.LINEAR, "BTCUSDT"),
        (4, Market.LINEAR, "ETHUSDT"),
    ]


def test_every_problem_is_named_at_once() -> None:
    text = DEMO.replace("instance = 1", "instance = 300").replace("max_orders = 80", 'max_orders = "many"')
    text = text.replace("stale_ms", "stale_msec").replace("ring_mib = 64", "ring_mib = -1")
    found = problems(text)
    assert any("risk.stale_msec: unknown key" in line for line in found)
    assert any("risk.max_orders: Expected `int`, got `str`, was 'many'" in line for line in found)
    assert all(line.startswith("x.toml: ") for line in found)


def test_limits_out_of_range_name_value_and_range() -> None:
    text = DEMO.replace("instance = 1", "instance = 300").replace("ring_mib = 64", "ring_mib = 0")
    assert problems(text) == [
        "x.toml: engine.instance: must be 0..255, was 300",
        "x.toml: journal.ring_mib: must be 1..4096, was 0",
    ]


def test_a_missing_limit_refuses_the_start() -> None:
    assert problems(DEMO.replace('loss_limit = "2000"', "")) == ["x.toml: risk.loss_limit: missing"]


def test_test_trading_refuses_a_live_venue() -> None:
    text = DEMO.replace('environment = "local"', 'environment = "live"', 1)
    assert problems(text) == [
        'x.toml: venues.binance.environment: "live" needs engine.trading = "live" (or "off"), was "test"'
    ]


def test_not_toml_is_one_line() -> None:
    (line,) = problems("[engine")
    assert line.startswith("x.toml: not TOML")


def test_instrument_of_an_unknown_venue_is_named() -> None:
    row = 'venue = "bybit"\nmarket = "linear"\nsymbol = "BTCUSDT"'
    assert row in DEMO
    found = problems(DEMO.replace(row, row.replace("bybit", "kraken"), 1))
    assert "x.toml: instruments[2].venue: must be one of [venues]: binance, bybit, was 'kraken'" in found


def test_instrument_listed_twice_is_named() -> None:
    row = 'venue = "bybit"\nmarket = "linear"\nsymbol = "ETHUSDT"'
    found = problems(DEMO.replace(row, row.replace("ETH", "BTC"), 1))
    assert "x.toml: instruments[4]: bybit linear BTCUSDT is listed twice" in found
