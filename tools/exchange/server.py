"""The shell of the local exchange: sockets, clock and signals around `exchange.Exchange`.

One process, one port: HTTP and WebSocket of all venues, told apart by path. aiohttp speaks HTTP and reads WebSocket
frames; outgoing frames are written to the transport here, one `write` a connection and loop turn, because a coroutine
per frame would cost more than making the frame.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import gc
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from aiohttp import WSCloseCode, WSMsgType, web

from engine.errors import ConfigError
from tools.exchange.exchange import Exchange
from tools.exchange.faults import PRESETS, ConnectionAct
from tools.exchange.settings import ExchangeSettings, load

EX_OK: Final = 0
EX_USAGE: Final = 64
EX_UNAVAILABLE: Final = 69
EX_CONFIG: Final = 78

RECORDING_HELP: Final = "recording to play back: a folder, or files of one session separated by commas; repeatable"
NS: Final = 1_000_000_000
WRITE_LIMIT: Final = 16 << 20
"""Bytes a slow reader may leave in its socket before it is cut: venues do the same."""
PING_EVERY_NS: Final = {"binance": 20 * NS}
PONG_WITHIN_NS: Final = 60 * NS


def frame_bytes(opcode: int, payload: bytes) -> bytes:
    """One unmasked WebSocket frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


@dataclass(slots=True, eq=False)
class Socket:
    """One WebSocket connection as the shell sees it."""

    conn_id: int
    venue: str
    ws: web.WebSocketResponse
    transport: asyncio.Transport | None = None
    pending: list[bytes] = field(default_factory=list)
    muted_until_ns: int = 0  # stall: nothing leaves, pings are still answered
    dead_until_ns: int = 0  # half-open: nothing leaves, nothing is read
    ping_due_ns: int = 0
    pong_due_ns: int = 0
    is_closing: bool = False


