"""Time one echo through the engine's shell: what loop, listener, journal record and wire add to a bare picows listener.

The peer is a picows server in another process that spins too; both clients run in turn against it, `REPEATS` times.
Units: us a round trip of 128 bytes, over loopback; compare the two of one run only. Warm-up is dropped.
Run: python bench/bench_loop.py [--block]
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import picows
import uvloop
from picows import WSListener, WSMsgType, WSTransport

from engine.loop import EngineLoop
from engine.loop_settings import LoopSettings
from engine.loop_wire import LoopWire
from engine.notify import Notifier
from ext.ring import Ring

COUNT = 6_000
WARM_UP = 1_000
REPEATS = 3
CHANNEL = 0x0101
PAYLOAD = b'{"topic":"orderbook.50.BTCUSDT"' + b"x" * 96 + b"}"


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: Any) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()


async def serve(spins: bool) -> None:
    server = await picows.ws_create_server(lambda _: Echo(), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()

    def spin() -> None:
        loop.call_soon(spin)

    if spins:
        spin()
    await asyncio.sleep(120)


class Bare(WSListener):
    """The shortest client in Python: no journal, no pipeline."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.done = asyncio.Event()
        self.sent_ns = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.sent_ns = time.monotonic_ns()
        transport.send(WSMsgType.TEXT, PAYLOAD)

    def on_ws_frame(self, transport: WSTransport, frame: Any) -> None:
        frame.get_payload_as_bytes()
        now = time.monotonic_ns()
        self.times.append(now - self.sent_ns)
        if len(self.times) < COUNT:
            self.sent_ns = time.monotonic_ns()
            transport.send(WSMsgType.TEXT, PAYLOAD)
        else:
            self.done.set()
            transport.disconnect()


class Shell:
    """A pipeline that answers every frame; and a journal that is a ring, emptied when half full."""

    def __init__(self, url: str, wire: LoopWire, folder: Path) -> None:
        self.url, self.wire = url, wire
        self.ring = Ring(folder / f"ring-{time.monotonic_ns()}", 1 << 24)
        self.times: list[int] = []
        self.sends: list[int] = []
        self.is_stopped = False
        self._sent_ns = 0

    def append(self, kind: int, source: int, ts_ns: int, payload: bytes) -> int:
        return self.ring.append(kind, source, ts_ns, payload)

    def start(self, ts_ns: int) -> None:
        self.wire.connect(CHANNEL, self.url)

    def _send(self) -> None:
        self._sent_ns = time.monotonic_ns()
        self.wire.send(CHANNEL, PAYLOAD)
        self.sends.append(time.monotonic_ns() - self._sent_ns)

    def on_connected(self, channel: int, ts_ns: int) -> None:
        self._send()

    def on_frame(self, channel: int, payload: bytes, ts_ns: int) -> None:
        self.times.append(time.monotonic_ns() - self._sent_ns)
        if len(self.times) < COUNT:
            self._send()
        else:
            self.is_stopped = True

    def on_timer(self, ts_ns: int) -> None:
        if self.ring.free_bytes < self.ring.capacity_bytes // 2:
            self.ring.drain(1 << 24)

    def on_disconnected(self, channel: int, reason: str, ts_ns: int) -> None: ...
    def on_response(
        self, request_id: int, status: int, headers: Mapping[str, str], body: bytes, ts_ns: int
    ) -> None: ...
    def on_command(self, name: str, args: dict[str, str], operator: str, ts_ns: int) -> None: ...
    def on_utc_offset(self, utc_offset_ns: int, ts_ns: int) -> None: ...


def bench_bare(url: str, spins: bool) -> list[int]:
    async def main() -> list[int]:
        listener = Bare()
        loop = asyncio.get_running_loop()

        def spin() -> None:
            if not listener.done.is_set():
                loop.call_soon(spin)

        await picows.ws_connect(lambda: listener, url)
        if spins:
            spin()
        await listener.done.wait()
        return listener.times[WARM_UP:]

    return uvloop.run(main())


def bench_shell(url: str, spins: bool, folder: Path) -> tuple[list[int], list[int]]:
    wire = LoopWire()
    shell = Shell(url, wire, folder)
    EngineLoop(shell, shell, LoopSettings(spin=spins), wire, notifier=Notifier({})).run()
    shell.ring.close()
    return shell.times[WARM_UP:], shell.sends[WARM_UP:]


def show(name: str, times: list[int]) -> None:
    times = sorted(times)
    at = [times[int(len(times) * q)] / 1000 for q in (0.5, 0.9, 0.99)]
    print(f"{name:24} p50 {at[0]:7.1f}  p90 {at[1]:7.1f}  p99 {at[2]:8.1f} us", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--block", action="store_true", help="sleep in the poll instead of spinning")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        uvloop.run(serve(not args.block))
        return
    command = [sys.executable, __file__, "--serve", *(["--block"] if args.block else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server, tempfile.TemporaryDirectory() as folder:
        assert server.stdout is not None
        url = f"ws://127.0.0.1:{int(server.stdout.readline())}/"
        for _ in range(REPEATS):
            show("bare picows listener", bench_bare(url, not args.block))
            times, sends = bench_shell(url, not args.block, Path(folder))
            show("shell", times)
            show("  of it wire.send", sends)
        server.terminate()


if __name__ == "__main__":
    main()
