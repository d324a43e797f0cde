"""Health of each venue: channels, notices, reconciliation gate and order outcomes -> UP, DEGRADED or DOWN."""

from __future__ import annotations

from engine.types import ConnState, HealthState, Venue

DEGRADED_FOR_NS = 5_000_000_000


class VenueHealth:
    """One venue. Orders open only while its gate is open; a DEGRADED venue is routed to last."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.channels: dict[int, ConnState] = {}
        self.is_gate_open = False
        self.blocked_until_ns = 0
        self.degraded_until_ns = 0
        self.unknown_count = 0
        self.refusal = ""

    def on_channel(self, channel: int, state: ConnState, now_ns: int) -> None:
        self.channels[channel] = state
        if state is not ConnState.UP:
            self.degraded_until_ns = now_ns + DEGRADED_FOR_NS

    def on_outcome_unknown(self, now_ns: int) -> None:
        self.unknown_count += 1
        self.degraded_until_ns = now_ns + DEGRADED_FOR_NS

    def on_notice(self, kind: str, until_ts_ns: int, now_ns: int) -> None:
        if kind in ("banned", "maintenance"):
            self.blocked_until_ns = until_ts_ns or now_ns + DEGRADED_FOR_NS
        elif kind == "restored":
            self.blocked_until_ns = 0
        else:
            self.degraded_until_ns = max(self.degraded_until_ns, until_ts_ns, now_ns + DEGRADED_FOR_NS)

    def state(self, now_ns: int) -> HealthState:
        if not self.is_gate_open or now_ns < self.blocked_until_ns:
            return HealthState.DOWN
        if now_ns < self.degraded_until_ns:
            return HealthState.DEGRADED
        return HealthState.UP
