"""The whole local exchange without its sockets: venues, fronts, market, faults and control behind one set of calls.

The shell (`server`) owns sockets and the clock and calls `http`, `ws_open`, `ws_message`, `ws_close`, `on_timer`; a
simulator may own a virtual network and call the same. One thread; time is UTC ns and comes with each call.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from tools.exchange.assemble import build_cores, build_fronts, build_source, recorded
from tools.exchange.control import Control
from tools.exchange.core import VenueCore
from tools.exchange.faults import ConnectionAct, FaultPlan, Venue
from tools.exchange.frames import channel_of_path, venue_of_path
from tools.exchange.front import Front, HttpAnswer, Payload
from tools.exchange.settings import ExchangeSettings

FOREVER: Final = 2**63 - 1


class Shell(Protocol):
    """What the exchange asks of the owner of the sockets."""

    def send(self, conn_id: int, payload: bytes) -> None: ...
    def close(self, conn_id: int, code: int) -> None: ...
    def act(self, act: ConnectionAct) -> None:
        """Cut, stall or half-open one connection."""

    def restore(self) -> None:
        """End all stalls and half-open states."""


class Source(Protocol):
    """Where market data comes from: the synthetic market or a playback."""

    is_paused: bool

    @property
    def interval_ns(self) -> int:
        """How often `step` wants to be called."""

    def step(self, now_ns: int) -> None: ...
    def counters(self) -> Mapping[str, int]: ...


@dataclass(slots=True, eq=False)
class Conn:
    conn_id: int
    venue: str
    channel: str
    path: str
    opened_ns: int
    sent: int = 0
    received: int = 0


@dataclass(slots=True, eq=False)
class FaultSink:
    """Sits between the fronts and the shell: applies frame faults, holds back what is late."""

    shell: Shell
    plan: FaultPlan
    conns: dict[int, Conn]
    now_ns: int = 0
    _late: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    _seq: int = 0

    def send(self, conn_id: int, payload: Payload) -> None:
        conn = self.conns.get(conn_id)
        if conn is None:
            return
        conn.sent += 1
        data = payload.encode() if isinstance(payload, str) else payload
        if not self.plan.touches_frames:
            self.shell.send(conn_id, data)
            return
        for due_ns, frame in self.plan.on_frame(self.now_ns, conn, data):
            if due_ns <= self.now_ns:
                self.shell.send(conn_id, frame)
            else:
                self._seq += 1
                heapq.heappush(self._late, (due_ns, self._seq, conn_id, frame))

    def close(self, conn_id: int, code: int = 1000) -> None:
        self.shell.close(conn_id, code)

    def flush(self, now_ns: int) -> None:
        while self._late and self._late[0][0] <= now_ns:
            _, _, conn_id, frame = heapq.heappop(self._late)
            if conn_id in self.conns:
                self.shell.send(conn_id, frame)

    def next_due_ns(self) -> int:
        return self._late[0][0] if self._late else FOREVER


class Exchange:
    """One process' worth of venues. `cores` and `fronts` are by venue name."""

    def __init__(self, settings: ExchangeSettings, shell: Shell, now_ns: int) -> None:
        settings, recordings = recorded(settings)
        self.settings = settings
        self.started_ns = now_ns
        self.conns: dict[int, Conn] = {}
        self.plan = FaultPlan(settings.seed)
        self.sink = FaultSink(shell, self.plan, self.conns, now_ns)
        self.shell = shell
        self.cores: dict[str, VenueCore] = build_cores(settings, now_ns)
        self.fronts: dict[str, Front] = build_fronts(settings, self.cores, self.sink)
        self.source: Source | None = build_source(settings, self.cores, recordings)
        self._next_step_ns = now_ns
        for name, core in self.cores.items():
            self.plan.venues[name] = Venue(core.hooks, getattr(self.fronts[name], "limits", None))
        self.plan.add_presets(settings.faults, now_ns)
        self.control = Control(self)
        if self.source is not None:
            self.source.step(now_ns)

    # --- requests -----------------------------------------------------------------------------------------------

    def http(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, peer_ip: str, now_ns: int
    ) -> HttpAnswer:
        self.sink.now_ns = now_ns
        if path.startswith("/control/"):
            return self.control.http(method, path, query, headers, body, now_ns)
        front = self._front(path)
        if front is None:
            return HttpAnswer(404, b'{"code":404,"msg":"no such path"}', {"Content-Type": "application/json"})
        return front.http(method, path, query, headers, body, peer_ip, now_ns)

    def ws_open(
        self, conn_id: int, path: str, query: str, headers: Mapping[str, str], peer_ip: str, now_ns: int
    ) -> int:
        self.sink.now_ns = now_ns
        front = self._front(path)
        if front is None:
            return 404
        self.conns[conn_id] = Conn(conn_id, venue_of_path(path), channel_of_path(path), path, now_ns)
        status = front.ws_open(conn_id, path, query, headers, peer_ip, now_ns)
        if status:
            del self.conns[conn_id]
        return status

    def ws_message(self, conn_id: int, text: Payload, now_ns: int) -> None:
        conn = self.conns.get(conn_id)
        if conn is not None:
            self.sink.now_ns = now_ns
            conn.received += 1
            self.fronts[conn.venue].ws_message(conn_id, text, now_ns)

    def ws_close(self, conn_id: int, now_ns: int) -> None:
        conn = self.conns.pop(conn_id, None)
        if conn is not None:
            self.sink.now_ns = now_ns
            self.plan.forget(conn_id)
            self.fronts[conn.venue].ws_close(conn_id, now_ns)

    def _front(self, path: str) -> Front | None:
        front = self.fronts.get(venue_of_path(path))
        return front if front is not None and front.owns(path) else None

    # --- time ---------------------------------------------------------------------------------------------------

    def on_timer(self, now_ns: int) -> None:
        """Do everything that is due: faults, market, fronts, late frames."""
        self.sink.now_ns = now_ns
        self.act_on_faults(now_ns)
        if self.source is not None and now_ns >= self._next_step_ns:
            self.source.step(now_ns)
            step_ns = self.source.interval_ns
            self._next_step_ns = max(self._next_step_ns + step_ns, now_ns + step_ns // 2)
        for front in self.fronts.values():
            if now_ns >= front.next_timer_ns():
                front.on_timer(now_ns)
        self.sink.flush(now_ns)

    def act_on_faults(self, now_ns: int) -> None:
        if now_ns >= self.plan.next_due_ns():
            for act in self.plan.on_timer(now_ns, list(self.conns.values())):
                self.shell.act(act)

    def next_timer_ns(self) -> int:
        due = min(self.sink.next_due_ns(), self.plan.next_due_ns())
        if self.source is not None:
            due = min(due, self._next_step_ns)
        for front in self.fronts.values():
            due = min(due, front.next_timer_ns())
        return due
