"""Bybit's request limits: rolling one-second windows per user and endpoint group, and a five-second one per IP.

Source: bybit-exchange/docs, "Rate Limit", snapshot 2026-07-24. A batch costs one per order and has its own window.
Times are UTC ns, given by the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MS: Final = 1_000_000
SECOND: Final = 1_000 * MS

PER_SECOND: Final[dict[str, int]] = {
    "create.linear": 10,
    "amend.linear": 10,
    "cancel.linear": 10,
    "cancel-all.linear": 10,
    "create.spot": 20,
    "amend.spot": 10,
    "cancel.spot": 20,
    "cancel-all.spot": 20,
    "create-batch.linear": 10,
    "amend-batch.linear": 10,
    "cancel-batch.linear": 10,
    "create-batch.spot": 20,
    "amend-batch.spot": 20,
    "cancel-batch.spot": 20,
    "realtime": 50,
    "order-history": 50,
    "executions": 50,
    "positions": 50,
    "wallet": 50,
    "fee-rate": 5,
    "dcp": 5,
    "account": 50,
    "config": 10,
}
RESET_AHEAD_NS: Final = 50 * MS
IP_LIMIT: Final = 600
IP_WINDOW_NS: Final = 5 * SECOND
IP_BAN_NS: Final = 600 * SECOND
WS_TRADE_PER_SECOND: Final = 3000


@dataclass(frozen=True, slots=True)
class Grant:
    """Answer of a window: whether the request may go on, and the three figures of the headers."""

    ok: bool
    limit: int
    left: int
    reset_ms: int

    def headers(self) -> dict[str, str]:
        return {
            "X-Bapi-Limit": str(self.limit),
            "X-Bapi-Limit-Status": str(self.left),
            "X-Bapi-Limit-Reset-Timestamp": str(self.reset_ms),
        }


@dataclass(slots=True)
class Limits:
    """`squeeze` scales every limit down (faults); `factor` is the account's tier."""

    per_second: Mapping[str, int] = field(default_factory=lambda: dict(PER_SECOND))
    factor: float = 1.0
    squeeze: float = 1.0
    _windows: dict[tuple[int, str], deque[int]] = field(default_factory=dict)
    _ips: dict[str, deque[int]] = field(default_factory=dict)
    _banned: dict[str, int] = field(default_factory=dict)
    _ws: dict[str, deque[int]] = field(default_factory=dict)

    def limit(self, group: str) -> int:
        return max(1, int(self.per_second[group] * self.factor * self.squeeze))

    def take(self, account_id: int, group: str, now_ns: int, cost: int = 1) -> Grant:
        """Count a request. A refused one is not counted: the window empties by itself."""
        limit = self.limit(group)
        window = self._windows.setdefault((account_id, group), deque())
        while window and window[0] <= now_ns - SECOND:
            window.popleft()
        if len(window) + cost > limit:
            # Never so close that it has passed when the client reads it: pybit fails to sleep a negative time.
            reset_ns = max((window[0] if window else now_ns) + SECOND, now_ns + RESET_AHEAD_NS)
            return Grant(False, limit, 0, -(-reset_ns // MS))
        window.extend([now_ns] * cost)
        return Grant(True, limit, limit - len(window), now_ns // MS)

    def ip_allows(self, peer_ip: str, now_ns: int) -> bool:
        """False answers HTTP 403 and bans the address for ten minutes."""
        until_ns = self._banned.get(peer_ip, 0)
        if now_ns < until_ns:
            return False
        window = self._ips.setdefault(peer_ip, deque())
        while window and window[0] <= now_ns - IP_WINDOW_NS:
            window.popleft()
        if len(window) >= max(1, int(IP_LIMIT * self.squeeze)):
            self._banned[peer_ip] = now_ns + IP_BAN_NS
            return False
        window.append(now_ns)
        return True

    def pardon(self) -> None:
        """Lift every ban."""
        self._banned.clear()
        self._ips.clear()

    def ws_allows(self, peer_ip: str, now_ns: int) -> bool:
        """The order socket's limit per address; False answers 10403."""
        window = self._ws.setdefault(peer_ip, deque())
        while window and window[0] <= now_ns - SECOND:
            window.popleft()
        if len(window) >= WS_TRADE_PER_SECOND:
            return False
        window.append(now_ns)
        return True
