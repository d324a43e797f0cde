"""Request budgets against plain models of what the venue counts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext.throttle import (
    BULK,
    CALENDAR,
    CANCEL,
    HEDGE,
    NEVER,
    NEW,
    QUERY,
    REDUCE,
    ROLLING,
    Throttle,
    acquire_all,
)

S = 1_000_000_000
MS = 1_000_000
T0 = 1_763_800_000 * S  # a minute's and a ten seconds' start


class CalendarVenue:
    """Counts in fixed windows of its own clock, as Binance does."""

    def __init__(self, capacity: int, window_ns: int) -> None:
        self.capacity, self.window_ns = capacity, window_ns
        self.counts: dict[int, int] = {}

    def arrive(self, weight: int, server_ns: int) -> int:
        number = server_ns // self.window_ns
        self.counts[number] = self.counts.get(number, 0) + weight
        assert self.counts[number] <= self.capacity, f"window {number} holds {self.counts[number]} of {self.capacity}"
        return self.counts[number]


class RollingVenue:
    """Counts what arrived in the last `window_ns`, as Bybit does; arrivals may come in any order of time."""

    def __init__(self, capacity: int, window_ns: int) -> None:
        self.capacity, self.window_ns = capacity, window_ns
        self.arrivals: list[tuple[int, int]] = []

    def arrive(self, weight: int, server_ns: int) -> None:
        self.arrivals.append((server_ns, weight))

    def check(self) -> None:
        arrivals = sorted(self.arrivals)
        first, held = 0, 0
        for at_ns, weight in arrivals:
            held += weight
            while arrivals[first][0] <= at_ns - self.window_ns:
                held -= arrivals[first][1]
                first += 1
            assert held <= self.capacity, f"span ending at {at_ns} holds {held} of {self.capacity}"


steps = st.lists(
    st.tuples(st.integers(0, 400 * MS), st.integers(1, 8), st.sampled_from(range(6)), st.integers(-100, 100)),
    max_size=120,
)


@settings(max_examples=60, deadline=None)
@given(steps=steps, capacity=st.integers(1, 40), offset=st.integers(0, 10 * S), start=st.integers(0, 10 * S))
def test_calendar_window_of_the_venue_is_never_exceeded(
    steps: list[tuple[int, int, int, int]], capacity: int, offset: int, start: int
) -> None:
    guard = 50 * MS
    throttle = Throttle(capacity, 1 * S, CALENDAR, guard_ns=guard)
    throttle.set_server_offset(offset)
    venue = CalendarVenue(capacity, 1 * S)
    now = start + 1 * S
    for gap, weight, priority, error in steps:
        now += gap
        if throttle.acquire(weight, priority, now) == 0:
            venue.arrive(weight, now + offset + guard * error // 101)
        throttle._check()


@settings(max_examples=60, deadline=None)
@given(
    steps=steps, capacity=st.integers(1, 40), start=st.integers(0, 10 * S), guard=st.sampled_from([0, 20, 300, 1000])
)
def test_rolling_window_of_the_venue_is_never_exceeded(
    steps: list[tuple[int, int, int, int]], capacity: int, start: int, guard: int
) -> None:
    throttle = Throttle(capacity, 1 * S, ROLLING, guard_ns=guard * MS)
    venue = RollingVenue(capacity, 1 * S)
    now = start
    for gap, weight, priority, error in steps:
        now += gap
        if throttle.acquire(weight, priority, now) == 0:
            venue.arrive(weight, now + guard * MS * error // 101)
        throttle._check()
    venue.check()


@pytest.mark.parametrize("kind", [CALENDAR, ROLLING])
@pytest.mark.parametrize("window_ns", [7, 100, 63, 1 * S, 60 * S, 86_400 * S])
def test_asking_again_after_the_wait_is_granted(kind: int, window_ns: int) -> None:
    rng = random.Random(window_ns + kind)
    throttle = Throttle(20, window_ns, kind)
    now = T0
    refusals = 0
    for _ in range(400):
        now += rng.randrange(window_ns // 10 + 2)
        weight, priority = rng.randrange(1, 25), rng.randrange(6)
        wait = throttle.acquire(weight, priority, now)
        if weight > 20:
            assert wait == NEVER
        elif wait:
            refusals += 1
            assert throttle.peek(weight, priority, now + wait - 1) > 0 or kind == CALENDAR
            assert throttle.acquire(weight, priority, now + wait) == 0, f"weight {weight} after {wait}"
            now += wait
    assert refusals > 20


def test_sustained_load_uses_most_of_the_venues_budget() -> None:
    for kind, least in ((CALENDAR, 0.97), (ROLLING, 0.92)):
        throttle = Throttle(10, S, kind)
        now, end, count = T0, T0 + 100 * S, 0
        while now < end:
            wait = throttle.acquire(1, CANCEL, now)
            count += wait == 0
            now += wait or 1
        assert count >= least * 1000, f"kind {kind}: {count} of 1000"


def test_lower_classes_see_smaller_shares_and_cancels_the_reserve() -> None:
    for priority, share in ((BULK, 60), (QUERY, 70), (NEW, 80), (REDUCE, 85), (HEDGE, 90), (CANCEL, 100)):
        throttle = Throttle(100, S, ROLLING)
        granted = sum(throttle.acquire(1, priority, T0) == 0 for _ in range(200))
        assert granted == share
    throttle = Throttle(100, S, ROLLING)
    while throttle.acquire(1, NEW, T0) == 0:
        pass
    assert sum(throttle.acquire(1, CANCEL, T0) == 0 for _ in range(100)) == 20


def test_request_above_its_share_gets_an_empty_window_only() -> None:
    throttle = Throttle(10, S, CALENDAR)
    throttle.set_server_offset(0)
    assert throttle.acquire(9, BULK, T0 + S // 2) == 0
    assert throttle.acquire(9, BULK, T0 + S // 2) > 0
    assert throttle.acquire(11, CANCEL, T0 + S // 2) == NEVER


def test_weightless_request_is_granted_while_the_window_is_full() -> None:
    throttle = Throttle(10, S, CALENDAR)
    assert throttle.acquire(10, CANCEL, T0) == 0
    assert throttle.acquire(0, CANCEL, T0) == 0


def test_calendar_window_follows_the_servers_clock() -> None:
    throttle = Throttle(10, 60 * S, CALENDAR, guard_ns=0)
    throttle.set_server_offset(T0 - T0 % (60 * S))
    assert throttle.acquire(10, CANCEL, 59 * S) == 0
    assert throttle.acquire(1, CANCEL, 59 * S) == 1 * S
    assert throttle.acquire(1, CANCEL, 60 * S) == 0


def test_corrected_clock_frees_no_budget() -> None:
    throttle = Throttle(10, 60 * S, CALENDAR, guard_ns=0)
    throttle.set_server_offset(T0)
    now = 60 * S - T0 % (60 * S) - 1
    assert throttle.acquire(10, CANCEL, now) == 0
    throttle.set_server_offset(T0 + 10)
    assert throttle.used(now) == 10
    throttle.set_server_offset(T0 - 10)
    assert throttle.used(now) == 10


def test_venue_count_above_ours_is_believed() -> None:
    throttle = Throttle(100, 60 * S, CALENDAR)
    throttle.acquire(5, NEW, T0 + S)
    throttle.on_used(70, T0 + 2 * S, T0 + S)
    assert throttle.used(T0 + 2 * S) == 70
    assert throttle.foreign_weight == 65
    throttle.on_used(50, T0 + 3 * S, T0 + 2 * S)
    assert throttle.used(T0 + 3 * S) == 70
    throttle.on_used(-1, T0 + 3 * S)
    assert throttle.used(T0 + 3 * S) == 70


def test_count_of_the_window_before_does_not_fill_this_one() -> None:
    throttle = Throttle(100, 60 * S, CALENDAR)
    minute = T0 - T0 % (60 * S) + 60 * S
    assert throttle.acquire(1, NEW, minute - 100 * MS) == 0
    throttle.on_used(99, minute + 500 * MS, minute - 100 * MS)
    assert throttle.used(minute + 500 * MS) == 1
    throttle.on_used(40, minute + 900 * MS, minute + 500 * MS)
    assert throttle.used(minute + 900 * MS) == 40


def test_remaining_of_the_venue_sets_capacity_and_use() -> None:
    throttle = Throttle(10, S, ROLLING)
    throttle.on_remaining(15, 20, T0)
    assert (throttle.capacity, throttle.used(T0)) == (20, 5)
    throttle.on_remaining(19, 20, T0)
    assert throttle.used(T0) == 5
    throttle.on_remaining(3, 0, T0)
    throttle.on_remaining(-1, 20, T0)
    assert (throttle.capacity, throttle.used(T0)) == (20, 5)
    assert throttle.used(T0 + 2 * S) == 0


def test_frozen_class_waits_for_the_thaw_and_higher_ones_do_not() -> None:
    throttle = Throttle(10, S, CALENDAR)
    throttle.freeze(T0 + 5 * S, HEDGE)
    throttle.freeze(T0 + 3 * S, HEDGE)
    assert throttle.is_open(T0)
    assert throttle.acquire(1, HEDGE, T0) == 5 * S
    assert throttle.acquire(1, CANCEL, T0) == 0
    assert throttle.headroom_ppm(T0) == 0
    throttle.freeze(T0 + 1 * S)
    assert throttle.acquire(1, CANCEL, T0) == 1 * S
    assert not throttle.is_open(T0 + 5 * S)
    assert throttle.acquire(1, BULK, T0 + 5 * S) == 0
    throttle.freeze(T0 + 9 * S)
    throttle.unfreeze()
    assert throttle.acquire(1, BULK, T0 + 6 * S) == 0


def test_smaller_capacity_stops_grants_at_once() -> None:
    throttle = Throttle(100, S, ROLLING)
    assert throttle.acquire(50, CANCEL, T0) == 0
    throttle.set_capacity(20)
    assert throttle.acquire(1, CANCEL, T0) > 0
    assert throttle.headroom_ppm(T0) == 0
    assert throttle.headroom_ppm(T0 + 2 * S) == 1_000_000


def test_peek_takes_and_counts_nothing() -> None:
    throttle = Throttle(1, S, ROLLING)
    for _ in range(5):
        assert throttle.peek(1, CANCEL, T0) == 0
    assert throttle.acquire(1, CANCEL, T0) == 0
    assert throttle.peek(1, CANCEL, T0) > 0
    assert (throttle.granted_count, throttle.refused_count, throttle.granted_weight) == (1, 0, 1)


def test_time_that_goes_back_frees_nothing() -> None:
    for kind in (CALENDAR, ROLLING):
        throttle = Throttle(10, S, kind)
        assert throttle.acquire(10, CANCEL, T0) == 0
        assert throttle.acquire(1, CANCEL, T0 - 10 * S) > 0
        assert throttle.used(T0) == 10


def test_several_budgets_are_taken_together_or_not_at_all() -> None:
    orders, weight = Throttle(2, 10 * S, CALENDAR), Throttle(100, 60 * S, CALENDAR)
    assert acquire_all([orders, weight], [1, 5], CANCEL, T0) == 0
    assert acquire_all([orders, weight], [1, 5], CANCEL, T0) == 0
    assert acquire_all([weight, orders], [5, 1], CANCEL, T0) == orders.peek(1, CANCEL, T0) > 0
    assert (orders.used(T0), weight.used(T0)) == (2, 10)
    assert (orders.refused_count, weight.refused_count, weight.granted_count) == (1, 0, 2)
    assert acquire_all([], [], CANCEL, T0) == 0
    for throttle in (orders, weight):
        throttle._check()


def test_budget_named_twice_is_charged_twice() -> None:
    throttle = Throttle(3, S, ROLLING)
    assert acquire_all([throttle, throttle], [2, 2], CANCEL, T0) > 0
    assert throttle.used(T0) == 0
    assert acquire_all([throttle, throttle], [2, 1], CANCEL, T0) == 0
    assert throttle.used(T0) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        (0, S, CALENDAR),
        (-1, S, CALENDAR),
        (2**41, S, CALENDAR),
        (1, 0, CALENDAR),
        (1, 8 * 86_400 * S, CALENDAR),
        (1, S, 2),
        (1, S, CALENDAR, -1),
        (1, S, CALENDAR, 500_001),
        (1, S, CALENDAR, 0, S // 2),
        (1, S, ROLLING, 0, S + 1),
    ],
)
def test_parameter_out_of_range_is_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Throttle(*arguments)


def test_argument_out_of_range_is_refused_and_changes_nothing() -> None:
    throttle = Throttle(10, S, ROLLING)
    for arguments in ((-1, NEW, T0), (1, 6, T0), (1, -1, T0), (1, NEW, -1), (2**41, NEW, T0)):
        with pytest.raises(ValueError, match="must be"):
            throttle.acquire(*arguments)
        with pytest.raises(ValueError, match="must be"):
            acquire_all([throttle], [arguments[0]], *arguments[1:])
    with pytest.raises(ValueError, match="one weight a throttle"):
        acquire_all([throttle], [], NEW, T0)
    with pytest.raises(ValueError, match="capacity"):
        throttle.set_capacity(0)
    assert throttle.used(T0) == 0
