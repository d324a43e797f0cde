"""The venue is right, but only after it has been asked more than once."""

from __future__ import annotations

from typing import Any

from engine import events
from engine import ledger as records
from engine.types import OrdStatus, Side, Venue

MS = 1_000_000
SECOND = 1_000_000_000


def test_gate_opens_only_after_the_answers_agree(make_desk: Any) -> None:
    desk = make_desk()
    assert desk.place() == 0
    desk.say(events.VenueReady(desk.now, Venue.BINANCE))
    assert not desk.core.health[Venue.BINANCE].is_gate_open
    desk.answer(Venue.BINANCE)
    assert desk.core.health[Venue.BINANCE].is_gate_open
    assert not desk.core.health[Venue.BYBIT].is_gate_open
    assert desk.place()


def test_position_without_fills_is_adopted_after_repeated_questions(make_desk: Any) -> None:
    desk = make_desk()
    desk.say(events.VenueReady(desk.now, Venue.BYBIT))
    for _ in range(3):
        desk.answer(Venue.BYBIT, positions={1: 25})
        assert not desk.records(records.Correction)
        desk.pass_time(2 * SECOND)
    desk.answer(Venue.BYBIT, positions={1: 25})
    (correction,) = desk.records(records.Correction)
    assert (correction.what, correction.ours, correction.theirs) == ("position", 0, 25)
    assert desk.core.risk.gate.position(1) == 25
    assert desk.core.health[Venue.BYBIT].is_gate_open


def test_fill_missed_while_down_is_booked_once_from_the_history(desk: Any) -> None:
    ident = desk.place(index=1, side=Side.SELL, px=640_001)
    missed = events.Fill(
        desk.now, Venue.BYBIT, 1, ident, "V1", "X9", Side.SELL, 640_001, 10, 5, "USDT", False, desk.now
    )
    desk.take(Venue.BYBIT)
    desk.say(events.VenueReady(desk.now, Venue.BYBIT))
    desk.answer(Venue.BYBIT, fills=(missed, missed), positions={1: -10})
    assert desk.status(ident) is OrdStatus.FILLED
    assert desk.core.risk.gate.position(1) == -10
    assert not desk.records(records.Correction)
    assert desk.core.health[Venue.BYBIT].is_gate_open


def test_unanswered_question_is_asked_again_and_the_gate_stays_closed(make_desk: Any) -> None:
    desk = make_desk()
    desk.say(events.VenueReady(desk.now, Venue.BINANCE))
    first = desk.take(Venue.BINANCE)
    desk.pass_time(12 * SECOND)
    assert not desk.core.health[Venue.BINANCE].is_gate_open
    assert len(desk.take(Venue.BINANCE)) >= len(first)
    desk.pass_time(12 * SECOND)
    desk.answer(Venue.BINANCE)
    assert desk.core.health[Venue.BINANCE].is_gate_open


def test_stop_confirms_with_the_venue_that_nothing_is_open(desk: Any) -> None:
    desk.pipeline.on_command("stop", {}, "signal", desk.now)
    desk.pass_time(100 * MS)
    assert not desk.pipeline.is_stopped
    for venue in desk.venues:
        desk.answer(venue)
    desk.pass_time(200 * MS)
    assert desk.pipeline.is_stopped
    assert all(connector.is_stopped for connector in desk.venues.values())


def test_stop_is_bounded_when_a_venue_does_not_answer(desk: Any) -> None:
    desk.pipeline.on_command("stop", {}, "signal", desk.now)
    desk.pass_time(6 * SECOND)
    assert desk.pipeline.is_stopped
