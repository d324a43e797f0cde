"""Orders from intent to the venue's last word: races, duplicates, lost answers, restarts."""

from __future__ import annotations

from typing import Any

from engine import actions, events
from engine import ledger as records
from engine.state import State, load, save
from engine.types import NO_PX, ExecType, OrdStatus, Side, Venue

MS = 1_000_000
SECOND = 1_000_000_000


def reserved(desk: Any, index: int = 0) -> tuple[int, int, int]:
    gate = desk.core.risk.gate
    return gate.position(index), gate.open_buy(index), gate.open_sell(index)


def test_intent_is_in_the_ledger_before_the_connector_is_asked(desk: Any) -> None:
    ident = desk.place()
    assert isinstance(desk.ledger[-1], records.OrderPlaced) and desk.ledger[-1].cl_ord_id == ident
    assert [type(action) for action in desk.take(Venue.BINANCE)] == [actions.PlaceOrder]
    assert reserved(desk) == (0, 10, 0)


def test_fill_before_the_ack_opens_and_fills_the_order(desk: Any) -> None:
    ident = desk.place()
    desk.fill(ident, 4)
    assert desk.status(ident) is OrdStatus.PARTIALLY_FILLED
    desk.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    assert desk.status(ident) is OrdStatus.PARTIALLY_FILLED
    desk.fill(ident, 6)
    assert desk.status(ident) is OrdStatus.FILLED
    assert reserved(desk) == (10, 0, 0)


def test_duplicate_fill_is_counted_and_changes_nothing(desk: Any) -> None:
    ident = desk.place()
    name = desk.fill(ident, 4)
    before = len(desk.ledger)
    desk.fill(ident, 4, exec_id=name)
    assert len(desk.ledger) == before
    assert desk.core.flow.duplicate_fill_count == 1
    assert reserved(desk) == (4, 6, 0)


def test_cancel_waits_for_the_fills_that_the_venue_has_counted(desk: Any) -> None:
    ident = desk.place()
    desk.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    desk.report(ident, ExecType.CANCELED, OrdStatus.CANCELED, 3)
    assert desk.status(ident) is OrdStatus.NEW, "three lots are filled and not seen yet"
    assert reserved(desk) == (0, 10, 0)
    desk.fill(ident, 3)
    assert desk.status(ident) is OrdStatus.CANCELED
    assert reserved(desk) == (3, 0, 0)


def test_missing_fills_are_asked_for(desk: Any) -> None:
    ident = desk.place()
    desk.report(ident, ExecType.TRADE, OrdStatus.FILLED, 10)
    assert desk.status(ident).is_terminal is False
    desk.take(Venue.BINANCE)
    desk.pass_time(SECOND)
    asked = [action for action in desk.take(Venue.BINANCE) if isinstance(action, actions.QueryFills)]
    assert asked and asked[0].instrument == 0


def test_fill_after_the_cancel_still_moves_the_position(desk: Any) -> None:
    ident = desk.place()
    desk.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    desk.report(ident, ExecType.CANCELED, OrdStatus.CANCELED, 0)
    desk.fill(ident, 2)
    assert desk.status(ident) is OrdStatus.CANCELED
    assert reserved(desk) == (2, 0, 0)


def test_lost_answer_keeps_the_exposure_and_asks(desk: Any) -> None:
    ident = desk.place()
    desk.take(Venue.BINANCE)
    desk.report(ident, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, order_id="", text="no answer in 1500 ms")
    assert desk.status(ident) is OrdStatus.UNKNOWN
    assert reserved(desk) == (0, 10, 0)
    assert [type(action) for action in desk.take(Venue.BINANCE)] == [actions.QueryOrder]


def test_one_miss_proves_nothing_and_two_after_the_window_do(desk: Any) -> None:
    ident = desk.place()
    desk.report(ident, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, order_id="")
    desk.report(ident, ExecType.NOT_FOUND, OrdStatus.UNKNOWN, order_id="")
    desk.report(ident, ExecType.NOT_FOUND, OrdStatus.UNKNOWN, order_id="")
    assert desk.status(ident) is OrdStatus.UNKNOWN, "the window has not passed"
    desk.pass_time(1_100 * MS)
    desk.report(ident, ExecType.NOT_FOUND, OrdStatus.UNKNOWN, order_id="")
    assert desk.status(ident) is OrdStatus.REJECTED
    assert reserved(desk) == (0, 0, 0)


