"""HTTP/1.1 requests on kept connections, for the venues' REST interfaces.

Owns one pool of connections an origin, and the promise that every request is answered exactly once through its
callback, never by an exception: status 0 with the reason as body when there is no answer. What status 0 means for an
order (unknown) is the connector's. Redirects are handed over, not followed; nothing is sent ahead of an answer.

A request that was sent is sent again only when it is a GET, on a connection that had been idle, and the server closed
it without one byte of an answer: the usual race of a keep-alive that ran out. RFC 9110 9.2.2, RFC 9112 9.3.1.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, cast
from urllib.parse import urlsplit

from engine.errors import ConfigError
from engine.http_parser import HttpError, ResponseParser

OnAnswer = Callable[[int, dict[str, str], bytes], None]

MAX_CONNECTIONS: Final = 6  # an origin
MAX_WAITING: Final = 512  # requests an origin
FRESH_S: Final = 0.001
IDLE_S: Final = 20.0  # an idle connection that is older may be half closed already

_TARGET: Final = re.compile(r"/[!-~]*")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t -~]*")


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """TLS 1.2 or later, certificate and host name verified. `ca_file` replaces the system's authorities."""
    if os.environ.get("SSLKEYLOGFILE"):
        raise ConfigError(["SSLKEYLOGFILE: is set, which writes the keys of every connection to a file; unset it"])
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _Request:
    __slots__ = ("head", "is_retried", "method", "on_answer", "timeout")

    def __init__(self, method: str, head: bytes, on_answer: OnAnswer) -> None:
        self.method = method
        self.head = head  # the whole request, body included
        self.on_answer: OnAnswer | None = on_answer
        self.is_retried = False
        self.timeout: asyncio.TimerHandle | None = None


class _Connection(asyncio.Protocol):
    """One socket. At most one request is under way on it."""

    def __init__(self, origin: _Origin) -> None:
        self._origin = origin
        self.transport: asyncio.Transport | None = None
        self.request: _Request | None = None
        self.idle_since = 0.0
        self.was_idle = False  # the request under way did not start on a fresh connection
        self._parser: ResponseParser | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not registered as such

    def start(self, request: _Request) -> None:
        assert self.request is None and self.transport is not None, "connection is busy"
        client = self._origin.client
        self.request = request
        self._parser = ResponseParser(request.method, max_body_bytes=client.max_body_bytes)
        self.transport.write(request.head)

    @property
    def is_usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            self.abort()  # an answer to nothing
            return
        try:
            if not parser.feed(data):
                return
        except HttpError as error:
            self._fail(f"bad answer: {error}")
            return
        self._finish(parser)

    def connection_lost(self, exc: Exception | None) -> None:
        parser, request, self.transport = self._parser, self.request, None
        if parser is not None and request is not None:
            try:
                if exc is not None:
                    raise HttpError(f"connection lost: {type(exc).__name__}")
                parser.finish()
            except HttpError as error:
                is_clean = request.method == "GET" and self.was_idle and not parser.has_started
                if is_clean and not request.is_retried:
                    self.request, self._parser, request.is_retried = None, None, True
                    self._origin.dropped(self)
                    self._origin.again(request)
                    return
                self._fail(str(error))
            else:
                self._finish(parser)
        self._origin.dropped(self)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _fail(self, reason: str) -> None:
        request, self.request, self._parser = self.request, None, None
        self.abort()
        self._origin.dropped(self)
        if request is not None:
            self._origin.client.answer(request, 0, {}, reason.encode())

    def _finish(self, parser: ResponseParser) -> None:
        request, self.request, self._parser = self.request, None, None
        assert request is not None, "answer without a request"
        if parser.keep_alive and not parser.surplus and self.is_usable:
            self._origin.freed(self)
        else:
            if self.transport is not None:
                self.transport.close()
            self._origin.dropped(self)
        self._origin.client.answer(request, parser.status, parser.headers, parser.body)


class _Origin:
    """Connections to one scheme, host and port, and the requests that wait for one."""

    def __init__(self, client: HttpClient, base_url: str) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ValueError("base URL must be http://host or https://host")
        self.client = client
        self.host = parts.hostname
        self.is_tls = parts.scheme == "https"
        self.port = parts.port or (443 if self.is_tls else 80)
        self.authority = parts.netloc
        self.prefix = parts.path.rstrip("/")
        self.waiting: deque[_Request] = deque()
        self.idle: list[_Connection] = []
        self.connections: set[_Connection] = set()
        self.opening: set[asyncio.Task[None]] = set()

    def submit(self, request: _Request) -> None:
        if len(self.waiting) >= MAX_WAITING:
            self.client.answer_soon(request, f"not sent: {MAX_WAITING} requests are waiting already")
            return
        self.waiting.append(request)
        self.pump()

    def again(self, request: _Request) -> None:
        self.waiting.appendleft(request)
        self.pump()

    def pump(self) -> None:
        now = self.client.loop.time()
        while self.waiting:
            if self.waiting[0].on_answer is None:  # timed out while it waited
                self.waiting.popleft()
                continue
            if not self.idle:
                break
            connection = self.idle.pop()
            if not connection.is_usable or now - connection.idle_since > IDLE_S:
                self.connections.discard(connection)
                connection.abort()
                continue
            connection.was_idle = now - connection.idle_since > FRESH_S
            connection.start(self.waiting.popleft())
        room = MAX_CONNECTIONS - len(self.connections) - len(self.opening)
        for _ in range(min(room, len(self.waiting) - len(self.opening))):
            self.open()

    def open(self) -> None:
        task = self.client.loop.create_task(self._open())
        self.opening.add(task)
        task.add_done_callback(self._opened)

    async def _open(self) -> None:
        context = self.client.tls() if self.is_tls else None
        async with asyncio.timeout(self.client.connect_timeout_s):
            _, connection = await self.client.loop.create_connection(
                lambda: _Connection(self), self.host, self.port, ssl=context
            )
        self.connections.add(connection)
        connection.idle_since = self.client.loop.time()
        self.idle.append(connection)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self.opening.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.connections:
            # Nothing is up and nothing goes up: who waits is told now, not at its timeout.
            reason = f"not sent: cannot connect: {_short(error)}"
            waiting, self.waiting = self.waiting, deque()
            for request in waiting:
                self.client.answer(request, 0, {}, reason.encode())
            return
        if not self.client.is_closed:
            self.pump()

    def freed(self, connection: _Connection) -> None:
        connection.idle_since = self.client.loop.time()
        self.idle.append(connection)
        self.client.loop.call_soon(self.pump)

    def dropped(self, connection: _Connection) -> None:
        self.connections.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        if self.waiting and not self.client.is_closed:
            self.client.loop.call_soon(self.pump)

    def close(self) -> None:
        for task in list(self.opening):
            task.cancel()
        for connection in list(self.connections):
            connection.abort()


