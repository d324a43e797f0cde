"""The order state machine: every row of the table against rules that are stated without it."""

from __future__ import annotations

import itertools

import pytest

from engine.orders import TRANSITIONS, Order, OrderInput, next_status
from engine.types import OrdStatus, OrdType, Side, TimeInForce, Venue

OPEN = [status for status in OrdStatus if not status.is_terminal]
ENDING = {
    OrderInput.FILLED: OrdStatus.FILLED,
    OrderInput.CANCELED: OrdStatus.CANCELED,
    OrderInput.REJECTED: OrdStatus.REJECTED,
    OrderInput.EXPIRED: OrdStatus.EXPIRED,
}
OUR_OWN_DOING = (OrderInput.CANCEL_SENT, OrderInput.AMEND_SENT, OrderInput.LOST)


def order(status: OrdStatus = OrdStatus.PENDING_NEW) -> Order:
    made = Order(7, 0, Venue.BINANCE, 0, Side.BUY, OrdType.LIMIT, 100, 10, TimeInForce.GTC, 0, 1_000)
    made.status = status
    return made


def test_only_evidence_of_the_venue_ends_an_order() -> None:
    for (status, happened), target in TRANSITIONS.items():
        if not status.is_terminal and target.is_terminal:
            assert happened not in OUR_OWN_DOING, f"{status.name} + {happened.name}"


def test_an_ending_word_of_the_venue_ends_every_open_order_the_same_way() -> None:
    for status, (happened, ending) in itertools.product(OPEN, ENDING.items()):
        target = TRANSITIONS.get((status, happened))
        if (status, happened) == (OrdStatus.PARTIALLY_FILLED, OrderInput.REJECTED):
            assert target is None, "a partly filled order cannot have been rejected"
        else:
            assert target is ending, f"{status.name} + {happened.name}"


def test_a_lost_answer_makes_every_open_order_unknown() -> None:
    assert {TRANSITIONS[status, OrderInput.LOST] for status in OPEN} == {OrdStatus.UNKNOWN}


def test_unknown_is_left_only_by_evidence() -> None:
    leaving = {i for (s, i), t in TRANSITIONS.items() if s is OrdStatus.UNKNOWN and t is not OrdStatus.UNKNOWN}
    assert leaving == {
        OrderInput.ACCEPTED, OrderInput.PARTIAL, OrderInput.FILLED, OrderInput.CANCELED, OrderInput.REJECTED,
        OrderInput.EXPIRED, OrderInput.AMENDED, OrderInput.NOT_PLACED,
    }  # fmt: skip


def test_not_placed_is_believed_of_an_unknown_order_only() -> None:
    assert [s for (s, i) in TRANSITIONS if i is OrderInput.NOT_PLACED] == [OrdStatus.UNKNOWN]


def test_a_late_fill_is_always_taken() -> None:
    for status in OrdStatus:
        assert (status, OrderInput.PARTIAL) in TRANSITIONS
        assert (status, OrderInput.FILLED) in TRANSITIONS


def test_a_refused_cancel_never_makes_an_order_canceled() -> None:
    targets = {s: t for (s, i), t in TRANSITIONS.items() if i is OrderInput.CANCEL_REFUSED and not s.is_terminal}
    assert targets == {OrdStatus.PENDING_CANCEL: OrdStatus.UNKNOWN, OrdStatus.UNKNOWN: OrdStatus.UNKNOWN}


def test_a_terminal_order_stays_terminal_but_for_a_wrong_rejection() -> None:
    reopened = {s for (s, _), t in TRANSITIONS.items() if s.is_terminal and not t.is_terminal}
    assert reopened == {OrdStatus.REJECTED}


def test_working_again_after_an_amend_remembers_the_fills() -> None:
    assert next_status(OrdStatus.PENDING_REPLACE, OrderInput.AMENDED, 0) is OrdStatus.NEW
    assert next_status(OrdStatus.PENDING_REPLACE, OrderInput.AMENDED, 3) is OrdStatus.PARTIALLY_FILLED


def test_a_transition_that_is_not_in_the_table_is_none() -> None:
    assert next_status(OrdStatus.FILLED, OrderInput.CANCELED, 10) is None


@pytest.mark.parametrize(
    ("misses", "age_ns", "cum", "venue_cum", "absent"),
    [
        (2, 5_000, 0, 0, True),
        (1, 5_000, 0, 0, False),
        (2, 4_999, 0, 0, False),
        (9, 9_000, 1, 1, False),
        (9, 9_000, 0, 1, False),
    ],
)
def test_absence_needs_two_misses_the_window_and_no_fill(
    misses: int, age_ns: int, cum: int, venue_cum: int, absent: bool
) -> None:
    lost = order(OrdStatus.UNKNOWN)
    lost.not_found_count, lost.cum_qty_lots, lost.venue_cum_lots = misses, cum, venue_cum
    assert lost.is_proved_absent(1_000 + age_ns, 5_000) is absent


def test_leaves_are_zero_once_terminal() -> None:
    done = order(OrdStatus.CANCELED)
    done.cum_qty_lots = 4
    assert done.leaves_qty_lots == 0
    assert order(OrdStatus.NEW).leaves_qty_lots == 10