def test_order_thought_absent_lives_and_is_reserved_again_by_its_fill(desk: Any) -> None:
    ident = desk.place()
    desk.report(ident, ExecType.REJECTED, OrdStatus.REJECTED)
    desk.fill(ident, 10)
    assert desk.status(ident) is OrdStatus.FILLED
    assert reserved(desk) == (10, 0, 0)


def test_rejected_order_that_lives_is_reserved_again(desk: Any) -> None:
    ident = desk.place()
    desk.report(ident, ExecType.REJECTED, OrdStatus.REJECTED)
    assert reserved(desk) == (0, 0, 0)
    desk.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    assert desk.status(ident) is OrdStatus.NEW
    assert reserved(desk) == (0, 10, 0)
    assert desk.core.anomaly_counts == {"reopened": 1}


def test_refused_cancel_makes_it_unknown_and_asks(desk: Any) -> None:
    ident = desk.place()
    desk.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    desk.core.flow.cancel(desk.core.state.orders[ident])
    assert desk.status(ident) is OrdStatus.PENDING_CANCEL
    desk.take(Venue.BINANCE)
    desk.report(ident, ExecType.CANCEL_REJECTED, OrdStatus.PENDING_CANCEL, text="unknown order")
    assert desk.status(ident) is OrdStatus.UNKNOWN
    assert any(isinstance(action, actions.QueryOrder) for action in desk.take(Venue.BINANCE))


def test_amend_reserves_the_larger_version_until_answered(desk: Any) -> None:
    ident = desk.place(qty=10)
    desk.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    order = desk.core.state.orders[ident]
    assert desk.core.flow.amend(order, 639_990, 20)
    assert reserved(desk) == (0, 20, 0)
    desk.report(ident, ExecType.REPLACE_REJECTED, OrdStatus.NEW)
    assert desk.status(ident) is OrdStatus.NEW
    assert reserved(desk) == (0, 10, 0)
    assert desk.core.flow.amend(order, 639_990, 20)
    desk.report(ident, ExecType.REPLACED, OrdStatus.NEW, 0, px_ticks=639_990, order_qty_lots=20)
    assert (order.px_ticks, order.qty_lots, reserved(desk)) == (639_990, 20, (0, 20, 0))


def test_amended_order_is_released_at_the_price_it_was_reserved_at(desk: Any) -> None:
    gate = desk.core.risk.gate
    before = gate.gross_atoms
    ident = desk.place(qty=10, side=Side.SELL, px=640_100)
    desk.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    order = desk.core.state.orders[ident]
    assert desk.core.flow.amend(order, 640_050, 12)
    desk.report(ident, ExecType.REPLACED, OrdStatus.NEW, 0, px_ticks=640_050, order_qty_lots=12)
    desk.fill(ident, 5, px=640_050)
    desk.report(ident, ExecType.CANCELED, OrdStatus.CANCELED, 5)
    assert reserved(desk) == (-5, 0, 0)
    assert desk.core.risk.own_best[0] == (NO_PX, NO_PX)
    assert gate.gross_atoms - before == 5 * 640_000 * 10**4, "only the position is left, at the book's price"


def fill_by_venue_id(desk: Any, order_id: str, qty: int, exec_id: str) -> None:
    """A row of a trade history: it names the venue's order id and not ours."""
    desk.say(
        events.Fill(
            desk.now, Venue.BINANCE, 0, 0, order_id, exec_id, Side.BUY, 640_000, qty, 1, "USDT", False, desk.now
        )
    )


def test_fill_under_an_id_not_yet_known_finds_its_order_when_the_id_is_learned(desk: Any) -> None:
    ident = desk.place(qty=10)
    desk.report(ident, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, order_id="")
    fill_by_venue_id(desk, "V9", 4, "E4")
    fill_by_venue_id(desk, "V9", 6, "E6")
    assert reserved(desk) == (10, 10, 0), "whose fills these are is not known: both count"
    desk.report(ident, ExecType.STATUS, OrdStatus.FILLED, 10, order_id="V9")
    assert desk.status(ident) is OrdStatus.FILLED
    assert reserved(desk) == (10, 0, 0)
    assert desk.core.state.orders[ident].cum_qty_lots == 10
    fill_by_venue_id(desk, "V9", 6, "E6")
    assert reserved(desk) == (10, 0, 0)


def test_part_of_an_order_filled_under_an_unknown_id_leaves_the_rest_open(desk: Any) -> None:
    ident = desk.place(qty=10)
    fill_by_venue_id(desk, "V9", 4, "E4")
    desk.report(ident, ExecType.NEW, OrdStatus.PARTIALLY_FILLED, 4, order_id="V9")
    assert desk.status(ident) is OrdStatus.PARTIALLY_FILLED
    assert reserved(desk) == (4, 6, 0)
    folded = State()
    for record in desk.ledger:
        folded.apply(record)
    assert folded.orders[ident].cum_qty_lots == 4
    assert save(folded) == save(desk.core.state)


