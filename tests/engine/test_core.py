"""The core's decisions: operators' words, venues' words, limits that stop a strategy, and an orderly end."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine import actions, events
from engine import ledger as records
from engine.config import EngineConfig
from engine.core import Context
from engine.legs import PlanState
from engine.state import load, save
from engine.types import ExecType, InstrumentState, OrdStatus, Side, Venue

MS = 1_000_000
SECOND = 1_000_000_000


def command(desk: Any, name: str, **args: str) -> None:
    desk.pipeline.on_command(name, args, "uid 0", desk.now)


def kinds(desk: Any, venue: Venue = Venue.BINANCE) -> list[type]:
    return [type(action) for action in desk.take(venue)]


def refusals(desk: Any) -> list[str]:
    return [record.reason for record in desk.records(records.RiskRefused)]


def anomalies(desk: Any) -> list[tuple[str, str]]:
    return [(record.what, record.text) for record in desk.records(records.Anomaly)]


def resting(desk: Any, **more: Any) -> int:
    ident: int = desk.place(**more)
    desk.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    return ident


# Operators.


def test_unknown_command_is_written_down_with_its_operator(desk: Any) -> None:
    command(desk, "dance")
    assert anomalies(desk)[-1] == ("command", "unknown command 'dance' from uid 0")


def test_resume_trades_again_after_a_kill(desk: Any) -> None:
    command(desk, "kill", reason="drill")
    assert desk.place() == 0 and desk.core.state.is_killed
    command(desk, "resume")
    assert not desk.core.state.is_killed and desk.place()
    switch = desk.records(records.KillSwitch)
    assert [(r.is_on, r.reason, r.operator) for r in switch] == [(True, "drill", "uid 0"), (False, "resume", "uid 0")]


def test_kill_outlives_a_restart(desk: Any, make_desk: Any) -> None:
    command(desk, "kill")
    again = make_desk(load(save(desk.core.state)), epoch=2)
    again.open_gates()
    assert again.place() == 0
    assert refusals(again) == ["KILLED"]


def test_kill_asks_every_instrument_to_cancel_all_even_with_nothing_open(desk: Any) -> None:
    command(desk, "kill")
    for venue, index in ((Venue.BINANCE, 0), (Venue.BYBIT, 1)):
        assert [a for a in desk.take(venue) if isinstance(a, actions.CancelAll)] == [actions.CancelAll(venue, index)]


def test_cancel_all_cancels_ours_and_trading_goes_on(desk: Any) -> None:
    ident = resting(desk)
    desk.take(Venue.BINANCE)
    command(desk, "cancel_all")
    (cancel,) = desk.take(Venue.BINANCE)
    assert isinstance(cancel, actions.CancelOrder) and cancel.cl_ord_id == ident
    assert desk.status(ident) is OrdStatus.PENDING_CANCEL
    assert desk.place()


def test_reduce_only_lets_through_what_reduces(desk: Any) -> None:
    held = desk.place(qty=10)
    desk.fill(held, 10)
    command(desk, "reduce_only")
    assert desk.place(qty=1) == 0 and refusals(desk) == ["REDUCE_ONLY_MODE"]
    assert desk.place(side=Side.SELL, qty=11) == 0, "it would open the other side"
    assert desk.place(side=Side.SELL, qty=10)


# Venues.


def test_nothing_is_placed_before_the_gate_of_the_venue_is_open(make_desk: Any) -> None:
    desk = make_desk()
    assert not desk.core.is_open(0)
    assert desk.place() == 0
    desk.open_gates()
    assert desk.core.is_open(0) and desk.place()


def test_reconnect_closes_the_gate_until_the_venue_is_reconciled_again(desk: Any) -> None:
    desk.say(events.VenueReady(desk.now, Venue.BINANCE))
    assert not desk.core.is_open(0) and desk.core.is_open(1)
    desk.answer(Venue.BINANCE)
    assert desk.core.is_open(0)
    gates = [(r.is_open, r.venue) for r in desk.records(records.VenueGate)]
    assert gates[-2:] == [(False, Venue.BINANCE), (True, Venue.BINANCE)]


@pytest.mark.parametrize("category", ["key", "environment"])
def test_refused_key_or_environment_ends_the_run(desk: Any, category: str) -> None:
    desk.say(events.VenueRefused(desk.now, Venue.BYBIT, category, "the key may withdraw"))
    assert desk.core.fatal == "BYBIT: the key may withdraw" and desk.core.stop_deadline_ns
    assert not desk.core.is_open(0), "nothing opens while the run ends"


def test_venue_refused_for_its_clock_closes_alone(desk: Any) -> None:
    desk.say(events.VenueRefused(desk.now, Venue.BYBIT, "clock", "two seconds behind"))
    assert not desk.core.is_open(1) and desk.core.is_open(0)
    assert not desk.core.fatal and not desk.core.stop_deadline_ns
    desk.say(events.VenueReady(desk.now, Venue.BYBIT))
    desk.answer(Venue.BYBIT)
    assert not desk.core.is_open(1), "a refused venue stays closed"


def test_banned_venue_takes_no_orders_until_the_ban_is_over(desk: Any) -> None:
    desk.say(events.VenueNotice(desk.now, Venue.BINANCE, "banned", desk.now + 3 * SECOND))
    assert not desk.core.is_open(0) and desk.core.is_open(1)
    desk.pass_time(2 * SECOND)
    assert not desk.core.is_open(0)
    desk.pass_time(1 * SECOND)
    assert desk.core.is_open(0)
    assert ("venue notice", "BINANCE: banned") in anomalies(desk)


def test_fee_tier_of_the_account_replaces_the_configured_fee(desk: Any) -> None:
    before = desk.core.router.touch(0, Side.BUY)
    desk.say(events.FeeTier(desk.now, 0, 100, 450))
    assert desk.core.router.taker_ppm[0] == 450
    assert desk.core.router.touch(0, Side.BUY) > before


def test_halted_instrument_refuses_orders_and_trades_again(desk: Any) -> None:
    desk.say(events.InstrumentStateChanged(desk.now, 0, InstrumentState.HALTED))
    assert desk.place() == 0
    assert desk.place(index=1), "the other instrument trades"
    desk.say(events.InstrumentStateChanged(desk.now, 0, InstrumentState.TRADING))
    assert desk.place()


def test_instrument_without_a_limit_for_its_underlying_is_refused(desk: Any) -> None:
    stranger = msgspec.structs.replace(desk.core.instruments[0], base="DOGE")
    desk.say(events.InstrumentDefined(desk.now, stranger))
    assert "DOGE" in desk.core.health[Venue.BINANCE].refusal
    assert desk.core.instruments[0].base == "BTC"


def test_funding_is_booked_once(desk: Any) -> None:
    paid = events.FundingPaid(desk.now, Venue.BINANCE, 0, -5_000, "USDT", "F1", 0)
    desk.say(paid)
    desk.say(paid)
    assert len(desk.records(records.FundingBooked)) == 1
    assert desk.core.state.portfolio.funding_atoms() == -5_000


def test_balance_that_has_not_changed_is_not_written_again(desk: Any) -> None:
    for total in (7, 7, 8):
        desk.say(events.Balance(desk.now, Venue.BYBIT, "USDT", total, total))
    assert [r.total_atoms for r in desk.records(records.BalanceChanged)] == [7, 8]


# Limits that stop.


def test_loss_above_the_limit_refuses_what_opens(desk: Any) -> None:
    held = desk.place(qty=500)
    desk.fill(held, 500)
    desk.quote(0, 440_000, 440_001)  # half a coin, 20000 lower: the limit of 10000 is just reached
    desk.quote(1, 440_000, 440_001)
    desk.pass_time(300 * MS)
    assert desk.core.risk.gate.loss_atoms >= 10_000 * 10**8
    assert desk.place(index=1, px=440_000, qty=1) == 0
    assert refusals(desk)[-1] == "LOSS_LIMIT"


def limited(config: EngineConfig, **risk: int) -> EngineConfig:
    return msgspec.structs.replace(config, risk=msgspec.structs.replace(config.risk, **risk))


def test_strategy_stops_after_max_executions_and_a_resume_arms_it_again(desk: Any, config: EngineConfig) -> None:
    desk = type(desk)(limited(config, max_executions=3))
    desk.open_gates()
    for _ in range(3):
        desk.fill(desk.place(qty=1), 1)
    assert desk.place(qty=1) == 0
    assert anomalies(desk)[-1] == ("strategy stopped", "quiet: 3 executions, limit 3")
    command(desk, "resume")
    for _ in range(2):
        desk.fill(desk.place(qty=1), 1)
        assert desk.core.stopped_strategies == set(), "armed for three more"
    desk.fill(desk.place(qty=1), 1)
    assert desk.place(qty=1) == 0


def test_restart_does_not_arm_a_strategy_again(desk: Any, config: EngineConfig) -> None:
    for _ in range(3):
        desk.fill(desk.place(qty=1), 1)
    again = type(desk)(limited(config, max_executions=3), load(save(desk.core.state)), 2)
    again.say(events.VenueReady(again.now, Venue.BINANCE))
    again.answer(Venue.BINANCE, positions={0: 3})
    assert again.core.is_open(0) and again.place(qty=1) == 0
    command(again, "resume")
    assert again.place(qty=1)


# The end.


def pass_stop(desk: Any) -> None:
    held = {index: desk.core.state.portfolio.position_lots(index) for index in desk.core.instruments}
    for _ in range(4):
        desk.pass_time(500 * MS)
        for at, venue in enumerate(desk.venues):
            desk.answer(venue, positions={at: held[at]})


def test_stop_cancels_waits_for_the_venue_and_looks_once_more(desk: Any) -> None:
    ident = resting(desk)
    desk.take(Venue.BINANCE)
    command(desk, "stop")
    assert kinds(desk)[:1] == [actions.CancelOrder]
    assert desk.place() == 0
    desk.pass_time(1 * SECOND)
    assert not desk.core.is_stopped, "the order may still live"
    desk.report(ident, ExecType.CANCELED, OrdStatus.CANCELED, 0)
    desk.take(Venue.BINANCE)
    desk.pass_time(100 * MS)
    assert actions.QueryOpenOrders in [type(a) for a in desk.venues[Venue.BINANCE].asked]
    assert not desk.core.is_stopped, "not before the venues have said that nothing is open"
    pass_stop(desk)
    assert desk.core.is_stopped and all(connector.is_stopped for connector in desk.venues.values())


def test_stop_ends_at_its_deadline_with_what_is_still_open(desk: Any) -> None:
    ident = resting(desk)
    command(desk, "stop")
    desk.pass_time(4_900 * MS)
    assert not desk.core.is_stopped
    desk.pass_time(200 * MS)
    assert desk.core.is_stopped and not desk.status(ident).is_terminal


def test_second_stop_does_not_put_the_deadline_off(desk: Any) -> None:
    resting(desk)
    command(desk, "stop")
    deadline = desk.core.stop_deadline_ns
    desk.pass_time(1 * SECOND)
    command(desk, "stop")
    assert desk.core.stop_deadline_ns == deadline


def test_stop_lets_a_plan_hedge_its_residual_and_opens_no_other(desk: Any) -> None:
    context = Context(desk.core, 0)
    plan_id = context.execute(0, 1, 1_000_000, 200)
    desk.pipeline._carry_out(desk.core._actions)
    desk.core._actions = []
    buy, sell = desk.core.legs.plans[plan_id].orders
    command(desk, "stop")
    assert not context.is_open(0) and context.execute(0, 1, 1_000_000, 200) == 0
    desk.fill(buy, 10)
    desk.report(sell, ExecType.EXPIRED, OrdStatus.EXPIRED, 0)
    desk.pass_time(200 * MS)
    hedges = [r for r in desk.records(records.OrderPlaced) if r.is_hedge]
    assert hedges and hedges[0].plan_id == plan_id and hedges[0].side is Side.SELL
    assert not desk.core.is_stopped
    desk.fill(hedges[0].cl_ord_id, 10, px=640_000)
    assert desk.records(records.LegChanged)[-1].state == PlanState.DONE.value
    pass_stop(desk)
    assert desk.core.is_stopped and not desk.core.state.portfolio.net_atoms("BTC")


def test_halt_kills_and_ends_with_the_reason(desk: Any) -> None:
    ident = resting(desk)
    command(desk, "halt", reason="AssertionError: broken")
    assert desk.core.fatal == "AssertionError: broken"
    assert desk.core.risk.gate.is_killed and desk.core.stop_deadline_ns
    assert desk.status(ident) is OrdStatus.PENDING_CANCEL
