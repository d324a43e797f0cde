"""The wire of the live engine: channels over picows, requests over engine/http. A shell file.

Owns the sockets of every connector. What it tells the pipeline goes through `Inputs`, which journals first. What a
connector may see of the world is only what is on the tape: `send` says False exactly when the connector was not told
"connected", was told "disconnected", or has closed the channel itself; a message that cannot leave on a channel that
counts as connected ends it, and its fate is unknown like that of any other on a dying connection. So a replay, which
has the tape alone, answers every call alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Protocol

import picows

from engine.http import HttpClient
from engine.stages import NullStages, Stage, Stages
from ext.listener import Listener

CONNECT_TIMEOUT_S = 10.0
ADDRESS_TIMEOUT_S = 4.0  # of one address of a host that has several
CLOSE_TIMEOUT_S = 2.0
UNACKED_TIMEOUT_MS = 10_000
SO_BUSY_POLL = 46
MAX_FRAME_BYTES = 16_777_216
SIGNED = int(Stage.SIGNED)
KEY_IN_URL = re.compile(r"[A-Za-z0-9]{32,}")

# Its INFO lines carry addresses, and addresses may carry listen keys.
logging.getLogger("picows").setLevel(logging.WARNING)


class Inputs(Protocol):
    """What the wire reports to: each call is journaled, then handed to the pipeline."""

    @property
    def on_frame(self) -> Callable[[int, bytes, int], None]: ...

    def on_connected(self, channel: int, recv_ts_ns: int) -> None: ...
    def on_disconnected(self, channel: int, reason: str, recv_ts_ns: int) -> None: ...
    def on_listener_error(self, channel: int, error: BaseException) -> None: ...
    def on_journal_error(self, channel: int, code: int) -> None: ...

    def on_response(
        self, request_id: int, status: int, headers: dict[str, str], body: bytes, is_secret: bool
    ) -> None: ...

    def wake_at(self, at_ns: int) -> None: ...


class _Channel:
    """A socket from `connect` to its end. `listener` is None while it connects."""

    __slots__ = ("listener", "reason", "sock", "task")

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.sock: socket.socket | None = None
        self.reason = ""
        self.task: asyncio.Task[None] | None = None


class LoopWire:
    """Implements engine.venue.Wire for every connector of one engine. Usable once `bind` was called.

    `redact`: by channel, the secrets that its venue may echo there; they are overwritten in the venue's HTTP answers
    too. Leave out the channels of market data, whose frames would be searched for nothing.
    """

    def __init__(
        self, *, ca_file: str = "", busy_poll_us: int = 0, redact: Mapping[int, tuple[bytes, ...]] | None = None
    ) -> None:
        self.connecting_count = 0
        self.connect_count = 0
        self.lost_sends = 0  # messages on a channel that had ended without our knowing yet
        self._ca_file = ca_file
        self._busy_poll_us = busy_poll_us
        self._redact = dict(redact or {})
        self._secrets: dict[int, dict[bytes, None]] = {}  # by venue, in the order given
        for channel, secrets in self._redact.items():
            self._secrets.setdefault(channel >> 8, {}).update(dict.fromkeys(secrets))
        self._channels: dict[int, _Channel] = {}  # connecting, open, or on the way down
        self._connected: dict[int, Listener] = {}  # as the connectors know it
        self._loop: asyncio.AbstractEventLoop
        self._http: HttpClient
        self._inputs: Inputs
        self._ring: object = None
        self.stages: Stages = NullStages()
        self._ended_frame_count = 0

    def bind(self, loop: asyncio.AbstractEventLoop, http: HttpClient, inputs: Inputs, ring: object) -> None:
        """`ring`: where frames are journaled, an ext.ring.Ring or a callable (kind, source, ts_ns, payload) -> seq."""
        self._loop, self._http, self._inputs, self._ring = loop, http, inputs, ring

    # --- Wire ---

    def connect(self, channel: int, url: str, headers: Mapping[str, str] | None = None) -> None:
        previous = self._channels.pop(channel, None)
        if previous is not None:
            self._discard(channel, previous)
        self.connect_count += 1
        entry = self._channels[channel] = _Channel()
        entry.task = self._loop.create_task(self._connect(channel, entry, url, dict(headers or {})))

    def send(self, channel: int, payload: bytes | bytearray | memoryview) -> bool:
        listener = self._connected.get(channel)
        if listener is None:
            return False
        self.stages.mark(SIGNED)
        if not listener.send(payload):
            self.lost_sends += 1
            listener.abort()
        return True

    def close(self, channel: int) -> None:
        self._connected.pop(channel, None)
        entry = self._channels.get(channel)
        if entry is None:
            return
        entry.reason = entry.reason or "closed by us"
        if entry.listener is not None:
            entry.listener.close()
            self._loop.call_later(CLOSE_TIMEOUT_S, entry.listener.abort)
        elif entry.task is not None:
            entry.task.cancel()

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
        def on_answer(status: int, headers: dict[str, str], body: bytes) -> None:
            self._inputs.on_response(request_id, status, headers, body, is_secret)

        self._http.request(method, base_url, target, headers, body, timeout_ns, on_answer)

    def set_timer(self, at_ns: int) -> None:
        self._inputs.wake_at(at_ns)

    # --- life of a channel ---

    async def _connect(self, channel: int, entry: _Channel, url: str, headers: dict[str, str]) -> None:
        self.connecting_count += 1
        guard = _Guard(self, channel, entry)
        redact = self._redact.get(channel, ()) + secrets_of(url)
        listener = Listener(guard, channel, self._ring, redact=redact, max_message_bytes=MAX_FRAME_BYTES)
        guard.listener = listener
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await picows.ws_connect(
                    lambda: listener,
                    url,
                    ssl_context=self._http.tls() if url.startswith("wss:") else None,
                    enable_auto_pong=False,
                    max_frame_size=MAX_FRAME_BYTES,
                    max_redirects=0,
                    extra_headers=headers,
                    socket_factory=lambda parsed: self._open_socket(entry, parsed.host, parsed.port),
                )
        except (Exception, asyncio.CancelledError) as error:
            # Once the listener was told of the connection, its end comes from there too.
            if entry.listener is None:
                # picows leaves the transport of a handshake that was given up open: its end makes it close.
                if entry.sock is not None:
                    with contextlib.suppress(OSError):
                        entry.sock.shutdown(socket.SHUT_RDWR)
                self._failed(channel, entry, entry.reason or reason_of(error))
            else:
                listener.abort()
        finally:
            self.connecting_count -= 1

    async def _open_socket(self, entry: _Channel, host: str, port: int) -> socket.socket:
        addresses = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for index, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = entry.sock = socket.socket(family, kind, protocol)
            try:
                self._set_options(sock)
                async with asyncio.timeout(ADDRESS_TIMEOUT_S):
                    await self._loop.sock_connect(sock, address)
                return sock
            except BaseException as error:
                sock.close()
                if not isinstance(error, OSError | TimeoutError) or index == len(addresses) - 1:
                    raise
        raise OSError(errno.ENOENT, "no address")

    def _set_options(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A peer that vanished is noticed by the first message that it does not acknowledge, not after minutes.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKED_TIMEOUT_MS)
        if self._busy_poll_us:
            with contextlib.suppress(OSError):  # needs CAP_NET_ADMIN above the system's own figure
                sock.setsockopt(socket.SOL_SOCKET, SO_BUSY_POLL, self._busy_poll_us)

    def _failed(self, channel: int, entry: _Channel, reason: str) -> None:
        if self._channels.get(channel) is entry:
            del self._channels[channel]
            self._inputs.on_disconnected(channel, reason, 0)

    def opened(self, channel: int, entry: _Channel, listener: Listener, recv_ts_ns: int) -> None:
        if self._channels.get(channel) is not entry:  # given up before, and the server answered all the same
            listener.detach()
            listener.abort()
            return
        entry.listener = listener
        if entry.reason:  # closed while the last bytes of the handshake were under way
            listener.close(entry.reason)
            return
        self._connected[channel] = listener
        self._inputs.on_connected(channel, recv_ts_ns)

    def ended(self, channel: int, entry: _Channel, reason: str, recv_ts_ns: int) -> None:
        if self._channels.get(channel) is entry:
            del self._channels[channel]
            self._connected.pop(channel, None)
            self._ended_frame_count += entry.listener.frame_count if entry.listener is not None else 0
            self._inputs.on_disconnected(channel, entry.reason or reason, recv_ts_ns)

    # A connector that connects a channel twice means the second; the first must not speak for it.
    def _discard(self, channel: int, entry: _Channel) -> None:
        self._connected.pop(channel, None)
        if entry.listener is not None:
            self._ended_frame_count += entry.listener.frame_count
            entry.listener.detach()
            entry.listener.abort()
        elif entry.task is not None:
            entry.task.cancel()

    # --- for the shell ---

    def redacted(self, venue: int, body: bytes) -> bytes:
        """The body of an answer without the secrets of its venue; what is journaled is what is delivered."""
        for secret in self._secrets.get(venue, ()):
            if secret in body:
                body = body.replace(secret, b"x" * len(secret))
        return body

    @property
    def inputs(self) -> Inputs:
        return self._inputs

    @property
    def frame_count(self) -> int:
        """Messages received since the start."""
        open_count = sum(entry.listener.frame_count for entry in self._channels.values() if entry.listener is not None)
        return self._ended_frame_count + open_count

    @property
    def connected_channels(self) -> list[int]:
        return sorted(self._connected)

    @property
    def open_count(self) -> int:
        """Channels that are connecting, open, or not yet ended."""
        return len(self._channels)

    def abort_all(self) -> None:
        for channel, entry in list(self._channels.items()):
            entry.reason = entry.reason or "engine stopped"
            self._discard(channel, entry)
        self._channels.clear()


def secrets_of(url: str) -> tuple[bytes, ...]:
    """Keys that an address carries (listen keys): the venue may name them again in its frames."""
    return tuple(found.encode() for found in KEY_IN_URL.findall(url))


class _Guard:
    """Handler of one listener: frames go straight through, the rest by way of the channel's book-keeping."""

    def __init__(self, wire: LoopWire, channel: int, entry: _Channel) -> None:
        self.on_frame = wire.inputs.on_frame
        self.on_listener_error = wire.inputs.on_listener_error
        self.on_journal_error = wire.inputs.on_journal_error
        self.listener: Listener
        self._wire = wire
        self._entry = entry

    def on_connected(self, channel: int, recv_ts_ns: int) -> None:
        self._wire.opened(channel, self._entry, self.listener, recv_ts_ns)

    def on_disconnected(self, channel: int, reason: str, recv_ts_ns: int) -> None:
        self._wire.ended(channel, self._entry, reason, recv_ts_ns)


def reason_of(error: BaseException) -> str:
    """Why a connection did not come about, without the address: it may hold a key."""
    if isinstance(error, picows.WSInvalidStatusError) and error.response is not None:
        retry_after = error.response.headers.get("Retry-After", "")
        text = f"handshake status {int(error.response.status)}"
        return f"{text}, retry-after {retry_after}" if retry_after else text
    if isinstance(error, TimeoutError):
        return "connect timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return f"cannot connect: {os.strerror(error.errno)}"  # not the error's own words: they may hold the address
    return f"cannot connect: {type(error).__name__}"
