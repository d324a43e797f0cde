"""`[loop]` of the configuration: how the hot process runs. Pure, so that the core's configuration may hold it."""

from __future__ import annotations

import msgspec


class LoopSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    cpu: int | None = None  # pin the hot thread to this CPU
    spin: bool = False  # never sleep in the poll: one core is burnt, a wake-up is saved
    timer_ms: int = 50
    busy_poll_us: int = 0  # SO_BUSY_POLL on the sockets, where the kernel allows it
    lock_memory: bool = False  # mlockall with MCL_ONFAULT
