"""Each kind of difference between the ledger's fold and the exchange is found, and named."""

from __future__ import annotations

import copy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine import ledger
from engine.config import EngineConfig, parse_config
from engine.ids import cl_ord_id, text_from_cl_ord_id
from engine.instrument import Instrument
from engine.state import State
from engine.types import InstrumentKind, Market, OrdStatus, OrdType, Side, TimeInForce, Venue
from tools.truth import differences, limits_exceeded, orders_without_intent

BTC = 10**8
SPOT = Instrument(
    index=0, venue=Venue.BINANCE, market=Market.SPOT, kind=InstrumentKind.SPOT, symbol="BTCUSDT", base="BTC",
    quote="USDT", settle="USDT", tick_size=Decimal("0.01"), lot_size=Decimal("0.001"),
)  # fmt: skip
PERPETUAL = Instrument(
    index=1, venue=Venue.BYBIT, market=Market.LINEAR, kind=InstrumentKind.PERPETUAL, symbol="BTCUSDT", base="BTC",
    quote="USDT", settle="USDT", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"),
)  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]


def placed(index: int, side: Side, qty: int, counter: int = 1) -> ledger.OrderPlaced:
    instrument = (SPOT, PERPETUAL)[index]
    return ledger.OrderPlaced(
        instrument.venue, index, cl_ord_id(1, 0, 1, counter), 0, side, OrdType.LIMIT, 640_000, qty, TimeInForce.IOC,
        False, False, False, 0, 0,
    )  # fmt: skip


def filled(index: int, side: Side, qty: int, counter: int = 1, status: OrdStatus = OrdStatus.FILLED) -> Any:
    instrument = (SPOT, PERPETUAL)[index]
    return ledger.OrderFilled(
        instrument.venue, index, cl_ord_id(1, 0, 1, counter), "V", f"E{counter}", side, 640_000, qty, 0, "USDT", False,
        0, status,
    )  # fmt: skip


@pytest.fixture
def state() -> State:
    """Ten lots bought on the spot venue and sold on the other."""
    made = State()
    for record in (
        ledger.InstrumentNoted(SPOT), ledger.InstrumentNoted(PERPETUAL),
        ledger.BalanceChanged(Venue.BINANCE, "BTC", 2 * BTC, 2 * BTC),
        ledger.Correction(Venue.BINANCE, "holding", 0, 0, 2 * BTC, "first"),
        placed(0, Side.BUY, 10), filled(0, Side.BUY, 10), placed(1, Side.SELL, 10, 2), filled(1, Side.SELL, 10, 2),
    ):  # fmt: skip
        made.apply(record)
    return made


def fill(market: str, side: str, qty: str) -> dict[str, str]:
    return {"market": market, "symbol": "BTCUSDT", "side": side, "qty": qty}


TRUTH: dict[str, Any] = {
    "binance": {
        "orders": [], "open_orders": [], "fills": [fill("spot", "BUY", "0.004"), fill("spot", "BUY", "0.006")],
        "positions": {}, "balances": {"spot": {"BTC": {"free": "2.009", "locked": "0.001"}}},
    },
    "bybit": {
        "orders": [], "open_orders": [], "fills": [fill("linear", "SELL", "0.010")],
        "positions": {"linear:BTCUSDT": {"qty": "-0.010"}}, "balances": {"unified": {}},
    },
}  # fmt: skip


def test_equal_books_have_no_difference(state: State) -> None:
    assert differences(state, TRUTH) == []


def told(state: State, venue: str, key: str, value: Any) -> list[str]:
    truth = copy.deepcopy(TRUTH)
    truth[venue][key] = value
    return differences(state, truth)


def test_fill_that_we_do_not_have_is_found(state: State) -> None:
    (line,) = told(state, "bybit", "fills", [fill("linear", "SELL", "0.010"), fill("linear", "SELL", "0.001")])
    assert line.startswith("BYBIT:BTC-USDT:PERPETUAL: fills") and "0.011" in line


