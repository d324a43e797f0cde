"""The way from an input to its consequences: order of events, a lost journal, and bugs that end the run."""

from __future__ import annotations

from typing import Any

import pytest

from engine import actions, events
from engine import ledger as records
from engine.types import ExecType, OrdStatus, Venue

CHANNEL = Venue.BYBIT << 8 | 1


def commands(desk: Any) -> list[str]:
    return [record.text for record in desk.records(records.Anomaly) if record.what == "command"]


def test_inputs_go_to_the_connector_of_their_venue(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[Any, ...]] = []
    for venue, connector in desk.venues.items():
        for name in ("on_frame", "on_response", "on_connected", "on_disconnected"):
            note = lambda *args, at=venue, what=name: heard.append((at, what, *args))  # noqa: E731
            monkeypatch.setattr(connector, name, note)
    desk.pipeline.on_frame(CHANNEL, b"{}", 5)
    desk.pipeline.on_connected(CHANNEL, 6)
    desk.pipeline.on_disconnected(CHANNEL, "reset", 7)
    desk.pipeline.on_response(Venue.BINANCE << 40 | 3, 200, {}, b"[]", 8)
    assert heard == [
        (Venue.BYBIT, "on_frame", CHANNEL, b"{}", 5),
        (Venue.BYBIT, "on_connected", CHANNEL, 6),
        (Venue.BYBIT, "on_disconnected", CHANNEL, "reset", 7),
        (Venue.BINANCE, "on_response", Venue.BINANCE << 40 | 3, 200, {}, b"[]", 8),
    ]
    assert desk.pipeline.now_ns == 8


def test_event_that_an_action_causes_waits_for_its_turn(desk: Any) -> None:
    """A connector may refuse an order while it is handed over: the other actions of that event go first."""
    order: list[str] = []

    def refuse(action: Any, now_ns: int) -> None:
        order.append("first")
        desk.pipeline.emit(events.Command(now_ns, "seen", {}, "connector"))
        order.append(f"back, {len(commands(desk))} seen")

    def second(action: Any, now_ns: int) -> None:
        order.append(f"second, {len(commands(desk))} seen")

    desk.pipeline._methods[Venue.BINANCE][actions.CancelAll] = refuse
    desk.pipeline._methods[Venue.BYBIT][actions.CancelAll] = second
    desk.pipeline.on_command("kill", {}, "uid 0", desk.now)
    assert order == ["first", "back, 0 seen", "second, 0 seen"]
    assert len(commands(desk)) == 1


def test_ready_when_every_venue_that_may_trade_is_open(make_desk: Any) -> None:
    desk = make_desk()
    assert not desk.pipeline.is_ready
    desk.open_gates()
    assert desk.pipeline.is_ready
    desk.say(events.VenueRefused(desk.now, Venue.BYBIT, "clock", "two seconds behind"))
    assert desk.pipeline.is_ready, "a refused venue is not waited for"


def test_status_tells_what_an_operator_asks(desk: Any) -> None:
    desk.place()
    desk.pipeline.on_command("reduce_only", {}, "uid 0", desk.now)
    told = desk.pipeline.status()
    assert told["venues"]["bybit"] == {"health": "UP", "gate_open": True, "refusal": ""}
    assert (told["open_orders"], told["reduce_only"], told["killed"]) == (1, True, False)


def test_lost_journal_stops_new_risk_once_and_lets_cancels_through(desk: Any) -> None:
    ident = desk.place()
    desk.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    desk.take(Venue.BINANCE)
    desk.refuse_appends = True
    desk.pipeline.on_command("cancel_all", {}, "uid 0", desk.now)
    assert [type(action) for action in desk.take(Venue.BINANCE)] == [actions.CancelOrder]
    assert desk.core.is_reduce_only and desk.pipeline.journal_lost == 1
    desk.pipeline.on_command("dance", {}, "uid 0", desk.now)
    assert desk.pipeline.journal_lost == 2


@pytest.fixture
def live(desk: Any) -> Any:
    """Handles bugs as the live engine does; a replay raises them."""
    desk.pipeline._is_replay = False
    return desk


def broken(*args: Any) -> None:
    raise AssertionError("leaves of -3 lots")


def test_bug_in_a_connector_cancels_everything_and_stops(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ident = live.place()
    live.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    live.take(Venue.BINANCE)
    monkeypatch.setattr(live.venues[Venue.BYBIT], "on_frame", broken)
    live.pipeline.on_frame(CHANNEL, b"{}", live.now)
    assert live.core.fatal == "AssertionError: leaves of -3 lots"
    assert live.core.risk.gate.is_killed and live.core.stop_deadline_ns
    sent = [type(action) for action in live.take(Venue.BINANCE)]
    assert actions.CancelOrder in sent and actions.CancelAll in sent
    (text,) = live.pipeline.bugs
    assert "Traceback" in text and "leaves of -3 lots" in text


def test_bug_in_the_core_does_not_lose_the_events_behind_it(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(live.core._handlers, events.VenueNotice, broken)
    live.pipeline._is_busy = True  # as while a connector handles an input
    live.pipeline.emit(events.VenueNotice(live.now, Venue.BYBIT, "banned"))
    live.pipeline.emit(events.Command(live.now, "behind", {}, "uid 0"))
    live.pipeline._drain()
    assert "behind" in commands(live)[0]
    assert live.core.fatal


def test_bug_while_halting_is_kept_and_ends_nothing_else(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.core, "halt", broken)
    monkeypatch.setattr(live.venues[Venue.BYBIT], "on_frame", broken)
    live.pipeline.on_frame(CHANNEL, b"{}", live.now)
    assert len(live.pipeline.bugs) == 2
    live.pipeline.on_timer(live.now)


def test_a_thousand_bugs_are_not_a_thousand_halts(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.venues[Venue.BYBIT], "on_frame", broken)
    for _ in range(100):
        live.pipeline.on_frame(CHANNEL, b"{}", live.now)
    assert len(live.records(records.KillSwitch)) <= 20


def test_replay_shows_a_bug_instead(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.venues[Venue.BYBIT], "on_frame", broken)
    with pytest.raises(AssertionError, match="leaves of -3"):
        desk.pipeline.on_frame(CHANNEL, b"{}", desk.now)


def test_stopped_core_stops_the_wire_and_one_timer_later_the_run(desk: Any) -> None:
    desk.core.is_stopped = True
    desk.pass_time(50_000_000)
    assert all(connector.is_stopped for connector in desk.venues.values()) and not desk.pipeline.is_stopped
    desk.pass_time(50_000_000)
    assert desk.pipeline.is_stopped
