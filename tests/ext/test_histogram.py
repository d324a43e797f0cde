"""The histogram against hdrhistogram and against sorted lists."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hdrh.histogram import HdrHistogram

from ext.histogram import Histogram

PERCENTS = (0.0, 1.0, 25.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0)
STEP = 1 / 128


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@pytest.mark.parametrize("seed", range(4))
def test_percentiles_agree_with_hdrhistogram_and_with_the_sorted_values(seed: int) -> None:
    rng = random.Random(seed)
    values = [int(rng.lognormvariate(4 + 2 * seed, 1 + seed / 2)) for _ in range(5000)]
    ours, theirs = filled(values), HdrHistogram(1, 1 << 42, 4)
    for value in values:
        theirs.record_value(value)
    values.sort()
    for percent in PERCENTS:
        exact = values[max(0, math.ceil(Fraction(str(percent)) * len(values) / 100) - 1)]
        assert exact <= ours.percentile(percent) <= exact * (1 + STEP), percent
        reference = theirs.get_value_at_percentile(percent)
        assert ours.percentile(percent) == pytest.approx(reference, rel=STEP, abs=1), percent


def test_small_values_are_exact() -> None:
    histogram = filled(list(range(256)))
    assert [histogram.percentile(100 * (value + 1) / 256) for value in range(256)] == list(range(256))


def test_every_power_of_two_and_its_neighbours_fall_into_the_right_bucket() -> None:
    for bits in range(42):
        for value in {(1 << bits) - 1, 1 << bits, (1 << bits) + 1}:
            ((top, count),) = filled([value]).counts()
            assert count == 1 and value <= top <= value * (1 + STEP)


def test_summary_is_exact() -> None:
    histogram = filled([5, 1000, 17])
    assert (histogram.count, histogram.sum, histogram.min, histogram.max) == (3, 1022, 5, 1000)
    assert histogram.mean == pytest.approx(1022 / 3)


def test_empty_histogram_says_zero() -> None:
    histogram = Histogram()
    assert (histogram.percentile(50), histogram.min, histogram.max, histogram.mean, histogram.counts()) == (
        0,
        0,
        0,
        0,
        [],
    )


def test_values_out_of_range_are_clamped_and_counted() -> None:
    histogram = filled([-1, 1 << 42, 1 << 62])
    assert histogram.clamped == 3 and histogram.count == 3
    assert histogram.min == 0 and histogram.max == (1 << 42) - 1


def test_merge_equals_recording_into_one() -> None:
    rng = random.Random(9)
    left, right = ([rng.randrange(1 << rng.randrange(1, 40)) for _ in range(500)] for _ in range(2))
    merged = filled(left)
    merged.merge(filled(right))
    both = filled(left + right)
    assert merged.counts() == both.counts()
    assert (merged.count, merged.sum, merged.min, merged.max) == (both.count, both.sum, both.min, both.max)


def test_copy_stands_alone_and_reset_empties() -> None:
    histogram = filled([1, 2, 3])
    copied = histogram.copy()
    histogram.reset()
    assert histogram.count == 0 and histogram.counts() == [] and histogram.min == 0
    histogram.record(9)
    assert histogram.min == 9 and copied.count == 3 and copied.max == 3