class Server:
    """Owns the sockets. `run` returns the exit code."""

    def __init__(self, settings: ExchangeSettings) -> None:
        self.settings = settings
        self.sockets: dict[int, Socket] = {}
        self.exchange = Exchange(settings, self, time.time_ns())
        self._next_id = 0
        self._dirty: list[Socket] = []
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ns = 2**63 - 1
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    # --- what the exchange asks for (Shell) -------------------------------------------------------------------------

    def send(self, conn_id: int, payload: bytes) -> None:
        socket = self.sockets.get(conn_id)
        if socket is None or socket.is_closing or socket.muted_until_ns or socket.dead_until_ns:
            return
        self._queue(socket, frame_bytes(1, payload))

    def close(self, conn_id: int, code: int) -> None:
        socket = self.sockets.get(conn_id)
        if socket is None or socket.is_closing:
            return
        self._queue(socket, frame_bytes(8, code.to_bytes(2, "big")))
        socket.is_closing = True
        self._loop.call_later(0.25, self._cut, socket)

    def act(self, act: ConnectionAct) -> None:
        socket = self.sockets.get(act.conn_id)
        if socket is None:
            return
        if act.kind == "stall":
            socket.muted_until_ns = act.until_ns
        elif act.kind == "half_open":
            socket.dead_until_ns = act.until_ns
            if socket.transport is not None:
                socket.transport.pause_reading()
        elif act.close_code:
            self.close(act.conn_id, act.close_code)
        else:
            self._cut(socket)

    def restore(self) -> None:
        for socket in self.sockets.values():
            self._revive(socket)

    # --- writing ----------------------------------------------------------------------------------------------------

    def _queue(self, socket: Socket, frame: bytes) -> None:
        if not socket.pending:
            if not self._dirty:
                self._loop.call_soon(self._flush)
            self._dirty.append(socket)
        socket.pending.append(frame)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for socket in dirty:
            transport = socket.transport
            if transport is None:
                # The handshake is not answered yet; `_serve` flushes again.
                continue
            chunk = b"".join(socket.pending)
            socket.pending.clear()
            if transport.is_closing():
                continue
            transport.write(chunk)
            if transport.get_write_buffer_size() > WRITE_LIMIT:
                self._cut(socket)

    def _cut(self, socket: Socket) -> None:
        socket.is_closing = True
        if socket.transport is not None:
            socket.transport.abort()

    def _revive(self, socket: Socket) -> None:
        socket.muted_until_ns = 0
        if socket.dead_until_ns:
            socket.dead_until_ns = 0
            if socket.transport is not None and not socket.transport.is_closing():
                socket.transport.resume_reading()

    # --- reading ----------------------------------------------------------------------------------------------------

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Every request of the port."""
        path, _, query = request.raw_path.partition("?")
        headers = {name.lower(): value for name, value in request.headers.items()}
        peer_ip = request.remote or ""
        if headers.get("upgrade", "").lower() == "websocket":
            return await self._serve(request, path, query, headers, peer_ip)
        body = await request.read()
        answer = self.exchange.http(request.method, path, query, headers, body, peer_ip, time.time_ns())
        self._arm()
        if answer.delay_ns > 0:
            await asyncio.sleep(answer.delay_ns / NS)
        if answer.is_dropped:
            if request.transport is not None:
                request.transport.abort()
            raise web.HTTPServiceUnavailable
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    async def _serve(
        self, request: web.BaseRequest, path: str, query: str, headers: dict[str, str], peer_ip: str
    ) -> web.StreamResponse:
        ws = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=1 << 20, timeout=0.5)
        self._next_id += 1
        now_ns = time.time_ns()
        conn_id = self._next_id
        socket = Socket(conn_id, "", ws)
        self.sockets[conn_id] = socket
        status = self.exchange.ws_open(conn_id, path, query, headers, peer_ip, now_ns)
        if status:
            del self.sockets[conn_id]
            return web.Response(status=status)
        try:
            await ws.prepare(request)
            self._begin(socket, request, now_ns)
            await self._read(socket)
        except ConnectionError:
            # Cut while the handshake or a close frame was on its way: the same as a closed connection.
            socket.is_closing = True
        finally:
            self.sockets.pop(conn_id, None)
            self.exchange.ws_close(conn_id, time.time_ns())
            self._arm()
        return ws

    def _begin(self, socket: Socket, request: web.BaseRequest, now_ns: int) -> None:
        transport = socket.transport = request.transport
        socket.venue = self.exchange.conns[socket.conn_id].venue
        every_ns = PING_EVERY_NS.get(socket.venue, 0)
        socket.ping_due_ns = now_ns + every_ns if every_ns else 0
        if socket.pending and transport is not None:
            transport.write(b"".join(socket.pending))
            socket.pending.clear()
        self._arm()

    async def _read(self, socket: Socket) -> None:
        exchange, ws = self.exchange, socket.ws
        while not socket.is_closing:
            message = await ws.receive()
            kind = message.type
            if kind is WSMsgType.TEXT or kind is WSMsgType.BINARY:
                exchange.ws_message(socket.conn_id, message.data, time.time_ns())
                self._arm()
            elif kind is WSMsgType.PING:
                if not socket.dead_until_ns:
                    self._queue(socket, frame_bytes(10, bytes(message.data)))
            elif kind is WSMsgType.PONG:
                socket.pong_due_ns = 0
            else:
                return

    # --- time -------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        due_ns = self.exchange.next_timer_ns()
        if due_ns >= self._armed_ns:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_ns = due_ns
        self._timer = self._loop.call_later(max(0.0, (due_ns - time.time_ns()) / NS), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._armed_ns = None, 2**63 - 1
        self.exchange.on_timer(time.time_ns())
        self._arm()

    async def _tick(self) -> None:
        """Once a quarter of a second: pings, ends of stalls."""
        while not self._stop.is_set():
            await asyncio.sleep(0.25)
            now_ns = time.time_ns()
            for socket in list(self.sockets.values()):
                self._tick_socket(socket, now_ns)
            self._arm()

    def _tick_socket(self, socket: Socket, now_ns: int) -> None:
        ends_ns = max(socket.muted_until_ns, socket.dead_until_ns)
        if ends_ns and now_ns >= ends_ns:
            self._revive(socket)
        if socket.pong_due_ns and now_ns >= socket.pong_due_ns:
            self._cut(socket)
        if socket.ping_due_ns and now_ns >= socket.ping_due_ns and not socket.dead_until_ns:
            self._queue(socket, frame_bytes(9, str(now_ns // 1_000_000).encode()))
            socket.ping_due_ns = now_ns + PING_EVERY_NS[socket.venue]
            socket.pong_due_ns = socket.pong_due_ns or now_ns + PONG_WITHIN_NS

    # --- life -------------------------------------------------------------------------------------------------------

    async def run(self, *, announce: bool, ready_file: Path | None, for_s: float) -> int:
        """Serve until SIGTERM, SIGINT or the end of `for_s` (0: no end)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        runner = web.ServerRunner(
            web.Server(self.handle, access_log=None, keepalive_timeout=75.0), handle_signals=False, shutdown_timeout=0.5
        )
        await runner.setup()
        site = web.TCPSite(runner, self.settings.host, self.settings.port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            return self._cannot_listen(error)
        port = runner.addresses[0][1]
        ready = json.dumps({"port": port, "pid": os.getpid()})
        if ready_file is not None:
            partial = ready_file.with_suffix(ready_file.suffix + ".partial")
            partial.write_text(ready + "\n")
            partial.replace(ready_file)
        if announce:
            print(ready, flush=True)
        gc.collect()
        gc.freeze()
        self._arm()
        ticker = asyncio.create_task(self._tick())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), for_s or None)
        self._stop.set()
        ticker.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for conn_id in list(self.sockets):
            self.close(conn_id, WSCloseCode.GOING_AWAY)
        self._flush()
        await runner.cleanup()
        return EX_OK

    def _cannot_listen(self, error: OSError) -> int:
        where = f"{self.settings.host}:{self.settings.port}"
        why = "port is in use by another process" if error.errno == errno.EADDRINUSE else str(error)
        print(f"exchange: cannot listen on {where}: {why}; choose another with --port", file=sys.stderr)
        return EX_UNAVAILABLE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="TOML file; without it, demo accounts and a synthetic market")
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one and prints it")
    parser.add_argument("--seed", type=int, help="seed of market, faults and event order")
    parser.add_argument("--market", choices=("synthetic", "playback", "none"))
    parser.add_argument("--recording", action="append", default=[], metavar="FILES", help=RECORDING_HELP)
    parser.add_argument("--speed", type=float, help="playback speed, 1 is real time")
    parser.add_argument("--faults", default="", help=f"comma-separated: {', '.join(sorted(PRESETS))}")
    parser.add_argument("--for", dest="for_s", type=float, default=0.0, metavar="SECONDS", help="stop after that long")
    parser.add_argument("--control-token", help="token that /control/ requests must carry")
    parser.add_argument("--ready-file", type=Path, help="write the JSON line with the port here when ready")


