"""Time the engine's own part of tick to trade: from `Pipeline.on_frame` until the order's bytes are at the wire.

No socket and no kernel, so the figure is steadier than bench_tick_to_trade and says what a change of the core or of a
connector is worth. Real pipeline, core, gate, Bybit connector and journal; the wire keeps the last message. The order's
answer and report are fed between ticks, outside the timed part. `--profile` says where the time goes, by sampling.
Run: python -m bench.bench_path [--profile] [--count N].
"""

from __future__ import annotations

import argparse
import gc
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import orjson

from bench.bench_decode import bybit_depth
from bench.loopback import ROOT
from bench.rest_stub import EMPTY, RESULTS
from bench.tick_clients import CONFIG, TickTaker
from connectors.bybit import endpoints
from connectors.registry import CONNECTORS
from engine import strategies
from engine.config import parse_config
from engine.journal import Journal
from engine.pipeline import Pipeline
from engine.stages import NullStages
from engine.types import Venue
from engine.venue import Credentials

MS = 1_000_000
LEVELS = 20
SAMPLE_S = 0.0002
CHANNELS = (endpoints.PUBLIC_LINEAR, endpoints.PROBE_LINEAR, endpoints.PRIVATE, endpoints.TRADE)


class KeepingWire:
    """Takes everything, keeps what has to be answered."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, str]] = []
        self.connects: list[int] = []
        self.sent: list[tuple[int, bytes]] = []

    def connect(self, channel: int, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.connects.append(channel)

    def send(self, channel: int, payload: bytes | bytearray | memoryview) -> bool:
        self.sent.append((channel, bytes(payload)))
        return True

    def close(self, channel: int) -> None:
        pass

    def request(self, request_id: int, method: str, base_url: str, target: str, *args: Any, **kwargs: Any) -> None:
        self.requests.append((request_id, target.partition("?")[0]))

    def set_timer(self, at_ns: int) -> None:
        pass


class Ticker:
    """One engine without a shell: `tick()` gives back the ns from the frame to the wire."""

    def __init__(self, folder: Path) -> None:
        strategies.KINDS["tick_taker"] = TickTaker
        text = CONFIG.format(folder=folder, ws_port=1, rest_port=1, cpu=0)
        self.wire = KeepingWire()
        self.journal = Journal.open(folder / "journal", ring_mib=64, segment_mib=64)
        keys = {Venue.BYBIT: Credentials("bench-key", "bench-secret", "hmac", "local")}
        self.offset_ns = time.time_ns() - time.monotonic_ns()
        self.pipeline = Pipeline(
            parse_config(text), 1, self.journal.append, CONNECTORS, {Venue.BYBIT: self.wire}, keys, NullStages(),
            utc_offset_ns=self.offset_ns,
        )  # fmt: skip
        self.frames = self.make_frames()
        self.seq = 1
        self.start()

    def make_frames(self) -> list[tuple[bytes, bytes]]:
        """Frames of the near touch, parted where the sequence number belongs."""
        rng = random.Random(1)
        frames = [bybit_depth(rng, LEVELS) for _ in range(200)]
        apart = [frame for frame in frames if b'"61800.00"' not in frame][:64]  # a price on both sides would cross
        return [(head, tail) for head, _, tail in (frame.partition(b"18521289") for frame in apart)]

    def start(self) -> None:
        pipeline = self.pipeline
        pipeline.start(time.monotonic_ns())
        for _ in range(200):
            self.answer_all()
            if pipeline.core.is_open(0):
                return
            pipeline.on_timer(time.monotonic_ns())
            time.sleep(0.005)
        raise RuntimeError("the engine did not open its gate")

    def answer_all(self) -> None:
        """What the venue would: REST answers, connections, log-ins and subscriptions, the first book."""
        wire, pipeline = self.wire, self.pipeline
        while wire.requests:
            request_id, path = wire.requests.pop(0)
            result = {"timeNano": str(time.time_ns())} if path == endpoints.SERVER_TIME else RESULTS.get(path, EMPTY)
            body = orjson.dumps({"retCode": 0, "retMsg": "OK", "result": result, "time": time.time_ns() // MS})
            pipeline.on_response(request_id, 200, {}, body, time.monotonic_ns())
        while wire.connects:
            pipeline.on_connected(wire.connects.pop(0), time.monotonic_ns())
        while wire.sent:
            channel, payload = wire.sent.pop(0)
            self.acknowledge(channel, orjson.loads(payload))

    def acknowledge(self, channel: int, message: dict[str, Any]) -> None:
        answer = {"op": message["op"], "success": True, "retCode": 0, "req_id": message.get("req_id")}
        self.frame(channel, orjson.dumps(answer))
        if message["op"] == "subscribe" and channel in CHANNELS[:2]:
            depth = 50 if channel == endpoints.PUBLIC_LINEAR else 1
            rows = [[f"{61800 - 1 - i}.00", "5.000"] for i in range(depth)]
            asks = [[f"{61800 + 1 + i}.00", "5.000"] for i in range(depth)]
            fields = {"s": "BTCUSDT", "b": rows, "a": asks, "u": self.seq, "seq": self.seq}
            snapshot = {"topic": f"orderbook.{depth}.BTCUSDT", "type": "snapshot", "ts": 1, "data": fields, "cts": 1}
            self.frame(channel, orjson.dumps(snapshot))

    def frame(self, channel: int, payload: bytes) -> None:
        self.pipeline.on_frame(channel, payload, time.monotonic_ns())

    def tick(self) -> int:
        self.seq += 1
        head, tail = self.frames[self.seq & 63]
        payload = b"%b%d%b" % (head, self.seq, tail)
        on_frame, clock = self.pipeline.on_frame, time.perf_counter_ns
        now = time.monotonic_ns()
        start = clock()
        on_frame(endpoints.PUBLIC_LINEAR, payload, now)
        return clock() - start

    def settle(self) -> int:
        """Answer the order of the last tick; the number of orders there were."""
        orders = [orjson.loads(payload) for channel, payload in self.wire.sent if channel == endpoints.TRADE]
        self.wire.sent.clear()
        for order in orders:
            row = order["args"][0] | {"orderId": f"o-{self.seq}", "orderStatus": "Cancelled", "cumExecQty": "0",
                                      "rejectReason": "EC_NoImmediateQtyToFill", "updatedTime": "1"}  # fmt: skip
            header = {"X-Bapi-Limit": "1000000", "X-Bapi-Limit-Status": "999999"}
            answer = {"reqId": order["reqId"], "retCode": 0, "retMsg": "OK", "op": order["op"], "header": header,
                      "data": {"orderId": row["orderId"], "orderLinkId": row["orderLinkId"]}}  # fmt: skip
            self.frame(endpoints.TRADE, orjson.dumps(answer))
            self.frame(endpoints.PRIVATE, orjson.dumps({"topic": "order", "creationTime": 1, "data": [row]}))
        return len(orders)

    def close(self) -> None:
        self.journal.close()
        assert not self.pipeline.bugs, self.pipeline.bugs[0]


def ticks(ticker: Ticker, count: int) -> Iterator[int]:
    """Latencies of ticks that led to an order."""
    for _ in range(count):
        took = ticker.tick()
        if ticker.settle():
            yield took


def measure(count: int) -> list[int]:
    folder = Path(tempfile.mkdtemp(prefix="bench-path-"))
    ticker = Ticker(folder)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        list(ticks(ticker, max(20, count // 10)))
        return sorted(ticks(ticker, count))
    finally:
        gc.enable()
        gc.unfreeze()
        ticker.close()
        shutil.rmtree(folder)


class Sampler:
    """Which lines of Python are under way, every 0.2 ms; cProfile would count calls dearer than they are."""

    def __init__(self) -> None:
        self.own: Counter[str] = Counter()
        self.whole: Counter[str] = Counter()
        self.lines: Counter[str] = Counter()
        self.count = 0

    def take(self, number: int, frame: FrameType | None) -> None:
        names: list[str] = []
        line = ""
        while frame is not None and frame.f_code.co_name != "tick":
            where = f"{frame.f_code.co_filename.removeprefix(str(ROOT) + '/')}:{frame.f_code.co_qualname}"
            line = line or f"{where}:{frame.f_lineno}"
            names.append(where)
            frame = frame.f_back
        if frame is None or not names:
            return  # between ticks
        self.count += 1
        self.own[names[0]] += 1
        self.lines[line] += 1
        self.whole.update(set(names))

    def show(self, tick_us: float) -> None:
        for title, found in (("with what it calls", self.whole), ("alone", self.own), ("lines, alone", self.lines)):
            print(f"\n{title}: us of a tick of {tick_us:.1f} us, {self.count} samples")
            for name, count in found.most_common(28):
                print(f"  {count / self.count * tick_us:6.2f}  {name}")


def profile(count: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-path-"))
    ticker, sampler = Ticker(folder), Sampler()
    list(ticks(ticker, 500))
    signal.signal(signal.SIGALRM, sampler.take)
    signal.setitimer(signal.ITIMER_REAL, SAMPLE_S, SAMPLE_S)
    times = list(ticks(ticker, count))
    signal.setitimer(signal.ITIMER_REAL, 0)
    ticker.close()
    shutil.rmtree(folder)
    sampler.show(statistics.median(times) / 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--count", type=int, default=10_000)
    args = parser.parse_args()
    if args.profile:
        profile(args.count)
        return
    times = measure(args.count)
    least, p50, p99 = times[0], statistics.median(times), times[len(times) * 99 // 100]
    print(f"frame to order, no socket: min {least / 1000:.2f}  p50 {p50 / 1000:.2f}  p99 {p99 / 1000:.2f} us "
          f"({len(times)} orders of {args.count} ticks)")  # fmt: skip


if __name__ == "__main__":
    main()
