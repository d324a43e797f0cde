"""`tickwright run`: start one engine from its configuration, or the whole demonstration with `--demo`."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import time
from pathlib import Path
from typing import Any

from connectors.registry import CONNECTORS
from engine.errors import ConfigError, CredentialError, VenueUnreachable
from engine.journal import Journal, file_system_warning
from engine.loop import EngineLoop, measure_utc_offset
from engine.loop_wire import LoopWire
from engine.metrics import PAGE_NAME, Metrics
from engine.pipeline import Pipeline
from engine.publish import Publisher
from engine.records import RecordKind, RunStart, encode_run_start
from engine.state import load, save
from engine.types import Venue
from engine.venue import Credentials
from tools.recovery import Recovered, recover
from tools.settings import LoadedConfig, load_config, load_credentials, state_dir
from tools.version import VERSION

PUBLISH_EVERY_NS = 100_000_000
JOURNAL_FOLDER = "journal"
CONTROL_NAME = "control.sock"
CONNECT_DEADLINE_NS = 20_000_000_000
STRICT_TIMEOUT_S = 0.5

log = logging.getLogger("tickwright")


class Engine:
    """Journal, pipeline, loop and statistics of one run, put together."""

    def __init__(self, loaded: LoadedConfig) -> None:
        self.loaded = loaded
        config = loaded.config
        self.credentials = load_credentials(loaded)
        self.folder = state_dir(loaded)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.journal = self._open_journal()
        try:
            recovered = self._recovered
            self.epoch = self.journal.raise_epoch()
            self.metrics = Metrics(self.folder / PAGE_NAME, [venue.name.lower() for venue in config.venue_list()])
            self.wire = LoopWire(busy_poll_us=config.loop.busy_poll_us, redact=redactions(self.credentials))
            self.wire.stages = self.metrics.stages
            self.utc_offset_ns = measure_utc_offset()
            restored = save(recovered.state) if recovered.run_count else b""
            self.pipeline = Pipeline(
                config,
                self.epoch,
                self.append_strictly if config.journal.durability == "strict" else self.journal.append,
                CONNECTORS,
                dict.fromkeys(config.venue_list(), self.wire),
                self.credentials,
                self.metrics.stages,
                utc_offset_ns=self.utc_offset_ns,
                # Through the very bytes of RUN_START, so that a replay starts from nothing less and nothing more.
                state=load(restored) if restored else None,
            )
            self.run_start = self._run_start(restored)
            self.publisher = Publisher(self.pipeline, self.metrics, self.epoch)
            self._next_publish_ns = 0
            self._started_ns = time.monotonic_ns()
        except BaseException:
            self.journal.close()
            raise

    def _open_journal(self) -> Journal:
        """Hold the journal, with the ledger folded from what every earlier run left, its ring included."""
        path, settings = self.folder / JOURNAL_FOLDER, self.loaded.config.journal
        warning = file_system_warning(self.folder)
        if warning:
            log.warning("%s", warning)

        def held() -> Journal:
            return Journal.open(
                path,
                ring_mib=settings.ring_mib,
                segment_mib=settings.segment_mib,
                sync_interval_ms=settings.sync_interval_ms,
                durability=settings.durability,
                keep_off_cpu=self.loaded.config.loop.cpu,
            )

        # Opening drains what a killed run left in the ring; a journal is read by who does not write it.
        held().close()
        self._recovered: Recovered = recover(path)
        return held()

    def _run_start(self, restored: bytes) -> bytes:
        return encode_run_start(
            RunStart(
                version=VERSION,
                config_toml=self.loaded.text,
                config_hash=self.loaded.hash,
                instance=self.loaded.config.engine.instance,
                epoch=self.epoch,
                utc_offset_ns=self.utc_offset_ns,
                venues_with_keys=[venue.name for venue in self.credentials],
                restored=restored,
            )
        )

    def append_strictly(self, kind: int, source: int, ts_ns: int, payload: bytes) -> int:
        """With `journal.durability = "strict"`: an intent is on the disk before the wire. Costs a group commit, 0.3 ms
        at p50 (bench/bench_journal.py), on the hot thread; one that takes longer than the timeout is not sent."""
        seq = self.journal.append(kind, source, ts_ns, payload)
        if kind == RecordKind.ORDER_PLACED and seq > 0 and not self.journal.wait_durable(seq, STRICT_TIMEOUT_S):
            return -1
        return seq

    def on_tick(self, now_ns: int) -> None:
        if now_ns >= self._next_publish_ns:
            self._next_publish_ns = now_ns + PUBLISH_EVERY_NS
            self.publisher.publish(now_ns, self.journal)
            self._watch_start(now_ns)

    def _watch_start(self, now_ns: int) -> None:
        """An engine whose venues cannot be reached at all ends instead of waiting for ever."""
        core = self.pipeline.core
        if self._started_ns and now_ns - self._started_ns > CONNECT_DEADLINE_NS:
            if not core.instruments:
                core.fatal = core.fatal or "no venue could be reached"
                self.loop.begin_stop("no venue could be reached")
            self._started_ns = 0

    def run(self, seconds: float) -> int:
        config = self.loaded.config
        self.loop = EngineLoop(
            self.pipeline,
            self.journal,
            config.loop,
            self.wire,
            control_path=self.folder / CONTROL_NAME,
            on_tick=self.on_tick,
            stop_timeout_ns=(config.engine.stop_timeout_ms + 3_000) * 1_000_000,
        )
        try:
            code = self.loop.run(self.run_start, stop_after_s=seconds)
            self.publisher.publish(time.monotonic_ns(), self.journal)
        finally:
            self.journal.close()
        return self._end(code)

    def _end(self, code: int) -> int:
        core = self.pipeline.core
        left = [f"{order.cl_ord_id:#x} {order.status.name}" for order in core.state.open_orders.values()]
        if left:
            log.error("orders that may still live: %s", ", ".join(left))
            code = code or 1
        if core.fatal:
            refused = any(health.refusal for health in core.health.values())
            unreachable = core.fatal == "no venue could be reached"
            kind = VenueUnreachable if unreachable else CredentialError if refused else None
            if kind is not None:
                raise kind(core.fatal)
            log.error("halted: %s", core.fatal)
            code = code or 1
        return code


def redactions(credentials: dict[Venue, Credentials]) -> dict[int, tuple[bytes, ...]]:
    """Secrets that a venue may echo, for the channels that carry them; market data is not searched."""
    found: dict[int, tuple[bytes, ...]] = {}
    for venue, keys in credentials.items():
        endpoints = importlib.import_module(f"connectors.{venue.name.lower()}.endpoints")
        secrets = (keys.api_key.encode(), keys.secret.encode())
        found.update(dict.fromkeys(endpoints.SECRET_CHANNELS, secrets))
    return found


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "run",
        help="start the engine",
        epilog="example: tickwright run --config config/demo.toml --demo --for 60",
    )
    parser.add_argument("-c", "--config", type=Path, required=True, help="configuration file")
    parser.add_argument("--for", dest="for_s", type=float, default=0.0, metavar="SECONDS", help="stop after this long")
    parser.add_argument("--demo", action="store_true", help="start the local exchange too, watch, judge and replay")
    parser.add_argument("--seed", type=int, default=1, help="with --demo: seed of the synthetic market")
    parser.add_argument("--faults", default="", metavar="NAMES", help="with --demo: disconnects,duplicates,late-fills")
    parser.add_argument("--json", action="store_true", help="with --demo: print the report as one JSON object")


def run(args: argparse.Namespace) -> int:
    if args.for_s < 0:
        raise ConfigError([f"--for: must be 0 or more seconds, was {args.for_s}"])
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    if args.demo:
        from tools.demo import run_demo

        return run_demo(args)
    return Engine(load_config(args.config)).run(args.for_s)
