"""Client order identifiers survive the way to the venue and back, and nobody else's are taken for ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import ids


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**20 - 1), st.integers(0, 2**28 - 1))
def test_parts_come_back(instance: int, strategy: int, epoch: int, counter: int) -> None:
    value = ids.cl_ord_id(instance, strategy, epoch, counter)
    assert 0 <= value < 2**64
    text = ids.text_from_cl_ord_id(value)
    assert len(text) == ids.TEXT_LENGTH <= 32 and text.isalnum()
    assert ids.cl_ord_id_from_text(text) == value
    assert (ids.instance_of(value), ids.strategy_of(value), ids.epoch_of(value)) == (instance, strategy, epoch)


@given(st.text(max_size=40))
def test_foreign_identifiers_are_zero(text: str) -> None:
    if ids.cl_ord_id_from_text(text):
        assert ids.text_from_cl_ord_id(ids.cl_ord_id_from_text(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tw",
        "tw00000000000000G1",
        "TW0000000000000001",
        "tw000000000000001",
        "tw 000000000000001",
        "tw+000000000000001",
    ],
)
def test_near_misses_are_foreign(text: str) -> None:
    assert ids.cl_ord_id_from_text(text) == 0
