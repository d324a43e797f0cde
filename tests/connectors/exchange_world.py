"""The local exchange and one connector in one process and virtual time, with a network of fixed delays between them.

The exchange's fronts were written from the venues' pages by other hands than the connector's; what the two disagree
on shows here. Shared by all connectors.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from engine.venue import ExchangeConnector
from tools.exchange.exchange import Exchange
from tools.exchange.faults import ConnectionAct
from tools.exchange.settings import ExchangeSettings

MS = 1_000_000
SECOND = 1_000_000_000
UTC_START_NS = 1_763_800_000 * SECOND
TIMER_NS = 50 * MS


class ExchangeWorld:
    """Wire of the connector and network to the exchange. Time is monotonic ns; the exchange is told UTC."""

    def __init__(self, settings: ExchangeSettings, *, delay_ns: int = MS, start_ns: int = 1_000 * SECOND) -> None:
        self.now_ns = start_ns
        self.utc_offset_ns = UTC_START_NS - start_ns
        self.delay_ns = delay_ns
        self.connector: ExchangeConnector | None = None
        self.log: list[tuple[object, ...]] = []
        self.answers: list[tuple[str, int, bytes]] = []
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._seq = 0
        self._conn_of: dict[int, int] = {}
        self._channel_of: dict[int, int] = {}
        self._muted: dict[int, int] = {}
        self._next_conn = 0
        self._next_timer_ns = start_ns
        self.frames = 0
        self.exchange = Exchange(settings, Shell(self), self.utc_ns)

    @property
    def utc_ns(self) -> int:
        return self.now_ns + self.utc_offset_ns

    def at(self, delay_ns: int, act: Callable[[], None]) -> None:
        self._seq += 1
        heapq.heappush(self._heap, (self.now_ns + delay_ns, self._seq, act))

    def run(self, duration_ns: int) -> None:
        assert self.connector is not None
        end_ns = self.now_ns + duration_ns
        while True:
            exchange_ns = self.exchange.next_timer_ns() - self.utc_offset_ns
            next_ns = min(self._next_timer_ns, max(exchange_ns, self.now_ns))
            if self._heap:
                next_ns = min(next_ns, self._heap[0][0])
            if next_ns > end_ns:
                self.now_ns = end_ns
                return
            self.now_ns = next_ns
            if self._heap and self._heap[0][0] <= next_ns:
                heapq.heappop(self._heap)[2]()
            elif exchange_ns <= next_ns:
                self.exchange.on_timer(self.utc_ns)
            else:
                self._next_timer_ns = next_ns + TIMER_NS
                self.connector.on_timer(next_ns)

    # --- wire ---

    def connect(self, channel: int, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.log.append(("connect", channel, url))
        parts = urlsplit(url)
        sent = {name.lower(): value for name, value in (headers or {}).items()}

        def act() -> None:
            assert self.connector is not None
            self._next_conn += 1
            conn_id = self._next_conn
            self._channel_of[conn_id] = channel
            status = self.exchange.ws_open(conn_id, parts.path, parts.query, sent, "127.0.0.1", self.utc_ns)
            if status:
                del self._channel_of[conn_id]
                self.connector.on_disconnected(channel, f"handshake refused: {status}", self.now_ns)
            else:
                self._conn_of[channel] = conn_id
                self.connector.on_connected(channel, self.now_ns)

        self.at(self.delay_ns, act)

    def send(self, channel: int, payload: bytes | bytearray | memoryview) -> bool:
        conn_id = self._conn_of.get(channel)
        if conn_id is None:
            return False
        text = bytes(payload)
        self.log.append(("send", channel, text))
        self.at(self.delay_ns, lambda: self.exchange.ws_message(conn_id, text, self.utc_ns))
        return True

    def request(
        self,
        request_id: int,
        method: str,
        base_url: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        is_secret: bool = False,
        timeout_ns: int = 5_000_000_000,
    ) -> None:
        self.log.append(("request", request_id, method, base_url, target, body))
        path, _, query = target.partition("?")
        sent = {name.lower(): value for name, value in headers.items()}

        def act() -> None:
            answer = self.exchange.http(method, path, query, sent, body, "127.0.0.1", self.utc_ns)
            self.answers.append((f"{method} {path}", 0 if answer.is_dropped else answer.status, answer.body))
            delay_ns = self.delay_ns + answer.delay_ns
            if answer.is_dropped or delay_ns > timeout_ns:
                self.at(timeout_ns, lambda: self._respond(request_id, 0, {}, b"timeout"))
                return
            got = {name.lower(): value for name, value in answer.headers.items()}
            self.at(delay_ns, lambda: self._respond(request_id, answer.status, got, answer.body))

        self.at(self.delay_ns, act)

    def _respond(self, request_id: int, status: int, headers: Mapping[str, str], body: bytes) -> None:
        assert self.connector is not None
        self.connector.on_response(request_id, status, headers, body, self.now_ns)

    def set_timer(self, at_ns: int) -> None:
        self.at(max(0, at_ns - self.now_ns), self._on_timer)

    def _on_timer(self) -> None:
        assert self.connector is not None
        self.connector.on_timer(self.now_ns)

    def close(self, channel: int) -> None:
        self.log.append(("close", channel))
        self._cut(channel, "closed by us")

    def _cut(self, channel: int, reason: str) -> None:
        conn_id = self._conn_of.pop(channel, None)

        def act() -> None:
            assert self.connector is not None
            if conn_id is not None:
                self._channel_of.pop(conn_id, None)
                self.exchange.ws_close(conn_id, self.utc_ns)
            self.connector.on_disconnected(channel, reason, self.now_ns)

        self.at(self.delay_ns, act)

    # --- what the exchange's shell does ---

    def deliver(self, conn_id: int, payload: bytes) -> None:
        if self._muted.get(conn_id, 0) > self.utc_ns:
            return

        def act() -> None:
            assert self.connector is not None
            channel = self._channel_of.get(conn_id)
            if channel is not None and self._conn_of.get(channel) == conn_id:
                self.frames += 1
                self.connector.on_frame(channel, payload, self.now_ns)

        self.at(self.delay_ns, act)

    def cut_conn(self, conn_id: int, reason: str) -> None:
        channel = self._channel_of.get(conn_id)
        if channel is not None and self._conn_of.get(channel) == conn_id:
            self._cut(channel, reason)

    def mute(self, conn_id: int, until_ns: int) -> None:
        self._muted[conn_id] = until_ns

    def unmute(self) -> None:
        self._muted.clear()


class Shell:
    """The shell as the exchange sees it; a class of its own because both sides say `send` and `close`."""

    def __init__(self, world: ExchangeWorld) -> None:
        self._world = world

    def send(self, conn_id: int, payload: bytes) -> None:
        self._world.deliver(conn_id, payload)

    def close(self, conn_id: int, code: int) -> None:
        self._world.cut_conn(conn_id, f"closed by the venue: {code}")

    def act(self, act: ConnectionAct) -> None:
        if act.kind in ("stall", "half_open"):
            self._world.mute(act.conn_id, act.until_ns)
        else:
            self._world.cut_conn(act.conn_id, "cut")

    def restore(self) -> None:
        self._world.unmute()
