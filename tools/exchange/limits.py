"""Request limits, told the time: fixed calendar buckets (Binance) and rolling windows (Bybit).

Owns counters only; what a breach answers is the front's. `squeeze` scales every limit (fault injection).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

SECOND: Final = 1_000_000_000
INTERVALS: Final = {"SECOND": SECOND, "MINUTE": 60 * SECOND, "HOUR": 3600 * SECOND, "DAY": 86400 * SECOND}
LETTERS: Final = {"SECOND": "S", "MINUTE": "M", "HOUR": "H", "DAY": "D"}


@dataclass(frozen=True, slots=True)
class Rule:
    """One published limit: `limit` units of `kind` in each calendar window of `count` intervals."""

    kind: str  # REQUEST_WEIGHT, ORDERS, RAW_REQUESTS, CONNECTIONS
    interval: str
    count: int
    limit: int

    @property
    def window_ns(self) -> int:
        return INTERVALS[self.interval] * self.count

    @property
    def suffix(self) -> str:
        """As in the venue's header names: 1M, 10S, 1D."""
        return f"{self.count}{LETTERS[self.interval]}"


@dataclass(slots=True)
class CalendarBuckets:
    """Counters by (who, rule) that start again at each window of the UTC calendar.

    Who breaches `ban_after` times in one window while told to stop is banned: 2 minutes, doubled each time.
    """

    rules: tuple[Rule, ...]
    ban_after: int = 10
    ban_ns: int = 120 * SECOND
    squeeze: float = 1.0
    _used: dict[tuple[str, Rule], tuple[int, int]] = field(default_factory=dict)
    _breaches: dict[str, tuple[int, int]] = field(default_factory=dict)
    _bans: dict[str, tuple[int, int]] = field(default_factory=dict)  # who: (until, length)

    def used(self, who: str, rule: Rule, now_ns: int) -> int:
        window, count = self._used.get((who, rule), (0, 0))
        return count if window == now_ns // rule.window_ns else 0

    def limit(self, rule: Rule) -> int:
        return max(1, int(rule.limit * self.squeeze))

    def add(self, who: str, kind: str, cost: int, now_ns: int) -> None:
        """Count; a negative cost gives back, never below 0."""
        for rule in self.rules:
            if rule.kind == kind:
                count = self.used(who, rule, now_ns) + cost
                self._used[who, rule] = (now_ns // rule.window_ns, max(0, count))

    def breached(self, who: str, kind: str, cost: int, now_ns: int) -> Rule | None:
        """The rule that `cost` more would break, or None. Counts nothing."""
        for rule in self.rules:
            if rule.kind == kind and self.used(who, rule, now_ns) + cost > self.limit(rule):
                return rule
        return None

    def retry_after_ns(self, rule: Rule, now_ns: int) -> int:
        """Until the rule's window ends."""
        return rule.window_ns - now_ns % rule.window_ns

    def note_breach(self, who: str, now_ns: int) -> int:
        """Count a request made after the limit; returns until when it is now banned, 0 for not."""
        minute = now_ns // INTERVALS["MINUTE"]
        last, count = self._breaches.get(who, (0, 0))
        count = count + 1 if last == minute else 1
        self._breaches[who] = (minute, count)
        if count <= self.ban_after:
            return 0
        _, length = self._bans.get(who, (0, 0))
        length = min(2 * length, 3 * INTERVALS["DAY"]) if length else self.ban_ns
        self._bans[who] = (now_ns + length, length)
        self._breaches[who] = (minute, 0)
        return now_ns + length

    def banned_until_ns(self, who: str, now_ns: int) -> int:
        until, _ = self._bans.get(who, (0, 0))
        return until if until > now_ns else 0


@dataclass(slots=True)
class RollingWindow:
    """At most `limit` units in any `window_ns`, by who."""

    limit: int
    window_ns: int = SECOND
    squeeze: float = 1.0
    _stamps: dict[str, deque[int]] = field(default_factory=dict)

    def take(self, who: str, now_ns: int, cost: int = 1) -> bool:
        """Count `cost` units if they fit; False when they do not (then nothing is counted)."""
        stamps = self._recent(who, now_ns)
        if len(stamps) + cost > self.allowed():
            return False
        stamps.extend([now_ns] * cost)
        return True

    def allowed(self) -> int:
        return max(1, int(self.limit * self.squeeze))

    def left(self, who: str, now_ns: int) -> int:
        return max(0, self.allowed() - len(self._recent(who, now_ns)))

    def reset_ns(self, who: str, now_ns: int) -> int:
        """When the oldest unit leaves the window (now when nothing is in it)."""
        stamps = self._recent(who, now_ns)
        return stamps[0] + self.window_ns if stamps else now_ns

    def _recent(self, who: str, now_ns: int) -> deque[int]:
        stamps = self._stamps.setdefault(who, deque())
        while stamps and stamps[0] <= now_ns - self.window_ns:
            stamps.popleft()
        return stamps
