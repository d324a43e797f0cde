"""Fixtures of the engine: certificates for the shell, and a core with two quiet venues.

The quiet venues' connectors record what they are asked and say what the test lets them say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine import actions, events
from engine.config import EngineConfig, parse_config
from engine.events import BookUpdate, Fill, OrderReport
from engine.instrument import Instrument
from engine.ledger import decode_ledger
from engine.pipeline import Pipeline
from engine.stages import NullStages
from engine.types import ExecType, InstrumentKind, Market, OrdStatus, Side, Venue
from engine.venue import Emit, ExchangeConnector, InstrumentSpec, VenueSettings, Wire
from ext import Book

MS = 1_000_000
SECOND = 1_000_000_000
START = 1_000 * SECOND

CONFIG = """
[engine]
instance = 1
state_dir = "unused"
trading = "test"
unknown_window_ms = 1_000
reconcile_ms = 60_000
stop_timeout_ms = 5_000
[risk]
max_gross_notional = "1000000"
loss_limit = "10000"
max_orders = 1000
duplicate_count = 100
stale_ms = 60_000
[risk.underlyings]
BTC = { max_long = "1", max_short = "1" }
[venues.binance]
environment = "local"
taker_fee_ppm = { linear = 200 }
[venues.bybit]
environment = "local"
taker_fee_ppm = { linear = 200 }
[[instruments]]
venue = "binance"
market = "linear"
symbol = "BTCUSDT"
max_order_notional = "50000"
max_position = "0.5"
collar_ppm = 100_000
[[instruments]]
venue = "bybit"
market = "linear"
symbol = "BTCUSDT"
max_order_notional = "50000"
max_position = "0.5"
collar_ppm = 100_000
[[strategies]]
name = "quiet"
kind = "cross_arbitrage"
allotment = { binance = "100000", bybit = "100000" }
[strategies.params]
underlying = "BTC"
qty = "0.01"
min_edge_ppm = 1_000_000
"""


class QuietConnector(ExchangeConnector):
    """Does nothing but remember. `venue` is set by the subclass of each venue."""

    def __init__(
        self,
        settings: VenueSettings,
        credentials: Any,
        instruments: Sequence[InstrumentSpec],
        wire: Wire,
        emit: Emit,
        utc_offset_ns: int = 0,
    ) -> None:
        self.asked: list[actions.Action] = []
        self.books = {spec.index: Book() for spec in instruments}
        self.instruments = {}
        self.is_stopped = False

    def _note(self, action: actions.Action, now_ns: int) -> None:
        self.asked.append(action)

    def start(self, now_ns: int) -> None: ...
    def stop(self, now_ns: int) -> None:
        self.is_stopped = True

    place_order = cancel_order = amend_order = cancel_all = _note  # type: ignore[assignment]
    get_order = get_open_orders = get_fills = get_balance = get_positions = _note  # type: ignore[assignment]

    def subscribe_order_book(self, instrument: int, now_ns: int) -> None: ...
    def subscribe_trades(self, instrument: int, now_ns: int) -> None: ...
    def unsubscribe(self, instrument: int, now_ns: int) -> None: ...
    def on_frame(self, channel: int, payload: bytes, recv_ts_ns: int) -> None: ...
    def on_response(self, request_id: int, status: int, headers: Mapping[str, str], body: bytes, ts: int) -> None: ...
    def on_connected(self, channel: int, recv_ts_ns: int) -> None: ...
    def on_disconnected(self, channel: int, reason: str, recv_ts_ns: int) -> None: ...
    def on_timer(self, now_ns: int) -> None: ...


def perpetual(index: int, venue: Venue) -> Instrument:
    return Instrument(
        index=index, venue=venue, market=Market.LINEAR, kind=InstrumentKind.PERPETUAL, symbol="BTCUSDT", base="BTC",
        quote="USDT", settle="USDT", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"),
    )  # fmt: skip


class Desk:
    """The pipeline under test, its ledger, and short words for what venues say."""

    def __init__(self, config: EngineConfig, state: Any = None, epoch: int = 1, is_defined: bool = True) -> None:
        self.ledger: list[Any] = []
        self.raw: list[tuple[int, bytes]] = []
        self.refuse_appends = False
        made: dict[Venue, QuietConnector] = {}

        def build(venue: Venue) -> Any:
            def factory(*args: Any) -> QuietConnector:
                made[venue] = QuietConnector(*args)
                return made[venue]

            return factory

        self.pipeline = Pipeline(
            config, epoch, self._append, {v: build(v) for v in config.venue_list()}, dict.fromkeys(config.venue_list()),  # type: ignore[misc]
            {}, NullStages(), utc_offset_ns=0, state=state, is_replay=True,
        )  # fmt: skip
        self.core = self.pipeline.core
        self.venues = made
        self.now = START
        self.exec_counter = 0
        self.pipeline.start(self.now)
        self.config = config
        if is_defined:
            self.define()

    def define(self) -> None:
        """The venues define their instruments and quote them."""
        config = self.config
        for spec in [*config.specs(Venue.BINANCE), *config.specs(Venue.BYBIT)]:
            venue = Venue[config.instruments[spec.index].venue.upper()]
            self.say(events.InstrumentDefined(self.now, perpetual(spec.index, venue)))
        for index in self.core.instruments:
            self.quote(index, 640_000, 640_001)

    def _append(self, kind: int, source: int, ts_ns: int, payload: bytes) -> int:
        if self.refuse_appends:
            return -1
        self.raw.append((kind, payload))
        self.ledger.append(decode_ledger(kind, payload))
        return len(self.raw)

    def say(self, event: events.AnyEvent) -> None:
        self.pipeline.now_ns = self.now
        self.pipeline.emit(event)

    def pass_time(self, ns: int, step: int = 50 * MS) -> None:
        end = self.now + ns
        while self.now < end:
            self.now += step
            self.pipeline.on_timer(self.now)

    def quote(self, index: int, bid: int, ask: int, qty: int = 1_000) -> None:
        instrument = self.core.instruments[index]
        book = self.venues[instrument.venue].books[index]
        book.apply([(bid, qty)], [(ask, qty)], True)
        book.stamp(self.now, self.now, 0)
        update = BookUpdate(index, book)
        update.recv_ts_ns = self.now
        self.say(update)

    def open_gates(self) -> None:
        """Answer the reconciliation of both venues with nothing open and nothing held."""
        for venue in self.venues:
            self.say(events.VenueReady(self.now, venue))
            self.answer(venue)

    def answer(self, venue: Venue, orders: tuple[OrderReport, ...] = (), fills: tuple[Fill, ...] = (),
               positions: dict[int, int] | None = None) -> None:  # fmt: skip
        for action in self.take(venue):
            if isinstance(action, actions.QueryPositions):
                held = tuple(events.PositionReport(self.now, venue, i, q) for i, q in (positions or {}).items())
                self.say(events.Positions(self.now, venue, action.request_id, held))
            elif isinstance(action, actions.QueryBalances):
                self.say(events.Balances(self.now, venue, action.request_id, ()))
            elif isinstance(action, actions.QueryOpenOrders):
                self.say(events.OpenOrders(self.now, venue, action.request_id, orders))
            elif isinstance(action, actions.QueryFills):
                mine = tuple(fill for fill in fills if fill.instrument == action.instrument)
                self.say(events.Fills(self.now, venue, action.request_id, action.instrument, mine))

    def take(self, venue: Venue) -> list[actions.Action]:
        asked, self.venues[venue].asked = self.venues[venue].asked, []
        return asked

    def place(self, index: int = 0, side: Side = Side.BUY, px: int = 640_000, qty: int = 10, **more: Any) -> int:
        from engine.core import Context

        ident = Context(self.core, 0).place(index, side, px, qty, **more)
        self.pipeline._carry_out(self.core._actions)
        self.core._actions = []
        return ident

    def report(self, ident: int, exec_type: ExecType, status: OrdStatus, cum: int = -1, **more: Any) -> None:
        order = self.core.state.orders.get(ident)
        index = order.instrument if order else more.pop("instrument", 0)
        venue = self.core.instruments[index].venue
        more.setdefault("order_id", f"V{ident & 0xFFFF}")
        self.say(
            OrderReport(self.now, venue, index, ident, exec_type=exec_type, ord_status=status, cum_qty_lots=cum, **more)
        )

    def fill(self, ident: int, qty: int, px: int = 640_000, exec_id: str = "") -> str:
        order = self.core.state.orders[ident]
        self.exec_counter += 1
        name = exec_id or f"E{self.exec_counter}"
        self.say(
            Fill(
                self.now, order.venue, order.instrument, ident, order.order_id, name, order.side, px, qty, 100, "USDT",
                False, self.now,
            )
        )  # fmt: skip
        return name

    def status(self, ident: int) -> OrdStatus:
        return self.core.state.orders[ident].status

    def records(self, kind: type) -> list[Any]:
        return [record for record in self.ledger if isinstance(record, kind)]


@pytest.fixture
def config() -> EngineConfig:
    return parse_config(CONFIG)


@pytest.fixture
def desk(config: EngineConfig) -> Desk:
    made = Desk(config)
    made.open_gates()
    return made


@pytest.fixture
def make_desk(config: EngineConfig) -> Any:
    def make(state: Any = None, epoch: int = 1, is_defined: bool = True) -> Desk:
        return Desk(config, state, epoch, is_defined)

    return make


def write_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for `name`, which is its own authority."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def make_certificate(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Makes (certificate, key) files for a host name."""
    return lambda name: write_certificate(tmp_path, name)