class HttpClient:
    """All HTTP requests of the engine. Use it on the loop's thread only.

    `on_error(error)` hears what a callback raised.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        ca_file: str = "",
        connect_timeout_s: float = 5.0,
        max_body_bytes: int = 67_108_864,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.loop = loop
        self.connect_timeout_s = connect_timeout_s
        self.max_body_bytes = max_body_bytes
        self.is_closed = False
        self.request_count = 0
        self.failure_count = 0  # answers with status 0
        self.retry_count = 0
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None
        self._on_error = on_error
        self._origins: dict[str, _Origin] = {}
        self._pending: dict[_Request, None] = {}

    def tls(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = tls_context(self._ca_file)
        return self._tls

    def request(
        self,
        method: str,
        base_url: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_ns: int,
        on_answer: OnAnswer,
    ) -> None:
        """Send one request; `on_answer(status, headers, body)` follows, never from within this call."""
        self.request_count += 1
        request = _Request(method, b"", on_answer)
        self._pending[request] = None
        if self.is_closed:
            self.answer_soon(request, "not sent: the client is closed")
            return
        try:
            origin = self._origins.get(base_url)
            if origin is None:
                origin = self._origins[base_url] = _Origin(self, base_url)
            request.head = _encoded(method, origin, target, headers, body)
        except (ValueError, HttpError) as error:
            self.answer_soon(request, f"not sent: {error}")
            return
        request.timeout = self.loop.call_later(timeout_ns / 1e9, self._expire, request, timeout_ns)
        origin.submit(request)

    def warm(self, base_url: str) -> None:
        """Open a connection ahead of the first request."""
        origin = self._origins.get(base_url)
        if origin is None:
            origin = self._origins[base_url] = _Origin(self, base_url)
        if not origin.connections and not origin.opening:
            origin.open()

    def close(self) -> None:
        """Drop every connection; whoever still waits gets status 0 in the next turns of the loop."""
        self.is_closed = True
        for origin in self._origins.values():
            origin.close()
        for request in list(self._pending):
            self.answer_soon(request, "the client was closed before the answer")

    def answer(self, request: _Request, status: int, headers: dict[str, str], body: bytes) -> None:
        """Give the one answer; a second one is dropped."""
        on_answer, request.on_answer = request.on_answer, None
        self._pending.pop(request, None)
        if request.timeout is not None:
            request.timeout.cancel()
            request.timeout = None
        if on_answer is None:
            return
        self.retry_count += request.is_retried
        self.failure_count += status == 0
        try:
            on_answer(status, headers, body)
        except BaseException as error:
            if self._on_error is None:
                raise
            self._on_error(error)

    def answer_soon(self, request: _Request, reason: str) -> None:
        self.loop.call_soon(self.answer, request, 0, {}, reason.encode())

    def _expire(self, request: _Request, timeout_ns: int) -> None:
        if request.on_answer is None:
            return
        reason = "not sent: no connection"
        for origin in self._origins.values():
            for connection in list(origin.connections):
                if connection.request is request:
                    # Its answer may still come; it must not be taken for the next one's.
                    connection.request, reason = None, "no answer"
                    connection._parser = None
                    connection.abort()
                    origin.dropped(connection)
        self.answer(request, 0, {}, f"{reason} in {timeout_ns // 1_000_000} ms".encode())


def _short(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return f"{type(error).__name__}"


def _encoded(method: str, origin: _Origin, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
    target = origin.prefix + target
    if _TARGET.fullmatch(target) is None or _NAME.fullmatch(method) is None:
        raise ValueError("method or target holds a character that is not allowed")
    lines = [f"{method} {target} HTTP/1.1", f"host: {origin.authority}"]
    has_agent = False
    for name, value in headers.items():
        # The value is not shown: it may be a key.
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise ValueError(f"header {name!r} holds a character that is not allowed")
        has_agent = has_agent or name.lower() == "user-agent"
        if name.lower() not in ("host", "content-length", "transfer-encoding", "connection", "accept-encoding"):
            lines.append(f"{name}: {value}")
    if not has_agent:
        lines.append("user-agent: tickwright")
    lines.append("accept-encoding: identity")
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body
