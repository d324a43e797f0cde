"""A wire that records what a connector wants of the world, and a world that answers it in virtual time.

`World` drives one connector: it connects what the connector connects, answers HTTP from a table of functions and
WebSocket requests from a function, in the order they were asked, and moves the time on. Shared by all connectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.venue import ExchangeConnector

MS = 1_000_000
SECOND = 1_000_000_000


@dataclass
class Asked:
    """One HTTP request."""

    request_id: int
    method: str
    base_url: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    is_secret: bool
    timeout_ns: int

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        text = self.target.partition("?")[2]
        return dict(part.partition("=")[::2] for part in text.split("&") if part)


@dataclass
class FakeWire:
    connected: set[int] = field(default_factory=set)
    connects: list[tuple[int, str]] = field(default_factory=list)
    closes: list[int] = field(default_factory=list)
    sent: list[tuple[int, bytes]] = field(default_factory=list)
    requests: list[Asked] = field(default_factory=list)
    timers: list[int] = field(default_factory=list)
    log: list[tuple[Any, ...]] = field(default_factory=list)

    def connect(self, channel: int, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.connects.append((channel, url))
        self.log.append(("connect", channel, url))

    def send(self, channel: int, payload: bytes | bytearray | memoryview) -> bool:
        if channel not in self.connected:
            return False
        self.sent.append((channel, bytes(payload)))
        self.log.append(("send", channel, bytes(payload)))
        return True

    def close(self, channel: int) -> None:
        self.closes.append(channel)
        self.log.append(("close", channel))

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
        asked = Asked(request_id, method, base_url, target, dict(headers), body, is_secret, timeout_ns)
        self.requests.append(asked)
        self.log.append(("request", request_id, method, base_url, target, body))

    def set_timer(self, at_ns: int) -> None:
        self.timers.append(at_ns)


HttpAnswer = tuple[int, Mapping[str, str], bytes]
OnHttp = Callable[[Asked, int], HttpAnswer | None]
OnSend = Callable[[int, bytes, int], list[bytes]]


class World:
    """The other end of the wire. `on_http` and `on_send` answer; None or [] is silence."""

    def __init__(self, wire: FakeWire, on_http: OnHttp, on_send: OnSend, now_ns: int = 1_000 * SECOND) -> None:
        self.wire = wire
        self.on_http = on_http
        self.on_send = on_send
        self.now_ns = now_ns
        self.rtt_ns = 2 * MS
        self.connector: ExchangeConnector | None = None
        self.refuse_connects = False
        self.is_silent = False

    def settle(self, rounds: int = 200) -> None:
        """Answer everything that was asked, and what is asked because of the answers, without time for timers."""
        wire, connector = self.wire, self.connector
        assert connector is not None
        for _ in range(rounds):
            if not (wire.connects or wire.requests or wire.sent or wire.closes):
                return
            connects, wire.connects = wire.connects, []
            requests, wire.requests = wire.requests, []
            sent, wire.sent = wire.sent, []
            closes, wire.closes = wire.closes, []
            self.now_ns += self.rtt_ns
            for channel in closes:
                if channel in wire.connected:
                    wire.connected.discard(channel)
                    connector.on_disconnected(channel, "closed", self.now_ns)
            for channel, _url in connects:
                if self.refuse_connects:
                    connector.on_disconnected(channel, "refused", self.now_ns)
                else:
                    wire.connected.add(channel)
                    connector.on_connected(channel, self.now_ns)
            for asked in requests:
                answer = self.on_http(asked, self.now_ns)
                if answer is not None:
                    connector.on_response(asked.request_id, *answer, self.now_ns)
            for channel, payload in sent:
                for frame in [] if self.is_silent else self.on_send(channel, payload, self.now_ns):
                    connector.on_frame(channel, frame, self.now_ns)
        raise AssertionError("the connector and its world never came to rest")

    def run(self, duration_ns: int, step_ns: int = 100 * MS) -> None:
        """Let time pass with a timer every step."""
        assert self.connector is not None
        end_ns = self.now_ns + duration_ns
        self.settle()
        while self.now_ns < end_ns:
            self.now_ns += step_ns
            self.connector.on_timer(self.now_ns)
            self.settle()

    def frame(self, channel: int, payload: bytes) -> None:
        assert self.connector is not None
        self.now_ns += 1_000
        self.connector.on_frame(channel, payload, self.now_ns)

    def drop(self, channel: int, reason: str = "reset by peer") -> None:
        assert self.connector is not None
        self.wire.connected.discard(channel)
        self.connector.on_disconnected(channel, reason, self.now_ns)
