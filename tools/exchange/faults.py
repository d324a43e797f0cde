"""Faults by seed and schedule: what goes wrong between the venues and their clients, counted by kind.

Two places. Connections and frames (disconnect, stall, half-open, drop, duplicate, delay) are handled here, between the
fronts and the sockets, the same for every venue. What only a front can do in its own words (refuse the next order,
leave its outcome unknown, skew its clock, squeeze its limits, let queries lag) is armed here through `model.Hooks`.
Knows no socket and no clock; one seed and one order of calls gives one schedule.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from tools.exchange.frames import FRAME_CLASSES, MARKET_DATA, frame_class
from tools.exchange.model import Fault, FaultKind, Hooks

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
FOREVER: Final = 2**63 - 1

CONNECTION_KINDS: Final = frozenset(("disconnect", "stall", "half_open"))
FRAME_KINDS: Final = frozenset(("drop", "duplicate", "delay"))
REQUEST_KINDS: Final = {
    "reject": FaultKind.REJECT,
    "request_lost": FaultKind.DROP_REQUEST,
    "answer_lost": FaultKind.DROP_ANSWER,
    "unknown_done": FaultKind.UNKNOWN_DONE,
    "unknown_not_done": FaultKind.UNKNOWN_NOT_DONE,
    "delay_answer": FaultKind.DELAY_ANSWER,
    "events_first": FaultKind.EVENTS_FIRST,
    "answer_disconnect": FaultKind.DISCONNECT,
}
STATE_KINDS: Final = frozenset(("skew", "squeeze", "query_lag", "overload"))
KINDS: Final = CONNECTION_KINDS | FRAME_KINDS | frozenset(REQUEST_KINDS) | STATE_KINDS


class FaultSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One fault. What it hits: `venue`, `channel` (public, private, trade), `frame` (class of an outgoing frame).

    When: at once and `count` times (0: always), after `skip` matches; or at `rate_per_s` (Poisson by the seed) or
    every `every_s`; frame faults also by `probability` per matching frame. `for_ms` is how long a stall, a skew or a
    squeeze lasts (0: until cleared). Delays are drawn between `delay_ms` and `delay_ms_max`.
    """

    kind: str
    venue: str = "*"
    channel: str = "*"
    frame: str = "*"
    op: str = "place"  # request kinds: place, cancel, amend, query, other, *
    count: int = 1
    skip: int = 0
    probability: float = 1.0
    rate_per_s: float = 0.0
    every_s: float = 0.0
    for_ms: int = 0
    delay_ms: float = 0.0
    delay_ms_max: float = 0.0
    reorder: bool = False  # delay: within one class of frames too
    code: int = 0
    text: str = ""
    close_code: int = 0  # disconnect: 0 is a cut connection, else a close frame with that code
    value: float = 0.0  # skew: ms; squeeze: factor of the limits; query_lag: ms

    def problems(self) -> list[str]:
        """What is wrong with it, one line each."""
        found = []
        if self.kind not in KINDS:
            found.append(f"kind must be one of {', '.join(sorted(KINDS))}, was {self.kind!r}")
        if self.frame != "*" and self.frame not in FRAME_CLASSES:
            found.append(f"frame must be one of {', '.join(sorted(FRAME_CLASSES))}, was {self.frame!r}")
        if not 0.0 <= self.probability <= 1.0:
            found.append(f"probability must be 0..1, was {self.probability}")
        if self.rate_per_s < 0 or self.every_s < 0 or self.delay_ms < 0:
            found.append("rate_per_s, every_s and delay_ms must not be negative")
        return found


