"""Calendar buckets and rolling windows, told the time."""

from __future__ import annotations

from tools.exchange.limits import SECOND, CalendarBuckets, RollingWindow, Rule

MINUTE = Rule("REQUEST_WEIGHT", "MINUTE", 1, 100)
START = 1_763_800_030 * SECOND  # ten seconds into a minute


def test_bucket_starts_again_at_the_calendar_minute_not_a_minute_later() -> None:
    buckets = CalendarBuckets((MINUTE,))
    buckets.add("a", "REQUEST_WEIGHT", 100, START)
    assert buckets.breached("a", "REQUEST_WEIGHT", 1, START) is MINUTE
    left_ns = buckets.retry_after_ns(MINUTE, START)
    assert (START + left_ns) % (60 * SECOND) == 0
    assert buckets.breached("a", "REQUEST_WEIGHT", 1, START + left_ns - 1) is MINUTE
    assert buckets.breached("a", "REQUEST_WEIGHT", 100, START + left_ns) is None
    assert buckets.breached("b", "REQUEST_WEIGHT", 100, START) is None


def test_giving_back_never_goes_below_zero() -> None:
    buckets = CalendarBuckets((MINUTE,))
    buckets.add("a", "REQUEST_WEIGHT", -5, START)
    assert buckets.used("a", MINUTE, START) == 0


def test_going_on_after_the_limit_is_banned_and_longer_each_time() -> None:
    buckets = CalendarBuckets((MINUTE,), ban_after=2)
    assert [buckets.note_breach("a", START) for _ in range(3)] == [0, 0, START + 120 * SECOND]
    assert buckets.banned_until_ns("a", START + 119 * SECOND) == START + 120 * SECOND
    later = START + 120 * SECOND
    assert buckets.banned_until_ns("a", later) == 0
    assert [buckets.note_breach("a", later) for _ in range(3)][-1] == later + 240 * SECOND


def test_squeeze_scales_every_limit() -> None:
    buckets = CalendarBuckets((MINUTE,), squeeze=0.1)
    assert buckets.breached("a", "REQUEST_WEIGHT", 11, START) is MINUTE
    assert buckets.breached("a", "REQUEST_WEIGHT", 10, START) is None


def test_rolling_window_frees_each_unit_after_its_own_second() -> None:
    window = RollingWindow(3)
    assert [window.take("a", START + step) for step in (0, 1, 2, 3)] == [True, True, True, False]
    assert (window.left("a", START + 3), window.reset_ns("a", START + 3)) == (0, START + SECOND)
    assert window.take("a", START + SECOND) and not window.take("a", START + SECOND)
    assert window.take("a", START + SECOND + 1)
    assert not window.take("b", START, cost=4)
