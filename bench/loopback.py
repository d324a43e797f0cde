"""Build and run the C ends of the tick-to-trade benchmark (bench/native), each in a process of its own.

The machine this was made for has two CPUs: the venue spins on one, the client under test on the other.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "bench" / "native"
BUILD = ROOT / "build" / "bench"
VENUE_CPU, CLIENT_CPU = 0, 1
PACE_US = 300


def compiled(name: str) -> Path:
    """Path of the program made from bench/native/NAME.h, compiled when it is older than any header."""
    BUILD.mkdir(parents=True, exist_ok=True)
    program = BUILD / name
    newest = max(path.stat().st_mtime for path in NATIVE.glob("*.h"))
    if not program.exists() or program.stat().st_mtime < newest:
        made = BUILD / f"{name}.{os.getpid()}"
        compiler = os.environ.get("CC", "cc").split()
        command = [*compiler, "-x", "c", "-O2", "-Wall", "-std=gnu11", str(NATIVE / f"{name}.h"), "-o", str(made)]
        subprocess.run(command, check=True)
        made.replace(program)
    return program


def client_cpu() -> int:
    """The second CPU, or the only one."""
    return sorted(os.sched_getaffinity(0))[-1]


class VenueProcess:
    """The spinning venue: `port` at once, `result()` when a client has traded all rounds."""

    def __init__(self, levels: int, warm_up: int, closed: int, paced: int, pace_us: int = PACE_US) -> None:
        cpu = sorted(os.sched_getaffinity(0))[0]
        numbers = [cpu, levels, warm_up, closed, paced, pace_us]
        command = [str(compiled("venue")), *map(str, numbers)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def result(self) -> dict[str, Any]:
        """Latencies in ns by phase. Raises RuntimeError when the venue ended without."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith("}\n"):
            raise RuntimeError(f"the loopback venue ended with {self.process.wait()} and said {line!r}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def end(process: subprocess.Popen[Any], patience_s: float = 15.0) -> int:
    """Ask a client to end and wait for it; its exit code."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
