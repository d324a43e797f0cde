"""The fold of the ledger: what each record does to the state, and that the state survives as bytes."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import ledger
from engine import state as state_module
from engine.instrument import Instrument
from engine.state import State, load, save
from engine.types import InstrumentKind, Market, OrdStatus, OrdType, Side, TimeInForce, Venue

INSTRUMENT = Instrument(
    index=0, venue=Venue.BYBIT, market=Market.LINEAR, kind=InstrumentKind.PERPETUAL, symbol="BTCUSDT", base="BTC",
    quote="USDT", settle="USDT", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"),
)  # fmt: skip


def placed(ident: int = 1, qty: int = 10, plan: int = 0, strategy: int = 0) -> ledger.OrderPlaced:
    return ledger.OrderPlaced(
        Venue.BYBIT, 0, ident, strategy, Side.BUY, OrdType.LIMIT, 640_000, qty, TimeInForce.GTC, False, False, False,
        plan, 77,
    )  # fmt: skip


def filled(ident: int, qty: int, exec_id: str, status: OrdStatus = OrdStatus.PARTIALLY_FILLED) -> ledger.OrderFilled:
    return ledger.OrderFilled(
        Venue.BYBIT, 0, ident, "V1", exec_id, Side.BUY, 640_000, qty, 5, "USDT", False, 100 + qty, status
    )


def fold(*records: ledger.LedgerRecord) -> State:
    made = State()
    for record in (ledger.InstrumentNoted(INSTRUMENT), *records):
        made.apply(record)
    return made


def test_placed_order_is_open_and_counted() -> None:
    state = fold(placed(ident=(3 << 40) + 9, plan=4))
    (order,) = state.open_orders.values()
    assert (order.status, order.leaves_qty_lots, order.touched_ns) == (OrdStatus.PENDING_NEW, 10, 77)
    assert state.plan_counter == 4


def test_same_identifier_twice_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="used twice"):
        fold(placed(1), placed(1))


def test_order_is_found_by_our_name_or_by_the_venue_s() -> None:
    state = fold(placed(1), ledger.OrderAccepted(1, "V1", OrdStatus.NEW, 0))
    assert state.find(Venue.BYBIT, 1, "") is state.find(Venue.BYBIT, 0, "V1") is state.orders[1]
    assert state.find(Venue.BINANCE, 0, "V1") is None, "another venue may give the same number"


def test_fills_move_order_position_and_identities() -> None:
    state = fold(placed(1), filled(1, 4, "E1"), filled(1, 6, "E2", OrdStatus.FILLED))
    assert state.orders[1].cum_qty_lots == 10 and not state.open_orders
    assert state.portfolio.position_lots(0) == 10 and state.portfolio.fees_atoms() == 10
    assert state.is_known_fill(0, "E1") and not state.is_known_fill(0, "E3") and not state.is_known_fill(1, "E1")
    assert (state.fill_count, state.executions, state.last_fill_exch_ns) == (2, {0: 2}, {0: 106})


def test_foreign_fill_moves_the_position_alone() -> None:
    state = fold(filled(0, 4, "E1"))
    assert (state.portfolio.position_lots(0), state.foreign_fill_count, state.executions) == (4, 1, {})


def test_oldest_fill_identity_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "FILL_IDS_KEPT", 2)
    state = fold(placed(1), *(filled(1, 1, name) for name in ("E1", "E2", "E3")))
    assert list(state.fill_ids[0]) == ["E2", "E3"]


@pytest.mark.parametrize(
    ("record", "status"),
    [
        (ledger.OrderCanceled(1, 0, 0, "by us"), OrdStatus.CANCELED),
        (ledger.OrderRejected(1, 0, -2010, "no funds"), OrdStatus.REJECTED),
        (ledger.OrderExpired(1, 0, 0, "IOC"), OrdStatus.EXPIRED),
        (ledger.OrderUnknown(1, "no answer"), OrdStatus.UNKNOWN),
        (ledger.CancelRequested(1, 99), OrdStatus.PENDING_CANCEL),
        (ledger.AmendRequested(1, 640_001, 11, 99), OrdStatus.PENDING_REPLACE),
        (ledger.OrderAmended(1, 640_001, 11, OrdStatus.NEW), OrdStatus.NEW),
    ],
)
def test_record_moves_the_order(record: ledger.LedgerRecord, status: OrdStatus) -> None:
    state = fold(placed(1), ledger.OrderAccepted(1, "V1", OrdStatus.NEW, 0), record)
    assert state.orders[1].status is status
    assert (1 in state.open_orders) is not status.is_terminal


def test_cancel_of_an_unknown_order_leaves_it_unknown() -> None:
    state = fold(placed(1), ledger.OrderUnknown(1, "no answer"), ledger.CancelRequested(1, 99))
    assert state.orders[1].status is OrdStatus.UNKNOWN and state.orders[1].touched_ns == 99


def test_closed_order_that_lives_after_all_is_open_again() -> None:
    state = fold(placed(1), ledger.OrderRejected(1, 0, 0, ""), ledger.OrderAccepted(1, "V1", OrdStatus.NEW, 0))
    assert 1 in state.open_orders


def test_funding_has_an_identity_of_its_own() -> None:
    state = fold(ledger.FundingBooked(Venue.BYBIT, 0, -7, "USDT", "F1"))
    assert state.is_known_fill(0, "F1") and state.portfolio.funding_atoms() == -7 and state.fill_count == 0


def test_corrections_take_the_venue_s_word() -> None:
    state = fold(
        ledger.Correction(Venue.BYBIT, "position", 0, 0, -3, "asked four times"),
        ledger.Correction(Venue.BYBIT, "holding", 0, 0, 50, "first"),
        ledger.Correction(Venue.BYBIT, "order", 0, 0, 1, "nothing moves"),
    )
    assert state.portfolio.position_lots(0) == -3
    holding = state.portfolio.holdings[Venue.BYBIT, "BTC"]
    assert holding.expected_atoms == 50 and holding.is_agreed


def test_capital_moved_is_conserved_and_summed() -> None:
    state = fold(*[ledger.CapitalMoved(0, Venue.BYBIT, Venue.BINANCE, 5)] * 2)
    assert state.moved_atoms == {(0, Venue.BYBIT): -10, (0, Venue.BINANCE): 10}


def test_resume_ends_a_kill_and_counts_executions_anew() -> None:
    state = fold(placed(1), filled(1, 1, "E1"), ledger.KillSwitch(True, "drill", "me"))
    assert state.is_killed and state.executions == {0: 1}
    state.apply(ledger.KillSwitch(False, "resume", "me"))
    assert not state.is_killed and state.executions == {}


def test_record_that_says_nothing_of_the_state_changes_nothing() -> None:
    before = save(fold())
    noise = (
        ledger.Anomaly("x", 0, ""), ledger.VenueGate(Venue.BYBIT, True, ""), ledger.LegChanged(1, "done", 0, ""),
        ledger.QuerySent(Venue.BYBIT, "x", 1, 0, 0), ledger.RiskRefused(0, 0, Side.BUY, 1, 1, "COLLAR", 1, 1),
    )  # fmt: skip
    assert save(fold(*noise)) == before


STEPS = st.lists(
    st.tuples(st.sampled_from(["place", "fill", "cancel", "unknown", "accept", "balance"]), st.integers(0, 5)),
    max_size=40,
)


def records_of(steps: list[tuple[str, int]]) -> list[ledger.LedgerRecord]:
    """A ledger that could be: orders are placed before anything is said of them."""
    found: list[ledger.LedgerRecord] = [ledger.InstrumentNoted(INSTRUMENT)]
    for at, (what, which) in enumerate(steps):
        count = sum(1 for record in found if isinstance(record, ledger.OrderPlaced))
        ident = which % count + 1 if count else 0
        if what == "place":
            found.append(placed(count + 1, qty=100))
        elif what == "balance":
            found.append(ledger.BalanceChanged(Venue.BYBIT, "USDT", which, which))
        elif not ident:
            continue
        elif what == "fill":
            found.append(filled(ident, which + 1, f"E{at}"))
        elif what == "cancel":
            found.append(ledger.OrderCanceled(ident, 0, 0, ""))
        elif what == "unknown":
            found.append(ledger.OrderUnknown(ident, ""))
        else:
            found.append(ledger.OrderAccepted(ident, f"V{ident}", OrdStatus.NEW, 0))
    return found


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_any_ledger_folds_to_a_state_that_saves_and_loads_to_the_same_bytes(steps: list[tuple[str, int]]) -> None:
    state = State()
    for record in records_of(steps):
        state.apply(record)
        blob = save(state)
        again = load(blob)
        assert save(again) == blob
        assert list(again.open_orders) == list(state.open_orders), "in the same order"
        assert again.portfolio.position_lots(0) == state.portfolio.position_lots(0)
