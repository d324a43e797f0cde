"""Two legs, and what is left between them."""

from __future__ import annotations

from typing import Any

from engine import ledger as records
from engine.actions import PlaceOrder
from engine.legs import MAX_HEDGES
from engine.types import ExecType, OrdStatus, Side, TimeInForce, Venue

MS = 1_000_000


def start(desk: Any, *, is_sequential: bool = False) -> int:
    plan_id = desk.core.legs.start(0, 0, 1, 10**6, 200, is_sequential=is_sequential)
    flush(desk)
    return plan_id


def flush(desk: Any) -> None:
    desk.pipeline._carry_out(desk.core._actions)
    desk.core._actions = []


def sent(desk: Any, venue: Venue) -> list[PlaceOrder]:
    return [action for action in desk.take(venue) if isinstance(action, PlaceOrder)]


def test_simultaneous_legs_leave_in_one_turn_as_bounded_ioc(desk: Any) -> None:
    assert start(desk)
    (buy,), (sell,) = sent(desk, Venue.BINANCE), sent(desk, Venue.BYBIT)
    assert (buy.side, sell.side, buy.qty_lots, sell.qty_lots) == (Side.BUY, Side.SELL, 10, 10)
    assert {buy.time_in_force, sell.time_in_force} == {TimeInForce.IOC}
    assert buy.px_ticks == 640_001 + 128 and sell.px_ticks == 640_000 - 128
    assert len(desk.records(records.RouteDecided)) == 2


def test_both_filled_is_done_and_flat(desk: Any) -> None:
    start(desk)
    (buy,), (sell,) = sent(desk, Venue.BINANCE), sent(desk, Venue.BYBIT)
    desk.fill(buy.cl_ord_id, 10)
    desk.fill(sell.cl_ord_id, 10)
    assert desk.core.legs.done_count == 1 and not desk.core.legs.plans
    assert desk.core.state.portfolio.net_atoms("BTC") == 0


def test_missing_leg_is_hedged_further_through_the_book(desk: Any) -> None:
    start(desk)
    (buy,), (sell,) = sent(desk, Venue.BINANCE), sent(desk, Venue.BYBIT)
    desk.fill(buy.cl_ord_id, 10)
    desk.report(sell.cl_ord_id, ExecType.EXPIRED, OrdStatus.EXPIRED, 0)
    (hedge,) = sent(desk, Venue.BYBIT)
    assert hedge.is_hedge and hedge.side is Side.SELL and hedge.qty_lots == 10
    assert hedge.px_ticks < sell.px_ticks
    desk.fill(hedge.cl_ord_id, 10)
    assert desk.core.legs.done_count == 1
    assert desk.core.state.portfolio.net_atoms("BTC") == 0


def test_unknown_leg_is_waited_for_and_not_guessed_at(desk: Any) -> None:
    start(desk)
    (buy,), (sell,) = sent(desk, Venue.BINANCE), sent(desk, Venue.BYBIT)
    desk.fill(buy.cl_ord_id, 10)
    desk.report(sell.cl_ord_id, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, order_id="")
    desk.pass_time(500 * MS)
    assert not sent(desk, Venue.BYBIT) and not sent(desk, Venue.BINANCE)
    desk.fill(sell.cl_ord_id, 10)
    assert desk.core.legs.done_count == 1


def test_sequential_second_leg_is_sized_to_what_the_first_filled(desk: Any) -> None:
    desk.quote(1, 640_000, 640_001, qty=500)
    start(desk, is_sequential=True)
    assert not sent(desk, Venue.BINANCE)
    (first,) = sent(desk, Venue.BYBIT)
    desk.fill(first.cl_ord_id, 4)
    desk.report(first.cl_ord_id, ExecType.EXPIRED, OrdStatus.EXPIRED, 4)
    (second,) = sent(desk, Venue.BINANCE)
    assert (second.side, second.qty_lots) == (Side.BUY, 4)
    desk.fill(second.cl_ord_id, 4)
    assert desk.core.legs.done_count == 1


def test_nothing_filled_is_done_without_a_hedge(desk: Any) -> None:
    start(desk)
    (buy,), (sell,) = sent(desk, Venue.BINANCE), sent(desk, Venue.BYBIT)
    desk.report(buy.cl_ord_id, ExecType.EXPIRED, OrdStatus.EXPIRED, 0)
    desk.report(sell.cl_ord_id, ExecType.EXPIRED, OrdStatus.EXPIRED, 0)
    assert desk.core.legs.done_count == 1 and desk.core.legs.hedge_count == 0


def test_refused_second_leg_sends_no_first_leg(desk: Any) -> None:
    desk.core.risk.gate.set_state(1, 3)
    assert start(desk) == 0
    assert not sent(desk, Venue.BINANCE) and not sent(desk, Venue.BYBIT)
    assert not desk.records(records.OrderPlaced)


def test_hedge_ladder_ends_and_stops_the_strategy(desk: Any) -> None:
    start(desk)
    (buy,), (sell,) = sent(desk, Venue.BINANCE), sent(desk, Venue.BYBIT)
    desk.fill(buy.cl_ord_id, 10)
    desk.report(sell.cl_ord_id, ExecType.EXPIRED, OrdStatus.EXPIRED, 0)
    for _ in range(40):
        for venue in desk.venues:
            for order in sent(desk, venue):
                desk.report(order.cl_ord_id, ExecType.EXPIRED, OrdStatus.EXPIRED, 0)
        desk.pass_time(150 * MS)
    assert desk.core.legs.failed_count == 1
    assert desk.core.legs.hedge_count == MAX_HEDGES
    assert desk.core.stopped_strategies == {0}
    assert start(desk) == 0
