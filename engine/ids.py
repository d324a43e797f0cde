"""Client order identifiers: 64 bits of instance, strategy, restart epoch and counter.

They identify our orders without a database and are never reused: the epoch is durably raised before the first order
of a run. FIX 11.
"""

from __future__ import annotations

from typing import Final

INSTANCE_BITS: Final = 8
STRATEGY_BITS: Final = 8
EPOCH_BITS: Final = 20
COUNTER_BITS: Final = 28
PREFIX: Final = "tw"
TEXT_LENGTH: Final = len(PREFIX) + 16


def cl_ord_id(instance: int, strategy: int, epoch: int, counter: int) -> int:
    assert 0 <= instance < 1 << INSTANCE_BITS, f"instance {instance}"
    assert 0 <= strategy < 1 << STRATEGY_BITS, f"strategy {strategy}"
    assert 0 <= epoch < 1 << EPOCH_BITS, f"epoch {epoch}"
    assert 0 <= counter < 1 << COUNTER_BITS, f"counter {counter}"
    return ((instance << STRATEGY_BITS | strategy) << EPOCH_BITS | epoch) << COUNTER_BITS | counter


def instance_of(cl_ord_id: int) -> int:
    return cl_ord_id >> (STRATEGY_BITS + EPOCH_BITS + COUNTER_BITS)


def strategy_of(cl_ord_id: int) -> int:
    return cl_ord_id >> (EPOCH_BITS + COUNTER_BITS) & (1 << STRATEGY_BITS) - 1


def epoch_of(cl_ord_id: int) -> int:
    return cl_ord_id >> COUNTER_BITS & (1 << EPOCH_BITS) - 1


def text_from_cl_ord_id(value: int) -> str:
    """18 characters of [a-z0-9]: legal on Binance, OKX and Bybit."""
    return f"{PREFIX}{value:016x}"


def cl_ord_id_from_text(text: str) -> int:
    """Our 64 bits, or 0 when the text is not one of ours (a foreign order)."""
    if len(text) != TEXT_LENGTH or not text.startswith(PREFIX):
        return 0
    try:
        value = int(text[len(PREFIX) :], 16)
    except ValueError:
        return 0
    return value if text == text_from_cl_ord_id(value) else 0
