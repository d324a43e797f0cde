"""What the hot process asks of its machine: CPU, memory, garbage collection. A shell file."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
from collections.abc import Iterable
from typing import Final

from engine.loop_settings import LoopSettings

MCL_CURRENT: Final = 1
MCL_FUTURE: Final = 2
MCL_ONFAULT: Final = 4
SECOND: Final = 1_000_000_000

YOUNG_IDLE: Final = 1_000  # new containers worth a collection in an idle turn (some 20 us)
YOUNG_BUSY: Final = 50_000  # and in any turn, so that memory stays bounded
MIDDLE_EVERY_NS: Final = 30 * SECOND
OLD_EVERY_NS: Final = 600 * SECOND

log = logging.getLogger("engine.loop")


def set_affinity(cpus: Iterable[int]) -> None:
    """Let the calling thread run on these CPUs; refused is not fatal."""
    try:
        os.sched_setaffinity(0, set(cpus))
    except OSError as error:
        log.warning("cannot pin to CPU %s: %s", sorted(cpus), error.strerror)


def prepare(settings: LoopSettings) -> None:
    """Pin the calling thread and lock memory, as far as the settings ask and the system allows."""
    if settings.cpu is not None:
        set_affinity([settings.cpu])
    if settings.lock_memory:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0:
            log.warning("cannot lock memory: %s", os.strerror(ctypes.get_errno()))


class Collector:
    """Garbage collection by hand: never in the middle of a decision (a full one takes as long as there are objects),
    young objects in idle turns, everything allocated before the start not at all."""

    def __init__(self) -> None:
        self.collections = 0
        self._was_enabled = False
        self._frames = 0
        self._middle_at_ns = 0
        self._old_at_ns = 0

    def start(self) -> None:
        self._was_enabled = gc.isenabled()
        gc.collect()
        gc.freeze()
        gc.disable()

    def stop(self) -> None:
        gc.unfreeze()
        if self._was_enabled:
            gc.enable()

    def tick(self, now_ns: int, frame_count: int) -> None:
        """Call once a timer, after all else. A turn is idle when no frame came since the one before."""
        is_idle, self._frames = frame_count == self._frames, frame_count
        if not self._old_at_ns:
            self._middle_at_ns, self._old_at_ns = now_ns + MIDDLE_EVERY_NS, now_ns + OLD_EVERY_NS
        if is_idle and now_ns >= self._old_at_ns:
            generation, self._old_at_ns = 2, now_ns + OLD_EVERY_NS
        elif is_idle and now_ns >= self._middle_at_ns:
            generation, self._middle_at_ns = 1, now_ns + MIDDLE_EVERY_NS
        elif gc.get_count()[0] > (YOUNG_IDLE if is_idle else YOUNG_BUSY):
            generation = 0
        else:
            return
        gc.collect(generation)
        self.collections += 1