def add_parser(subparsers: Any) -> None:
    """Add `exchange` to the command line."""
    add_arguments(subparsers.add_parser("exchange", help="serve the venues' protocols on loopback"))


def settings_from(args: argparse.Namespace) -> ExchangeSettings:
    """File, then flags. Raises ConfigError."""
    settings = load(args.config)
    changes: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("host", "port", "seed", "market", "control_token")
        if getattr(args, name) is not None
    }
    if args.recording:
        changes["recordings"] = args.recording
    if args.speed is not None:
        changes["playback_speed"] = args.speed
    if args.faults:
        changes["faults"] = [name for name in args.faults.split(",") if name]
    settings = msgspec.structs.replace(settings, **changes)
    problems = [f"faults: unknown preset {name!r}" for name in settings.faults if name not in PRESETS]
    if settings.market == "playback" and not settings.recordings:
        problems.append("market: playback needs at least one --recording")
    if problems:
        raise ConfigError(problems)
    return settings


def run(args: argparse.Namespace) -> int:
    """Run the exchange; returns the exit code."""
    try:
        settings = settings_from(args)
    except ConfigError as error:
        print(f"exchange: {error}", file=sys.stderr)
        return EX_CONFIG

    async def serve() -> int:
        server = Server(settings)
        return await server.run(announce=True, ready_file=args.ready_file, for_s=args.for_s)

    try:
        return uvloop.run(serve())
    except ConfigError as error:
        print(f"exchange: {error}", file=sys.stderr)
        return EX_CONFIG


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tickwright exchange", description=__doc__.splitlines()[0] if __doc__ else "")
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except SystemExit as stop:
        # argparse says 2 for what sysexits calls 64.
        return EX_USAGE if stop.code == 2 else EX_OK
