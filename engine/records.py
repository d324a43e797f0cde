"""Records of the journal: kinds, and the bytes of those that are not raw frames.

The tape holds inputs (kinds below LEDGER_BASE), the ledger what they meant (from LEDGER_BASE on). A frame's payload is
the frame itself; everything else is MessagePack of a fixed-order array. `source` is the channel for channel records,
the venue for responses and offsets, 0 otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

import msgspec

LEDGER_BASE: Final = 64


class RecordKind(IntEnum):
    FRAME = 1
    RESPONSE = 2
    CONNECTED = 3
    DISCONNECTED = 4
    TIMER = 5
    COMMAND = 6
    UTC_OFFSET = 7
    # Ledger: one kind a struct of engine/ledger.py.
    ORDER_PLACED = 64
    ORDER_ACCEPTED = 65
    ORDER_FILLED = 66
    ORDER_CANCELED = 67
    ORDER_REJECTED = 68
    ORDER_EXPIRED = 69
    ORDER_UNKNOWN = 70
    CANCEL_REQUESTED = 71
    AMEND_REQUESTED = 72
    ORDER_AMENDED = 73
    BALANCE_CHANGED = 75
    FUNDING_PAID = 76
    CAPITAL_MOVED = 77
    LIMIT_CHANGED = 78
    CORRECTION = 79
    ORDER_ADOPTED = 80
    RISK_REFUSED = 81
    ROUTE_DECIDED = 82
    LEG_CHANGED = 83
    VENUE_GATE = 84
    ANOMALY = 85
    KILL_SWITCH = 86
    QUERY_SENT = 87
    INSTRUMENT_DEFINED = 88
    EPOCH_RAISED = 89
    RUN_START = 90
    RUN_STOP = 91


class Response(msgspec.Struct, array_like=True, frozen=True):
    request_id: int
    status: int
    headers: dict[str, str]
    body: bytes


class CommandRecord(msgspec.Struct, array_like=True, frozen=True):
    name: str
    args: dict[str, str]
    operator: str


class RunStart(msgspec.Struct, frozen=True):
    """First record of a run, in the ledger: everything a replay needs besides the inputs. Never a secret."""

    version: str
    config_toml: str
    config_hash: str
    instance: int
    epoch: int
    utc_offset_ns: int
    venues_with_keys: list[str]
    restored: bytes = b""  # the folded state this run started from (MessagePack), empty for a first run


_encoder = msgspec.msgpack.Encoder()
_response_decoder = msgspec.msgpack.Decoder(Response)
_command_decoder = msgspec.msgpack.Decoder(CommandRecord)
_run_start_decoder = msgspec.msgpack.Decoder(RunStart)
_int_decoder = msgspec.msgpack.Decoder(int)


def encode_response(request_id: int, status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    return _encoder.encode(Response(request_id, status, dict(headers), body))


def decode_response(payload: bytes) -> Response:
    return _response_decoder.decode(payload)


def encode_command(name: str, args: dict[str, str], operator: str) -> bytes:
    return _encoder.encode(CommandRecord(name, args, operator))


def decode_command(payload: bytes) -> CommandRecord:
    return _command_decoder.decode(payload)


def encode_run_start(record: RunStart) -> bytes:
    return _encoder.encode(record)


def decode_run_start(payload: bytes) -> RunStart:
    return _run_start_decoder.decode(payload)


def encode_int(value: int) -> bytes:
    return _encoder.encode(value)


def decode_int(payload: bytes) -> int:
    return _int_decoder.decode(payload)
