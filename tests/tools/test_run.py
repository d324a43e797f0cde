"""What a run starts from is what its first record says, to the last field."""

from __future__ import annotations

import socket
from decimal import Decimal
from pathlib import Path

import pytest

from engine import ledger
from engine.instrument import Instrument
from engine.journal import Journal
from engine.records import RecordKind, RunStart, decode_run_start, encode_run_start
from engine.state import load
from engine.types import InstrumentKind, Market, OrdType, Side, TimeInForce, Venue
from tools.run import Engine
from tools.settings import load_config

ROOT = Path(__file__).resolve().parents[2]
KEYS = "".join(f'[{v}]\napi_key = "k"\nsecret = "s"\nenvironment = "local"\n' for v in ("binance", "bybit"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    keys = tmp_path / "keys.toml"
    keys.write_text(KEYS)
    keys.chmod(0o600)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = (ROOT / "config" / "demo.toml").read_text()
    text = text.replace('state_dir = "var/demo"', f'state_dir = "{tmp_path}/state"\ncredentials = "keys.toml"')
    for venue in ("binance", "bybit"):
        text += f'\n[venues.{venue}.urls]\nbase_http = "http://127.0.0.1:{port}"\nbase_ws = "ws://127.0.0.1:{port}"\n'
    (tmp_path / "engine.toml").write_text(text)
    return tmp_path / "engine.toml"


def killed_run(folder: Path) -> None:
    """The journal of a run that was killed with an order whose outcome nobody knows."""
    folder.mkdir()
    journal = Journal.open(folder / "journal", ring_mib=1, segment_mib=8)
    instrument = Instrument(
        index=4, venue=Venue.BYBIT, market=Market.LINEAR, kind=InstrumentKind.PERPETUAL, symbol="ETHUSDT", base="ETH",
        quote="USDT", settle="USDT", tick_size=Decimal("0.01"), lot_size=Decimal("0.01"),
    )  # fmt: skip
    start = RunStart("0.1.0", "", "", 1, journal.raise_epoch(), 0, [])
    journal.append(RecordKind.RUN_START, 0, 1, encode_run_start(start))
    for record in (
        ledger.InstrumentNoted(instrument),
        ledger.OrderPlaced(
            Venue.BYBIT, 4, 77, 1, Side.BUY, OrdType.LIMIT, 320_000, 40, TimeInForce.IOC, False, False, True, 9, 5
        ),
        ledger.OrderUnknown(77, "restart"),
    ):
        assert journal.append(record.kind, 0, 6, ledger.encode_ledger(record)) > 0
    journal.close()


def test_run_starts_from_exactly_what_its_first_record_holds(config: Path) -> None:
    killed_run(config.parent / "state")
    engine = Engine(load_config(config))
    try:
        restored = load(decode_run_start(engine.run_start).restored)
        live, told = engine.pipeline.core.state.orders[77], restored.orders[77]
        assert vars(live) == vars(told), "a replay starts from the record: nothing else may be remembered"
    finally:
        engine.journal.close()


def test_first_run_starts_from_nothing(config: Path) -> None:
    engine = Engine(load_config(config))
    try:
        assert decode_run_start(engine.run_start).restored == b""
        assert engine.epoch == 1 and not engine.pipeline.core.state.orders
    finally:
        engine.journal.close()
