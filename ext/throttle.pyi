"""Request budgets with priorities. See ext/throttle.pyx."""

from collections.abc import Sequence
from typing import Final, Self, final

CALENDAR: Final = 0
ROLLING: Final = 1

CANCEL: Final = 0
HEDGE: Final = 1
REDUCE: Final = 2
NEW: Final = 3
QUERY: Final = 4
BULK: Final = 5

NEVER: Final[int]
"""The wait for a weight that is larger than the whole budget: 2**63 - 1."""

@final
class Throttle:
    """One budget of a venue: `capacity` weight a window.

    CALENDAR: fixed windows aligned to server time (Binance). ROLLING: any `window_ns` long span of time (Bybit).
    Of the capacity a class sees: CANCEL all, HEDGE all but 1/2 of the reserve, REDUCE all but 3/4, NEW all but the
    reserve, QUERY all but 1.5 and BULK all but 2 times the reserve. A weight above its class's share, but not above
    the capacity, is granted when the window is empty.

    `guard_ns` is the sum of clock error and network jitter that the venue's window is held against; -1 takes 1/50 of
    the window, at most 100 ms.
    Units: time in ns, monotonic, given by the caller; it never sleeps.  Cost: <= 100 ns a decision, no allocation.
    """

    def __new__(
        cls, capacity: int, window_ns: int, kind: int, reserve_ppm: int = 200_000, guard_ns: int = -1
    ) -> Self: ...
    def acquire(self, weight: int, priority: int, now_ns: int) -> int:
        """Take the weight and return 0, or take nothing and return the wait in ns until asking again makes sense."""
    def peek(self, weight: int, priority: int, now_ns: int) -> int:
        """What `acquire` would return; takes nothing and counts nothing."""
    def on_used(self, used: int, now_ns: int, sent_ns: int = 0) -> None:
        """Learn the venue's count of this window: used = max(local, venue). Negative counts are ignored.

        With `sent_ns` (when the request left), a count that may belong to the window before is ignored.
        """
    def on_remaining(self, remaining: int, limit: int, now_ns: int) -> None:
        """Learn the venue's limit and what is left of it: capacity = limit, used = max(local, limit - remaining)."""
    def freeze(self, until_ns: int, priority: int = 0) -> None:
        """Open the circuit: refuse this priority and all below it until then. A shorter freeze never cuts a longer."""
    def unfreeze(self) -> None:
        """Close the circuit at once (operator)."""
    def is_open(self, now_ns: int) -> bool:
        """Whether the circuit is open: some class is frozen."""
    def set_capacity(self, capacity: int) -> None: ...
    def set_server_offset(self, offset_ns: int) -> None:
        """Align calendar windows: server's UTC = now + offset. What was used stays used."""
    def _check(self) -> None:
        """Raise AssertionError unless what must hold between any two calls does."""
    def used(self, now_ns: int) -> int:
        """Weight that counts against the window at this time."""
    def headroom_ppm(self, now_ns: int) -> int:
        """Free part of the capacity in parts per million; 0 while the circuit is open."""
    @property
    def capacity(self) -> int: ...
    @property
    def window_ns(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def guard_ns(self) -> int: ...
    @property
    def frozen_until_ns(self) -> int: ...
    @property
    def granted_count(self) -> int: ...
    @property
    def granted_weight(self) -> int: ...
    @property
    def refused_count(self) -> int: ...
    @property
    def refused_by_priority(self) -> tuple[int, ...]: ...
    @property
    def freeze_count(self) -> int: ...
    @property
    def foreign_weight(self) -> int:
        """Weight learnt from the venue that this process did not take: others use the same budget."""

def acquire_all(throttles: Sequence[Throttle], weights: Sequence[int], priority: int, now_ns: int) -> int:
    """Take every weight from its throttle and return 0, or take nothing and return the longest wait in ns."""