def test_fill_that_the_exchange_does_not_have_is_found(state: State) -> None:
    (line,) = told(state, "binance", "fills", [fill("spot", "BUY", "0.004")])
    assert "0.010 bought" in line and "exchange 0.004" in line


def test_round_trip_that_we_missed_is_found_though_the_position_agrees(state: State) -> None:
    rows = [fill("linear", "SELL", "0.015"), fill("linear", "BUY", "0.005")]
    assert len(told(state, "bybit", "fills", rows)) == 1


def test_other_position_is_found(state: State) -> None:
    for positions in ({}, {"linear:BTCUSDT": {"qty": "0.010"}}, {"linear:ETHUSDT": {"qty": "-0.010"}}):
        (line,) = told(state, "bybit", "positions", positions)
        assert "position -0.010" in line


def test_other_spot_holding_is_found(state: State) -> None:
    for wallet in ({}, {"BTC": {"free": "2.009", "locked": "0"}}):
        (line,) = told(state, "binance", "balances", {"spot": wallet})
        assert "holding 201000000 atoms" in line


def test_order_of_ours_that_is_open_is_found_and_a_foreign_one_is_not(state: State) -> None:
    ours = {"client_id": text_from_cl_ord_id(cl_ord_id(1, 0, 1, 7))}
    (line,) = told(state, "bybit", "open_orders", [ours, {"client_id": "by-hand"}])
    assert ours["client_id"] in line and "still open" in line


def test_order_without_an_intent_is_found() -> None:
    ours, foreign = cl_ord_id(1, 0, 1, 7), {"client_id": "by-hand"}
    truth = copy.deepcopy(TRUTH)
    truth["binance"]["orders"] = [{"client_id": text_from_cl_ord_id(ours)}, foreign]
    assert orders_without_intent({ours}, truth) == []
    assert orders_without_intent(set(), truth) == [f"binance {text_from_cl_ord_id(ours)}"]


@pytest.fixture
def config() -> EngineConfig:
    text = (ROOT / "config" / "demo.toml").read_text()
    head, _, rows = text.partition("[[instruments]]")
    tail = rows[rows.index("[[strategies]]") :]
    row = (
        '[[instruments]]\nvenue = "{}"\nmarket = "{}"\nsymbol = "BTCUSDT"\n'
        'max_order_notional = "90000"\nmax_position = "0.3"\n'
    )
    return parse_config(head + row.format("binance", "spot") + row.format("bybit", "linear") + tail)


def over(config: EngineConfig, *records: ledger.LedgerRecord) -> list[str]:
    both = (ledger.InstrumentNoted(SPOT), ledger.InstrumentNoted(PERPETUAL))
    return limits_exceeded([*both, *records], config, State())


def test_limits_that_are_just_reached_are_not_exceeded(config: EngineConfig) -> None:
    assert over(config, placed(0, Side.BUY, 300), placed(1, Side.BUY, 200, 2)) == []


def test_order_above_the_instrument_s_limit_is_found(config: EngineConfig) -> None:
    (line,) = over(config, placed(1, Side.SELL, 301))
    assert "0 and 301 open" in line


def test_position_and_open_order_count_together(config: EngineConfig) -> None:
    assert over(config, placed(1, Side.BUY, 200), filled(1, Side.BUY, 200), placed(1, Side.BUY, 101, 2))
    assert not over(config, placed(1, Side.BUY, 200), filled(1, Side.BUY, 200), placed(1, Side.SELL, 101, 2))


def test_unknown_order_counts_in_full(config: EngineConfig) -> None:
    lost = ledger.OrderUnknown(cl_ord_id(1, 0, 1, 1), "no answer")
    assert over(config, placed(1, Side.BUY, 200), lost, placed(1, Side.BUY, 101, 2))


def test_underlying_counts_over_all_venues(config: EngineConfig) -> None:
    (line,) = over(config, placed(0, Side.BUY, 300), placed(1, Side.BUY, 201, 2))
    assert line.startswith("BTC: worst case 50100000 long")
