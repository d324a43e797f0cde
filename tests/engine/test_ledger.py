"""Ledger records: every kind has one struct, and bytes that come back as what went in."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_type_hints

import msgspec
import pytest

from engine import ledger
from engine.instrument import Instrument
from engine.ledger import RECORDS, LedgerRecord, decode_ledger, encode_ledger
from engine.records import LEDGER_BASE, RecordKind
from engine.types import InstrumentKind, Market, OrdStatus, OrdType, Side, TimeInForce, Venue

INSTRUMENT = Instrument(
    index=3, venue=Venue.BYBIT, market=Market.LINEAR, kind=InstrumentKind.PERPETUAL, symbol="ETHUSDT", base="ETH",
    quote="USDT", settle="USDT", tick_size=Decimal("0.01"), lot_size=Decimal("0.001"), min_notional_atoms=5,
)  # fmt: skip
PLACED = ledger.OrderPlaced(
    Venue.BINANCE, 1, 2**62, 0, Side.SELL, OrdType.LIMIT, -(2**63), 2**62, TimeInForce.IOC, True, False, True, 4, 5
)
EXAMPLES: dict[Any, Any] = {
    int: 2**62, str: "größer", bool: True, Venue: Venue.BYBIT, Side: Side.SELL, OrdType: OrdType.MARKET,
    TimeInForce: TimeInForce.FOK, OrdStatus: OrdStatus.UNKNOWN, Instrument: INSTRUMENT, ledger.OrderPlaced: PLACED,
    tuple[tuple[int, int, int, str], ...]: ((1, -2, 3, ""), (2, 0, 0, "depth")),
}  # fmt: skip


def example(record: type[LedgerRecord]) -> LedgerRecord:
    hints = get_type_hints(record)
    return record(*(EXAMPLES[hints[field]] for field in record.__struct_fields__))


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.__name__)
def test_record_comes_back_equal_and_to_the_same_bytes(record: type[LedgerRecord]) -> None:
    made = example(record)
    payload = encode_ledger(made)
    back = decode_ledger(record.kind, payload)
    assert back == made and type(back) is record
    assert encode_ledger(back) == payload


def test_every_kind_belongs_to_one_record_in_the_ledger_s_range() -> None:
    assert len({record.kind for record in RECORDS.values()}) == len(RECORDS)
    assert all(kind >= LEDGER_BASE for kind in RECORDS)
    of_the_shell = {RecordKind.EPOCH_RAISED, RecordKind.RUN_START, RecordKind.RUN_STOP, RecordKind.LIMIT_CHANGED}
    assert {kind for kind in RecordKind if kind >= LEDGER_BASE} == set(RECORDS) | of_the_shell


def test_unknown_kind_and_bytes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(KeyError):
        decode_ledger(RecordKind.RUN_START, b"")
    with pytest.raises(msgspec.DecodeError):
        decode_ledger(RecordKind.KILL_SWITCH, encode_ledger(PLACED))
    with pytest.raises(msgspec.DecodeError):
        decode_ledger(RecordKind.ORDER_PLACED, encode_ledger(PLACED)[:-1])


def test_record_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        PLACED.qty_lots = 1  # type: ignore[misc]


def test_numbers_of_kinds_are_those_on_disk() -> None:
    """A journal outlives the code that wrote it: a number is never given to another kind."""
    assert {kind.name: int(kind) for kind in RecordKind if kind.name in ("FRAME", "ORDER_PLACED", "ORDER_FILLED")} == {
        "FRAME": 1, "ORDER_PLACED": 64, "ORDER_FILLED": 66,
    }  # fmt: skip
    assert (int(RecordKind.KILL_SWITCH), int(RecordKind.RUN_START), int(RecordKind.RUN_STOP)) == (86, 90, 91)
