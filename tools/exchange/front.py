"""What the server shell and a venue's front say to each other. No IO here: the shell owns sockets and the clock.

The shell calls `http`, `ws_open`, `ws_message`, `ws_close`, `on_timer` with `now_ns` (UTC ns) and owns one `Sink` a
front writes to. WebSocket pings and pongs are the shell's. One thread; no call is re-entrant.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

Payload = str | bytes


@dataclass(slots=True)
class HttpAnswer:
    """An answer to one HTTP request.

    `delay_ns`: send it that much later. `is_dropped`: close the connection without any answer.
    """

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    delay_ns: int = 0
    is_dropped: bool = False


class Sink(Protocol):
    """Outgoing side, given to a front at construction. Writing to a closed connection is ignored."""

    def send(self, conn_id: int, payload: Payload) -> None:
        """Queue one text frame (bytes are UTF-8 of a text frame)."""

    def close(self, conn_id: int, code: int = 1000) -> None:
        """Close the connection after what was sent before."""


class Front(Protocol):
    """One venue's protocol. Paths are matched by `owns`."""

    name: str

    def owns(self, path: str) -> bool:
        """True when this front serves the path (HTTP or WebSocket)."""

    def http(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes,
        peer_ip: str,
        now_ns: int,
    ) -> HttpAnswer:
        """Answer a request. `query` is the raw text after `?`; header names are lower case."""

    def ws_open(
        self, conn_id: int, path: str, query: str, headers: Mapping[str, str], peer_ip: str, now_ns: int
    ) -> int:
        """Accept a connection (0) or refuse the handshake with the HTTP status returned. May send at once."""

    def ws_message(self, conn_id: int, text: Payload, now_ns: int) -> None: ...

    def ws_close(self, conn_id: int, now_ns: int) -> None:
        """The connection is gone, whoever closed it. Always called once for each accepted connection."""

    def on_timer(self, now_ns: int) -> None:
        """Do what is due: send delayed frames, flush conflated streams, expire, count down."""

    def next_timer_ns(self) -> int:
        """When `on_timer` has something due next; 2**63 - 1 when nothing is. The shell may call it more often."""


@dataclass(slots=True)
class Outbox:
    """Frames in the order they are due. A frame without delay never overtakes an earlier one of its connection
    unless that one was delayed on purpose.
    """

    sink: Sink
    _heap: list[tuple[int, int, int, Payload]] = field(default_factory=list)
    _seq: int = 0

    def send(self, conn_id: int, payload: Payload, now_ns: int, delay_ns: int = 0) -> None:
        if delay_ns <= 0:
            self.sink.send(conn_id, payload)
            return
        self._seq += 1
        heapq.heappush(self._heap, (now_ns + delay_ns, self._seq, conn_id, payload))

    def flush(self, now_ns: int) -> None:
        while self._heap and self._heap[0][0] <= now_ns:
            _, _, conn_id, payload = heapq.heappop(self._heap)
            self.sink.send(conn_id, payload)

    def next_due_ns(self) -> int:
        return self._heap[0][0] if self._heap else 2**63 - 1