# Rates of a bad day, not of a catastrophe: the demo must go on earning.
PRESETS: Final[dict[str, tuple[dict[str, object], ...]]] = {
    "disconnects": ({"kind": "disconnect", "rate_per_s": 0.08, "count": 0},),
    "stalls": ({"kind": "stall", "rate_per_s": 0.03, "for_ms": 4000, "count": 0},),
    "half-open": ({"kind": "half_open", "rate_per_s": 0.02, "for_ms": 20000, "count": 0},),
    "gaps": ({"kind": "drop", "frame": "book", "probability": 0.0005, "count": 0},),
    "lost-fills": ({"kind": "drop", "frame": "fill", "probability": 0.03, "count": 0},),
    "lost-acks": ({"kind": "answer_lost", "rate_per_s": 0.05, "count": 0},),
    "duplicates": (
        {"kind": "duplicate", "frame": "fill", "probability": 0.2, "delay_ms_max": 400, "count": 0},
        {"kind": "duplicate", "frame": "order", "probability": 0.1, "delay_ms_max": 400, "count": 0},
        {"kind": "duplicate", "frame": "book", "probability": 0.001, "count": 0},
    ),
    "late-fills": (
        {"kind": "delay", "frame": "fill", "probability": 0.3, "delay_ms": 20, "delay_ms_max": 700, "count": 0},
    ),
    "late-acks": (
        {
            "kind": "delay",
            "frame": "ack",
            "channel": "trade",
            "probability": 0.2,
            "delay_ms": 20,
            "delay_ms_max": 600,
            "count": 0,
        },
    ),
    "rejects": ({"kind": "reject", "rate_per_s": 0.1, "count": 0},),
    "unknowns": (
        {"kind": "unknown_done", "rate_per_s": 0.05, "count": 0},
        {"kind": "unknown_not_done", "rate_per_s": 0.03, "count": 0},
        {"kind": "request_lost", "rate_per_s": 0.02, "count": 0},
    ),
    "skew": ({"kind": "skew", "rate_per_s": 0.02, "for_ms": 3000, "value": -2500, "count": 0},),
    "squeeze": ({"kind": "squeeze", "rate_per_s": 0.03, "for_ms": 3000, "value": 0.2, "count": 0},),
    "query-lag": ({"kind": "query_lag", "value": 400},),
}


def preset(name: str) -> list[FaultSpec]:
    """The specs of a named preset. Raises KeyError with the known names."""
    if name not in PRESETS:
        raise KeyError(f"unknown fault preset {name!r}; known: {', '.join(sorted(PRESETS))}")
    return [msgspec.convert(values, FaultSpec) for values in PRESETS[name]]


class Connection(Protocol):
    """What a fault needs to know of a socket."""

    @property
    def conn_id(self) -> int: ...
    @property
    def venue(self) -> str: ...
    @property
    def channel(self) -> str: ...


class Squeezable(Protocol):
    """A front's rate limits: `squeeze` scales them. `pardon()`, where there is one, lifts bans."""

    squeeze: float


@dataclass(frozen=True, slots=True)
class ConnectionAct:
    """What the shell does to one socket: disconnect, stall or half_open until `until_ns`."""

    kind: str
    conn_id: int
    until_ns: int = 0
    close_code: int = 0


@dataclass(slots=True, eq=False)
class Venue:
    """What one venue lends to the faults: its hooks, and its rate limits' scale where it has one."""

    hooks: Hooks
    limits: Squeezable | None = None

    def squeeze(self, factor: float) -> None:
        if self.limits is not None:
            self.limits.squeeze = factor
            if factor == 1.0 and hasattr(self.limits, "pardon"):
                self.limits.pardon()


@dataclass(slots=True, eq=False)
class _Active:
    fault_id: int
    spec: FaultSpec
    left: int  # how often it still acts; -1 is always
    skip: int
    due_ns: int
    ends_ns: int = FOREVER  # of a state that is in force now
    in_force: bool = False

    def matches(self, conn: Connection) -> bool:
        spec = self.spec
        return spec.venue in ("*", conn.venue) and spec.channel in ("*", conn.channel)


