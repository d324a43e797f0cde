"""The shell: one uvloop thread that brings inputs to the pipeline and the pipeline's wishes to the world.

Owns the loop, the clock, the signals, the watchdog and the order "journal first, then the pipeline" for every input.
It decides nothing about trading. Shell file: it may read clocks and sockets, and nothing in `engine/` outside the
shell may import it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from heapq import heappop, heappush
from pathlib import Path
from typing import Final, Protocol

import uvloop

from engine import hot_process, records
from engine.control import ControlServer
from engine.http import HttpClient
from engine.loop_settings import LoopSettings
from engine.loop_wire import LoopWire
from engine.notify import Notifier
from engine.records import RecordKind

MS: Final = 1_000_000
REQUEST_VENUE_SHIFT: Final = 40  # request ids are venue << 40 | counter
SECOND: Final = 1_000_000_000
STOP_TIMEOUT_NS: Final = 15 * SECOND
UTC_OFFSET_EVERY_NS: Final = 10 * SECOND
HEARTBEAT_MAX_NS: Final = 100 * MS
RING_LOW: Final = 0.25  # free part of the ring below which nothing new is opened
RING_HEALTHY: Final = 0.5
MAX_FAULTS: Final = 20
SECRET_BODY: Final = b'{"redacted":true}'
SECRET_HEADERS: Final = ("set-cookie", "authorization")

EXIT_OK: Final = 0
EXIT_FOUND: Final = 1
EXIT_INTERRUPTED: Final = 130

log = logging.getLogger("engine.loop")


class PipelineFace(Protocol):
    """What the shell needs of engine.pipeline.Pipeline; `is_ready` and `status` are used where they exist."""

    is_stopped: bool

    def start(self, ts_ns: int) -> None: ...
    def on_frame(self, channel: int, payload: bytes, ts_ns: int) -> None: ...
    def on_response(
        self, request_id: int, status: int, headers: Mapping[str, str], body: bytes, ts_ns: int
    ) -> None: ...
    def on_connected(self, channel: int, ts_ns: int) -> None: ...
    def on_disconnected(self, channel: int, reason: str, ts_ns: int) -> None: ...
    def on_timer(self, ts_ns: int) -> None: ...
    def on_command(self, name: str, args: dict[str, str], operator: str, ts_ns: int) -> None: ...
    def on_utc_offset(self, utc_offset_ns: int, ts_ns: int) -> None: ...


class JournalFace(Protocol):
    """What the shell needs of engine.journal.Journal; `ring`, `failed` and `free_fraction` where they exist."""

    def append(self, kind: int, source: int, ts_ns: int, payload: bytes) -> int: ...


def measure_utc_offset() -> int:
    """Wall clock minus monotonic clock in ns: the sample between the two closest readings of the latter."""
    samples = []
    for _ in range(5):
        before = time.monotonic_ns()
        utc = time.time_ns()
        after = time.monotonic_ns()
        samples.append((after - before, utc - (before + after) // 2))
    return min(samples)[1]


class EngineLoop:
    """Run one engine until it has stopped.

    `wire` is the LoopWire that the pipeline's connectors were given. `control_path`: where to listen for commands.
    `on_tick(now_ns)` is called after every timer, for statistics.
    """

    def __init__(
        self,
        pipeline: PipelineFace,
        journal: JournalFace,
        settings: LoopSettings,
        wire: LoopWire,
        *,
        control_path: Path | None = None,
        ca_file: str = "",
        on_tick: Callable[[int], None] | None = None,
        notifier: Notifier | None = None,
        stop_timeout_ns: int = STOP_TIMEOUT_NS,
    ) -> None:
        self.pipeline = pipeline
        self.on_frame = pipeline.on_frame  # journaled by the listener; no step of ours between the two
        self.response_count = 0
        self.request_failures = 0
        self.disconnect_count = 0
        self.journal_failures = 0
        self.fault_count = 0
        self.timer_count = 0
        self.timer_late_ns_max = 0
        self.is_ready = False
        self.stop_reason = ""
        self._journal = journal
        self._settings = settings
        self._wire = wire
        self._control_path = control_path
        self._ca_file = ca_file
        self._on_tick = on_tick
        self._notifier = Notifier() if notifier is None else notifier
        self._stop_timeout_ns = stop_timeout_ns
        self._stop_deadline_ns = 0
        self._exit_code: int | None = None
        self._is_journal_low = False
        self._failures_seen = 0
        self._bugs_shown = 0
        self._due: list[int] = []  # ms, monotonic; a heap without doubles
        self._due_set: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_ns = 0
        self._next_tick_ns = 0
        self._next_offset_ns = 0
        self._next_watchdog_ns = 0
        self._is_spinning = False
        self._started_ns = 0
        self._http: HttpClient
        self._collector = hot_process.Collector()
        self._loop: asyncio.AbstractEventLoop

    # --- life ---

    def run(self, run_start: bytes = b"", stop_after_s: float = 0.0) -> int:
        """Returns the exit code: 0 stopped in order, 1 not in order, 130 a second signal.

        `run_start` is journaled as RUN_START with the very time that `pipeline.start` is called with.
        """
        self._loop = loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.set_exception_handler(self._on_loop_error)
        cpus = os.sched_getaffinity(0)
        loop.set_default_executor(
            # Name look-ups must not sit on the hot CPU, and threads inherit the affinity of who starts them.
            ThreadPoolExecutor(2, "tickwright-io", initializer=hot_process.set_affinity, initargs=(cpus,))
        )
        self._http = HttpClient(loop, ca_file=self._ca_file, on_error=self._fault)
        self._http.tls()  # a key log file is refused here, and loading authorities later would stall the loop
        self._wire.bind(loop, self._http, self, getattr(self._journal, "ring", None) or self._journal.append)
        control = ControlServer(loop, self._control_path, self.on_control) if self._control_path is not None else None
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        hot_process.prepare(self._settings)
        if stop_after_s:
            loop.call_later(stop_after_s, self.begin_stop, "timer")
        loop.call_soon(self._start, run_start)
        try:
            self._collector.start()
            loop.run_forever()
        finally:
            self._collector.stop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            if control is not None:
                control.close()
            self._close()
        assert self._exit_code is not None, "loop ended without a reason"
        return self._exit_code

    def _start(self, run_start: bytes) -> None:
        now = self._started_ns = time.monotonic_ns()
        if run_start:
            self._record(RecordKind.RUN_START, 0, now, run_start)
        self._next_tick_ns = now
        self._next_watchdog_ns = now
        self._guarded(self.pipeline.start, now)
        self._send_utc_offset(now)
        self._schedule()
        self._maybe_spin()

    def begin_stop(self, operator: str) -> None:
        """Ask the pipeline to stop; the loop ends when it has, or at the deadline."""
        if self._stop_deadline_ns:
            return
        self.stop_reason = operator
        self._stop_deadline_ns = time.monotonic_ns() + self._stop_timeout_ns
        self._notifier.stopping(f"stopping: {operator}")
        self.command("stop", {}, operator)

    def _finish(self, code: int) -> None:
        if self._exit_code is None:
            self._exit_code = code
            self._is_spinning = False
            self._loop.stop()

    def _close(self) -> None:
        loop = self._loop
        now = time.monotonic_ns()
        if self._started_ns:
            self._record(RecordKind.RUN_STOP, 0, now, records.encode_int(self._exit_code or 0))
        # From here on nothing is an input any more.
        self._wire.abort_all()
        self._http.close()
        if self._timer is not None:
            self._timer.cancel()
        # Aborted transports and cancelled connects end here; a thread stuck in a name look-up is not waited for.
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.wait(pending, timeout=0.5) if pending else asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0.002))
        self._notifier.close()
        asyncio.set_event_loop(None)
        loop.close()

    # --- inputs: journal first, then the pipeline ---

    def on_connected(self, channel: int, recv_ts_ns: int) -> None:
        self._record(RecordKind.CONNECTED, channel, recv_ts_ns, b"")
        self.pipeline.on_connected(channel, recv_ts_ns)

    def on_disconnected(self, channel: int, reason: str, recv_ts_ns: int) -> None:
        if self._exit_code is not None:
            return
        now = recv_ts_ns or time.monotonic_ns()
        self.disconnect_count += 1
        self._record(RecordKind.DISCONNECTED, channel, now, reason.encode())
        self._guarded(self.pipeline.on_disconnected, channel, reason, now)

    def on_response(self, request_id: int, status: int, headers: dict[str, str], body: bytes, is_secret: bool) -> None:
        if self._exit_code is not None:
            return
        now = time.monotonic_ns()
        self.response_count += 1
        self.request_failures += status == 0
        headers = {name: value for name, value in headers.items() if name not in SECRET_HEADERS}
        venue = request_id >> REQUEST_VENUE_SHIFT
        body = self._wire.redacted(venue, body)
        shown = SECRET_BODY if is_secret and status else body
        self._record(RecordKind.RESPONSE, venue, now, records.encode_response(request_id, status, headers, shown))
        self._guarded(self.pipeline.on_response, request_id, status, headers, body, now)

    def command(self, name: str, args: dict[str, str], operator: str) -> None:
        now = time.monotonic_ns()
        self._record(RecordKind.COMMAND, 0, now, records.encode_command(name, args, operator))
        self._guarded(self.pipeline.on_command, name, args, operator, now)

    def _send_utc_offset(self, now: int) -> None:
        offset_ns = measure_utc_offset()
        self._next_offset_ns = now + UTC_OFFSET_EVERY_NS
        self._record(RecordKind.UTC_OFFSET, 0, now, records.encode_int(offset_ns))
        self._guarded(self.pipeline.on_utc_offset, offset_ns, now)

    def _record(self, kind: int, source: int, ts_ns: int, payload: bytes) -> None:
        if self._journal.append(kind, source, ts_ns, payload) < 0:
            self.journal_failures += 1
            self._reduce("the journal refused a record")

    def on_journal_error(self, channel: int, code: int) -> None:
        self.journal_failures += 1
        self._reduce("the journal refused a frame")

    # Not at once: the input whose record was refused comes first, or a replay would see them the other way round.
    def _reduce(self, reason: str) -> None:
        if not self._is_journal_low:
            self._is_journal_low = True
            log.error("%s; reducing only", reason)
            self._loop.call_soon(self.command, "reduce_only", {"reason": reason}, "engine")

    # --- time ---

    def wake_at(self, at_ns: int) -> None:
        due_ms = -(-at_ns // MS)
        if due_ms in self._due_set:
            return
        self._due_set.add(due_ms)
        heappush(self._due, due_ms)
        if self._timer is not None and due_ms * MS < self._timer_at_ns:
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at_ns = min(self._due[0] * MS, self._next_tick_ns) if self._due else self._next_tick_ns
        self._timer_at_ns = at_ns
        # libuv counts whole milliseconds from a clock of its own turn: round up, and look again when early.
        delay_ms = max(0, -(-(at_ns - time.monotonic_ns()) // MS))
        self._timer = self._loop.call_later(delay_ms / 1000, self._on_timer)

    def _on_timer(self) -> None:
        now = time.monotonic_ns()
        is_due = now >= self._next_tick_ns
        while self._due and self._due[0] * MS <= now:
            self._due_set.discard(heappop(self._due))
            is_due = True
        if is_due:
            self.timer_late_ns_max = max(self.timer_late_ns_max, now - self._timer_at_ns)
            self._next_tick_ns = now + min(self._settings.timer_ms * MS, HEARTBEAT_MAX_NS)
            self.timer_count += 1
            self._record(RecordKind.TIMER, 0, now, b"")
            self._guarded(self.pipeline.on_timer, now)
            self._keep_house(now)
        if self._exit_code is None:
            self._schedule()

    def _keep_house(self, now: int) -> None:
        if self.pipeline.is_stopped:
            is_clean = self.fault_count == 0 and not getattr(self.pipeline, "bugs", None)
            self._finish(EXIT_OK if is_clean else EXIT_FOUND)
            return
        if self._stop_deadline_ns and now >= self._stop_deadline_ns:
            log.error("not stopped after %d ms; ending anyway", self._stop_timeout_ns // MS)
            self._finish(EXIT_FOUND)
            return
        if now >= self._next_offset_ns:
            self._send_utc_offset(now)
        if self._notifier.watchdog_ns and now >= self._next_watchdog_ns:
            self._notifier.watchdog()
            self._next_watchdog_ns = now + self._notifier.watchdog_ns // 3
        if not self.is_ready and not self._stop_deadline_ns and getattr(self.pipeline, "is_ready", True):
            self.is_ready = True
            self._notifier.ready("trading")
        self._check_journal()
        self._show_bugs()
        self._maybe_spin()
        self._collector.tick(now, self._wire.frame_count)
        if self._on_tick is not None:
            self._on_tick(now)

    def _check_journal(self) -> None:
        free = getattr(self._journal, "free_fraction", 1.0)
        failed = getattr(self._journal, "failed", "")
        is_refusing, self._failures_seen = self.journal_failures > self._failures_seen, self.journal_failures
        if self._is_journal_low:
            self._is_journal_low = is_refusing or bool(failed) or free < RING_HEALTHY
        elif failed:
            self._reduce(f"the journal has failed: {failed}")
        elif free < RING_LOW:
            self._reduce(f"the journal's ring is {100 - int(free * 100)} % full")

    def _show_bugs(self) -> None:
        bugs = getattr(self.pipeline, "bugs", ())
        for text in bugs[self._bugs_shown :]:
            log.error("invariant broken, trading halted: %s", text)
        self._bugs_shown = len(bugs)

    def _maybe_spin(self) -> None:
        # Connecting waits for threads that need the interpreter; a spinning loop would hold it.
        if self._settings.spin and not self._is_spinning and not self._wire.connecting_count:
            self._is_spinning = True
            self._loop.call_soon(self._spin)

    def _spin(self) -> None:
        if self._is_spinning and not self._wire.connecting_count:
            self._loop.call_soon(self._spin)
        else:
            self._is_spinning = False

    # --- trouble ---

    def on_listener_error(self, channel: int, error: BaseException) -> None:
        self._fault(error)

    def _guarded(self, call: Callable[..., None], *args: object) -> None:
        try:
            call(*args)
        except BaseException as error:
            self._fault(error)

    def _fault(self, error: BaseException) -> None:
        """An exception came out of the pipeline or the shell: our bug. Cancel everything, then stop."""
        if isinstance(error, KeyboardInterrupt | SystemExit):
            self._finish(EXIT_INTERRUPTED)
            return
        self.fault_count += 1
        log.error("fault %d", self.fault_count, exc_info=error)
        if self.fault_count == 1:
            self.command("kill", {"reason": f"{type(error).__name__}: {error}"}, "engine")
            self.begin_stop("fault")
        elif self.fault_count >= MAX_FAULTS:
            self._finish(EXIT_FOUND)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
        error = context.get("exception")
        if self._exit_code is None and isinstance(error, Exception) and not isinstance(error, OSError):
            self._fault(error)
        else:
            log.warning("loop: %s", context.get("message"))

    def _on_signal(self) -> None:
        if self._stop_deadline_ns:
            self._finish(EXIT_INTERRUPTED)
        else:
            self.begin_stop("signal")

    # --- commands ---

    def on_control(self, name: str, args: dict[str, str], operator: str) -> dict[str, object]:
        """Carry out one command of the control socket and say what it changed."""
        if name == "stop":
            self.begin_stop(operator)
        elif name != "status":
            self.command(name, args, operator)
        return self.status()

    def status(self) -> dict[str, object]:
        status: dict[str, object] = {
            "is_ready": self.is_ready,
            "is_stopping": self._stop_deadline_ns > 0,
            "uptime_s": (time.monotonic_ns() - self._started_ns) // SECOND,
            "frames": self._wire.frame_count,
            "responses": self.response_count,
            "request_failures": self.request_failures,
            "channels": self._wire.connected_channels,
            "disconnects": self.disconnect_count,
            "journal_failures": self.journal_failures,
            "faults": self.fault_count,
        }
        more = getattr(self.pipeline, "status", None)
        return status | more() if callable(more) else status