def test_foreign_orders_are_counted_and_never_canceled(desk: Any) -> None:
    desk.say(events.OrderReport(desk.now, Venue.BYBIT, 1, 0, "F1", ExecType.NEW, OrdStatus.NEW))
    assert desk.core.flow.foreign_count == 1
    desk.pipeline.on_command("cancel_all", {}, "operator", desk.now)
    assert not [a for a in desk.take(Venue.BYBIT) if isinstance(a, actions.CancelOrder)]


def test_order_of_a_lost_tail_is_adopted_with_its_exposure(make_desk: Any) -> None:
    from engine.ids import cl_ord_id

    desk = make_desk(epoch=7)
    desk.open_gates()
    ident = cl_ord_id(1, 0, 6, 99)
    desk.report(
        ident, ExecType.STATUS, OrdStatus.NEW, 0, instrument=1, side=Side.SELL, px_ticks=641_000, order_qty_lots=5
    )
    assert desk.status(ident) is OrdStatus.NEW
    assert reserved(desk, 1) == (0, 0, 5)


def test_order_of_another_instance_is_foreign(desk: Any) -> None:
    from engine.ids import cl_ord_id

    desk.report(cl_ord_id(2, 0, 1, 1), ExecType.STATUS, OrdStatus.NEW, 0, instrument=1, order_qty_lots=5)
    assert desk.core.flow.foreign_count == 1


def test_lost_journal_refuses_the_order_before_the_wire(desk: Any) -> None:
    desk.refuse_appends = True
    ident = desk.place()
    assert not [a for a in desk.take(Venue.BINANCE) if isinstance(a, actions.PlaceOrder)]
    desk.refuse_appends = False
    desk.pipeline._drain()
    assert desk.status(ident) is OrdStatus.REJECTED
    assert desk.core.is_reduce_only


def test_kill_cancels_everything_and_refuses_the_next_order(desk: Any) -> None:
    ident = desk.place()
    desk.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    desk.take(Venue.BINANCE)
    desk.pipeline.on_command("kill", {"reason": "drill"}, "uid 0", desk.now)
    kinds = [type(action) for action in desk.take(Venue.BINANCE)]
    assert actions.CancelOrder in kinds and actions.CancelAll in kinds
    assert actions.CancelAll in [type(action) for action in desk.take(Venue.BYBIT)]
    assert desk.place() == 0
    assert desk.records(records.RiskRefused)[-1].reason == "KILLED"


def test_saved_state_loads_to_the_same_bytes_and_the_ledger_folds_to_it(desk: Any) -> None:
    filled = desk.place()
    desk.fill(filled, 10)
    rests = desk.place(index=1, side=Side.SELL, px=641_000)
    desk.report(rests, ExecType.NEW, OrdStatus.NEW, 0)
    blob = save(desk.core.state)
    assert save(load(blob)) == blob
    folded = State()
    for record in desk.ledger:
        folded.apply(record)
    assert save(folded) == blob


def test_restart_makes_open_orders_unknown_and_keeps_their_exposure(desk: Any, make_desk: Any) -> None:
    ident = desk.place(qty=10)
    desk.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    desk.fill(ident, 3)
    again = make_desk(load(save(desk.core.state)), epoch=2)
    assert again.status(ident) is OrdStatus.UNKNOWN
    assert reserved(again) == (3, 7, 0)
    again.open_gates()
    assert again.status(ident) is OrdStatus.UNKNOWN, "not among the open orders is a question, not an answer"


def test_restored_order_is_left_alone_until_its_instrument_is_defined(desk: Any, make_desk: Any) -> None:
    ident = desk.place(qty=10)
    desk.report(ident, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, order_id="")
    again = make_desk(load(save(desk.core.state)), epoch=2, is_defined=False)
    again.pass_time(3 * SECOND)
    again.pipeline.on_command("cancel_all", {}, "uid 0", again.now)
    assert again.take(Venue.BINANCE) == [], "a connector knows nothing of an instrument before its definition"
    again.define()
    again.pass_time(SECOND)
    assert any(isinstance(action, actions.QueryOrder) for action in again.take(Venue.BINANCE))
    assert reserved(again) == (0, 10, 0)
    assert again.status(ident) is OrdStatus.UNKNOWN