@dataclass(slots=True)
class FaultPlan:
    """All faults in force. `is_idle` and `touches_frames` let the shell skip everything else."""

    seed: int
    venues: dict[str, Venue] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _rng: random.Random = field(init=False)
    _active: list[_Active] = field(default_factory=list)
    _next_id: int = 1
    _floors: dict[tuple[int, str], int] = field(default_factory=dict)
    touches_frames: bool = False

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed ^ 0x5EED)

    def add(self, spec: FaultSpec, now_ns: int) -> int:
        """Put one fault in force. Raises ValueError that names everything wrong with it."""
        problems = spec.problems()
        if problems:
            raise ValueError("; ".join(problems))
        active = _Active(self._next_id, spec, spec.count or -1, spec.skip, self._first_due(spec, now_ns))
        self._next_id += 1
        self._active.append(active)
        self._refresh()
        return active.fault_id

    def add_presets(self, names: Iterable[str], now_ns: int) -> None:
        for name in names:
            for spec in preset(name):
                self.add(spec, now_ns)

    def clear(self, now_ns: int, fault_id: int = 0) -> int:
        """End one fault, or all (0). Returns how many were ended."""
        ended = [active for active in self._active if fault_id in (0, active.fault_id)]
        for active in ended:
            self._end_state(active)
        self._active = [active for active in self._active if active not in ended]
        if fault_id == 0:
            for venue in self.venues.values():
                venue.hooks.next_faults.clear()
        self._refresh()
        return len(ended)

    def rows(self) -> list[dict[str, object]]:
        return [
            {"id": active.fault_id, "left": active.left, "in_force": active.in_force}
            | {
                name: value
                for name, value in msgspec.to_builtins(active.spec).items()
                if value not in ("*", 0, 0.0, "")
            }
            for active in self._active
        ]

    # --- time ---------------------------------------------------------------------------------------------------

    def next_due_ns(self) -> int:
        due = FOREVER
        for active in self._active:
            if active.spec.kind not in FRAME_KINDS:
                due = min(due, active.ends_ns if active.in_force else active.due_ns)
        return due

    def on_timer(self, now_ns: int, connections: Sequence[Connection]) -> list[ConnectionAct]:
        """What is due now. Hooks are set here; what concerns sockets is returned."""
        acts: list[ConnectionAct] = []
        for active in list(self._active):
            if active.in_force:
                if now_ns >= active.ends_ns:
                    self._end_state(active)
                    self._spend(active, now_ns)
                continue
            if active.spec.kind in FRAME_KINDS or now_ns < active.due_ns:
                continue
            if active.spec.kind in CONNECTION_KINDS:
                self._act_on_connection(active, now_ns, connections, acts)
            elif active.spec.kind in REQUEST_KINDS:
                self._arm_request(active, now_ns)
            else:
                self._begin_state(active, now_ns)
        self._refresh()
        return acts

    def _act_on_connection(
        self, active: _Active, now_ns: int, connections: Sequence[Connection], acts: list[ConnectionAct]
    ) -> None:
        spec = active.spec
        chosen = [conn for conn in connections if active.matches(conn)]
        if not chosen:
            active.due_ns = now_ns + 50 * MS  # nobody is connected: wait for one
            return
        # A scheduled fault hits one connection; one that was ordered hits all that it names.
        if spec.rate_per_s or spec.every_s:
            chosen = [chosen[self._rng.randrange(len(chosen))]]
        until_ns = now_ns + spec.for_ms * MS if spec.for_ms else FOREVER
        for conn in chosen:
            acts.append(ConnectionAct(spec.kind, conn.conn_id, until_ns, spec.close_code))
            self.counts[spec.kind] += 1
        self._spend(active, now_ns)

    def _arm_request(self, active: _Active, now_ns: int) -> None:
        spec = active.spec
        delay_ns = self._delay_ns(spec)
        for venue in self._chosen_venues(spec):
            venue.hooks.push(spec.op, Fault(REQUEST_KINDS[spec.kind], spec.code, spec.text, delay_ns))
            self.counts[spec.kind] += 1
        self._spend(active, now_ns)

    def _begin_state(self, active: _Active, now_ns: int) -> None:
        spec = active.spec
        active.in_force = True
        active.ends_ns = now_ns + spec.for_ms * MS if spec.for_ms else FOREVER
        self.counts[spec.kind] += 1
        self._set_states(spec, on=True)

    def _end_state(self, active: _Active) -> None:
        if active.in_force:
            active.in_force = False
            self._set_states(active.spec, on=False)

    def _set_states(self, spec: FaultSpec, *, on: bool) -> None:
        for venue in self._chosen_venues(spec):
            if spec.kind == "skew":
                venue.hooks.clock_skew_ns = int(spec.value * MS) if on else 0
            elif spec.kind == "query_lag":
                venue.hooks.query_lag_ns = int(spec.value * MS) if on else 0
            elif spec.kind == "overload":
                venue.hooks.is_overloaded = on
            else:
                venue.squeeze(spec.value if on else 1.0)

    def _chosen_venues(self, spec: FaultSpec) -> list[Venue]:
        names = [name for name in self.venues if spec.venue in ("*", name)]
        # A scheduled fault hits one venue at a time.
        if len(names) > 1 and spec.kind in REQUEST_KINDS and (spec.rate_per_s or spec.every_s):
            names = [names[self._rng.randrange(len(names))]]
        return [self.venues[name] for name in names]

    # --- frames -------------------------------------------------------------------------------------------------

    def on_frame(self, now_ns: int, conn: Connection, payload: bytes) -> list[tuple[int, bytes]]:
        """What leaves instead of this frame: (due_ns, payload), none when it is lost. Due 0 is at once."""
        kind = frame_class(conn.venue, payload)
        due_ns = self._floor(conn, kind, now_ns)
        out = [(due_ns, payload)]
        for active in tuple(self._active):
            spec = active.spec
            if spec.kind not in FRAME_KINDS or not active.matches(conn) or spec.frame not in ("*", kind):
                continue
            if active.skip > 0:
                active.skip -= 1
                continue
            if spec.probability < 1.0 and self._rng.random() >= spec.probability:
                continue
            self.counts[f"{spec.kind}.{kind}"] += 1
            self._spend(active, now_ns)
            if spec.kind == "drop":
                out = []
                break
            later_ns = max(due_ns, now_ns + self._delay_ns(spec))
            if spec.kind == "duplicate":
                out.append((later_ns, payload))
            else:
                out[0] = (later_ns, payload)
                if not spec.reorder:
                    self._floors[self._floor_key(conn, kind)] = later_ns
        return out

    def forget(self, conn_id: int) -> None:
        """The connection is gone."""
        for key in [key for key in self._floors if key[0] == conn_id]:
            del self._floors[key]

    def _floor_key(self, conn: Connection, kind: str) -> tuple[int, str]:
        # Market data of one socket stays in order whatever its class; a venue's private topics do not.
        return conn.conn_id, "market" if kind in MARKET_DATA else kind

    def _floor(self, conn: Connection, kind: str, now_ns: int) -> int:
        key = self._floor_key(conn, kind)
        floor_ns = self._floors.get(key, 0)
        if floor_ns and floor_ns <= now_ns:
            del self._floors[key]
            return 0
        return floor_ns

    # --- schedule -----------------------------------------------------------------------------------------------

    def _first_due(self, spec: FaultSpec, now_ns: int) -> int:
        return now_ns + self._interval_ns(spec)

    def _interval_ns(self, spec: FaultSpec) -> int:
        if spec.rate_per_s > 0:
            return int(self._rng.expovariate(spec.rate_per_s) * SECOND)
        return int(spec.every_s * SECOND)

    def _delay_ns(self, spec: FaultSpec) -> int:
        high = max(spec.delay_ms, spec.delay_ms_max)
        return int((spec.delay_ms + (high - spec.delay_ms) * self._rng.random()) * MS)

    def _spend(self, active: _Active, now_ns: int) -> None:
        if active.left > 0:
            active.left -= 1
        if active.left == 0:
            self._active.remove(active)
            self._refresh()
            return
        active.due_ns = now_ns + max(self._interval_ns(active.spec), MS)
        active.ends_ns = FOREVER

    def _refresh(self) -> None:
        frames = any(active.spec.kind in FRAME_KINDS for active in self._active)
        self.touches_frames = frames or bool(self._floors)
