"""From an input to its consequences: connector -> events -> core -> actions -> connector -> wire.

The same object runs live (engine/loop.py), in a replay (tools/replay.py) and in tests. Inputs are journaled by the
caller before they come in here; ledger records are written here before an action reaches its connector.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from engine import ledger as records
from engine.actions import (
    Action,
    AmendOrder,
    CancelAll,
    CancelOrder,
    PlaceOrder,
    QueryBalances,
    QueryFills,
    QueryOpenOrders,
    QueryOrder,
    QueryPositions,
)
from engine.config import EngineConfig
from engine.core import Core
from engine.events import AnyEvent, BookUpdate, Command, OrderReport, Timer
from engine.stages import Stage, Stages
from engine.state import State
from engine.types import ExecType, OrdStatus, Venue
from engine.venue import Credentials, ExchangeConnector, Wire

LedgerAppend = Callable[[int, int, int, bytes], int]
"""(kind, source, ts_ns, payload) -> sequence, or a negative code when the journal could not take it."""

CHANNEL_BITS = 8
REQUEST_BITS = 40
DECODED, WRITTEN = int(Stage.DECODED), int(Stage.WRITTEN)


class Pipeline:
    def __init__(
        self,
        config: EngineConfig,
        epoch: int,
        append: LedgerAppend,
        registry: Mapping[Venue, Callable[..., ExchangeConnector]],
        wires: Mapping[Venue, Wire],
        credentials: Mapping[Venue, Credentials],
        stages: Stages,
        *,
        utc_offset_ns: int,
        state: State | None = None,
        is_replay: bool = False,
    ) -> None:
        self._append = append
        self._stages = stages
        self._is_replay = is_replay
        self._venue_index = {venue: at for at, venue in enumerate(config.venue_list())}
        self._queue: deque[AnyEvent] = deque()
        self._is_busy = False
        self.now_ns = 0
        self.is_stopped = False
        self.is_stopping_wire = False
        self.journal_lost = 0
        self.bugs: list[str] = []
        self.event_count = 0
        self.core = Core(config, epoch, self._write, stages, state)
        self.connectors: dict[Venue, ExchangeConnector] = {}
        for venue in config.venue_list():
            connector = registry[venue](
                config.venues[venue.name.lower()], credentials.get(venue), config.specs(venue), wires[venue], self.emit,
                utc_offset_ns,
            )  # fmt: skip
            connector.signer_off = is_replay
            self.connectors[venue] = connector
        self.core.utc_offset_ns = utc_offset_ns
        self._by_number = {int(venue): connector for venue, connector in self.connectors.items()}
        self._methods = {venue: methods_of(connector) for venue, connector in self.connectors.items()}

    @property
    def is_ready(self) -> bool:
        """Every venue that may be traded is reconciled and open."""
        healths = self.core.health.values()
        return any(h.is_gate_open for h in healths) and all(h.is_gate_open or h.refusal for h in healths)

    def status(self) -> dict[str, object]:
        """For the operator's `status` command."""
        core = self.core
        return {
            "venues": {
                venue.name.lower(): {
                    "health": health.state(self.now_ns).name,
                    "gate_open": health.is_gate_open,
                    "refusal": health.refusal,
                }
                for venue, health in core.health.items()
            },
            "open_orders": len(core.state.open_orders),
            "active_plans": len(core.legs.plans),
            "fills": core.state.fill_count,
            "killed": core.risk.gate.is_killed,
            "reduce_only": core.is_reduce_only,
            "anomalies": core.anomaly_counts,
        }

    # Inputs, each journaled by the caller before.
    def start(self, ts_ns: int) -> None:
        self.now_ns = ts_ns
        self.core.on_utc_offset(self.core.utc_offset_ns, ts_ns)
        for venue, connector in self.connectors.items():
            for spec in self.core.config.specs(venue):
                self._guarded(connector.subscribe_order_book, spec.index, ts_ns)
                self._guarded(connector.subscribe_trades, spec.index, ts_ns)
            self._guarded(connector.start, ts_ns)

    def on_frame(self, channel: int, payload: bytes, ts_ns: int) -> None:
        self.now_ns = ts_ns
        self._stages.begin(ts_ns)
        try:
            self._by_number[channel >> CHANNEL_BITS].on_frame(channel, payload, ts_ns)
        except Exception as error:
            self._on_bug(error)

    def on_response(self, request_id: int, status: int, headers: Mapping[str, str], body: bytes, ts_ns: int) -> None:
        self.now_ns = ts_ns
        connector = self._by_number[request_id >> REQUEST_BITS]
        self._guarded(connector.on_response, request_id, status, headers, body, ts_ns)

    def on_connected(self, channel: int, ts_ns: int) -> None:
        self.now_ns = ts_ns
        self._guarded(self._by_number[channel >> CHANNEL_BITS].on_connected, channel, ts_ns)

    def on_disconnected(self, channel: int, reason: str, ts_ns: int) -> None:
        self.now_ns = ts_ns
        self._guarded(self._by_number[channel >> CHANNEL_BITS].on_disconnected, channel, reason, ts_ns)

    def on_timer(self, ts_ns: int) -> None:
        self.now_ns = ts_ns
        if self.is_stopping_wire:
            self.is_stopped = True
        for connector in self.connectors.values():
            self._guarded(connector.on_timer, ts_ns)
        self.emit(Timer(ts_ns))
        if self.core.is_stopped and not self.is_stopping_wire:
            self.is_stopping_wire = True
            for connector in self.connectors.values():
                self._guarded(connector.stop, ts_ns)

    def on_command(self, name: str, args: dict[str, str], operator: str, ts_ns: int) -> None:
        self.now_ns = ts_ns
        self.emit(Command(ts_ns, name, args, operator))

    def on_utc_offset(self, utc_offset_ns: int, ts_ns: int) -> None:
        self.now_ns = ts_ns
        self.core.on_utc_offset(utc_offset_ns, ts_ns)
        for connector in self.connectors.values():
            self._guarded(connector.on_utc_offset, utc_offset_ns, ts_ns)

    # Events of connectors.
    def emit(self, event: AnyEvent) -> None:
        """Hand an event to the core, after those before it. Connectors call this while they handle an input, and
        also while they carry out an action: then it waits for its turn."""
        if type(event) is BookUpdate:
            self._stages.mark(DECODED)
        self._queue.append(event)
        if not self._is_busy:
            self._drain()

    def _drain(self) -> None:
        self._is_busy = True
        queue, core = self._queue, self.core
        try:
            while queue:
                event = queue.popleft()
                self.event_count += 1
                try:
                    actions = core.process(event)
                except Exception as error:
                    self._on_bug(error)
                    continue
                if actions:
                    self._carry_out(actions)
        finally:
            self._is_busy = False

    def _carry_out(self, actions: list[Action]) -> None:
        now_ns = self.now_ns
        for action in actions:
            kind = type(action)
            is_order = kind is PlaceOrder
            if is_order and self.journal_lost:
                self._refuse(action)  # type: ignore[arg-type]
                continue
            try:
                self._methods[action.venue][kind](action, now_ns)
            except Exception as error:
                self._on_bug(error)
            if is_order:
                self._stages.mark(WRITTEN)
                self._stages.commit(self._venue_index[action.venue])
        try:
            self.core.finish()
        except Exception as error:
            self._on_bug(error)

    def _refuse(self, action: PlaceOrder) -> None:
        """The intent is not in the journal, so it may not go to the wire."""
        self._queue.append(
            OrderReport(
                self.now_ns, action.venue, action.instrument, action.cl_ord_id, "", ExecType.REJECTED,
                OrdStatus.REJECTED, action.side, text="not sent: the journal did not take the intent",
            )
        )  # fmt: skip

    # Ledger and faults.
    def _write(self, record: records.LedgerRecord) -> None:
        if self._append(record.kind, 0, self.now_ns, records.encode_ledger(record)) < 0:
            self.journal_lost += 1
            if self.journal_lost == 1:
                self._queue.append(Command(self.now_ns, "reduce_only", {"reason": "journal"}, "engine"))

    def _guarded(self, call: Callable[..., None], *args: object) -> None:
        try:
            call(*args)
        except Exception as error:
            self._on_bug(error)

    def _on_bug(self, error: Exception) -> None:
        """A broken invariant: cancel everything and stop. A replay shows it instead."""
        if self._is_replay:
            raise error
        text = f"{type(error).__name__}: {error}"
        self.bugs.append("".join(traceback.format_exception(error)))
        if len(self.bugs) > 20:
            return
        try:
            actions = list(self.core.process(Command(self.now_ns, "halt", {"reason": text}, "engine")))
        except Exception as second:
            self.bugs.append("".join(traceback.format_exception(second)))
            actions = []
        for action in actions:
            try:
                self._methods[action.venue][type(action)](action, self.now_ns)
            except Exception as third:
                self.bugs.append("".join(traceback.format_exception(third)))


def methods_of(connector: ExchangeConnector) -> dict[type[Action], Callable[[Any, int], None]]:
    """Which method carries out which action."""
    return {
        PlaceOrder: connector.place_order,
        CancelOrder: connector.cancel_order,
        AmendOrder: connector.amend_order,
        CancelAll: connector.cancel_all,
        QueryOrder: connector.get_order,
        QueryOpenOrders: connector.get_open_orders,
        QueryFills: connector.get_fills,
        QueryBalances: connector.get_balance,
        QueryPositions: connector.get_positions,
    }
