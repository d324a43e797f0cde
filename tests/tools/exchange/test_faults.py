"""Faults by seed and schedule: what each kind does to frames, connections and hooks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest

from tools.exchange.faults import FRAME_CLASSES, KINDS, PRESETS, FaultPlan, FaultSpec, Venue, preset
from tools.exchange.frames import channel_of_path, frame_class, venue_of_path
from tools.exchange.model import FaultKind, Hooks

MS = 1_000_000
SECOND = 1000 * MS
START_NS = 10**18

FILL = b'{"id":"1","topic":"execution","creationTime":1,"data":[]}'
ORDER = b'{"id":"2","topic":"order","creationTime":1,"data":[]}'
BOOK = b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1}'
ACK = b'{"reqId":"1","retCode":0,"op":"order.create"}'


@dataclass
class Conn:
    conn_id: int
    venue: str = "bybit"
    channel: str = "private"


@dataclass
class Limits:
    squeeze: float = 1.0
    pardoned: int = 0

    def pardon(self) -> None:
        self.pardoned += 1


@pytest.fixture
def plan() -> FaultPlan:
    plan = FaultPlan(1)
    plan.venues = {"binance": Venue(Hooks()), "bybit": Venue(Hooks(), Limits())}
    return plan


def sent(plan: FaultPlan, payload: bytes, *, now_ns: int = START_NS, conn: Conn | None = None) -> list[int]:
    """When the frame leaves, in ms after the start; each copy once."""
    out = plan.on_frame(now_ns, conn or Conn(1), payload)
    assert all(frame == payload for _, frame in out)
    return [max(0, due_ns - START_NS) // MS for due_ns, _ in out]


# --- what frames and paths are --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("venue", "payload", "expected"),
    [
        ("bybit", BOOK, "book"),
        ("bybit", b'{"topic":"orderbook.1.BTCUSDT","ts":1,"type":"snapshot"}', "bbo"),
        ("bybit", b'{"topic":"publicTrade.BTCUSDT"}', "trade"),
        ("bybit", b'{"topic":"tickers.BTCUSDT"}', "ticker"),
        ("bybit", FILL, "fill"),
        ("bybit", b'{"topic":"execution.fast","data":[]}', "fill"),
        ("bybit", ORDER, "order"),
        ("bybit", b'{"id":"1","topic":"wallet","data":[]}', "balance"),
        ("bybit", ACK, "ack"),
        ("bybit", b'{"success":true,"op":"auth"}', "other"),
        ("binance", b'{"e":"depthUpdate","E":1}', "book"),
        ("binance", b'{"stream":"btcusdt@trade","data":{"e":"trade"}}', "trade"),
        ("binance", b'{"u":1,"s":"BTCUSDT","b":"1","B":"2","a":"3","A":"4"}', "bbo"),
        ("binance", b'{"e":"ORDER_TRADE_UPDATE","o":{"x":"TRADE"}}', "fill"),
        ("binance", b'{"e":"ORDER_TRADE_UPDATE","o":{"x":"NEW"}}', "order"),
        ("binance", b'{"subscriptionId":0,"event":{"e":"executionReport","x":"TRADE"}}', "fill"),
        ("binance", b'{"e":"TRADE_LITE"}', "fill"),
        ("binance", b'{"e":"ACCOUNT_UPDATE"}', "position"),
        ("binance", b'{"id":"1","status":200,"result":{}}', "ack"),
        ("binance", b'{"result":null,"id":1}', "other"),
    ],
)
def test_class_of_a_frame_is_read_from_its_bytes(venue: str, payload: bytes, expected: str) -> None:
    assert frame_class(venue, payload) == expected
    assert expected in FRAME_CLASSES


@pytest.mark.parametrize(
    ("path", "venue", "channel"),
    [
        ("/v5/public/linear", "bybit", "public"),
        ("/v5/private", "bybit", "private"),
        ("/v5/trade", "bybit", "trade"),
        ("/ws/btcusdt@depth", "binance", "public"),
        ("/stream", "binance", "public"),
        ("/private/ws", "binance", "private"),
        ("/ws-fapi/v1", "binance", "trade"),
    ],
)
def test_path_tells_venue_and_channel(path: str, venue: str, channel: str) -> None:
    assert (venue_of_path(path), channel_of_path(path)) == (venue, channel)


# --- frames ---------------------------------------------------------------------------------------------------------


def test_plan_without_faults_touches_nothing(plan: FaultPlan) -> None:
    assert not plan.touches_frames
    assert sent(plan, FILL) == [0]


def test_drop_takes_the_nth_matching_frame_only(plan: FaultPlan) -> None:
    plan.add(FaultSpec(kind="drop", frame="book", skip=2), START_NS)
    assert [len(sent(plan, payload)) for payload in (BOOK, FILL, BOOK, BOOK, BOOK)] == [1, 1, 1, 0, 1]
    assert plan.counts["drop.book"] == 1
    assert not plan.touches_frames, "a fault that is spent costs nothing"


def test_duplicate_sends_a_second_copy_later(plan: FaultPlan) -> None:
    plan.add(FaultSpec(kind="duplicate", frame="fill", delay_ms=200), START_NS)
    assert sent(plan, FILL) == [0, 200]
    assert sent(plan, FILL) == [0]


def test_delayed_fill_lets_the_order_event_overtake_but_no_other_fill(plan: FaultPlan) -> None:
    plan.add(FaultSpec(kind="delay", frame="fill", delay_ms=300), START_NS)
    assert sent(plan, FILL) == [300]
    assert sent(plan, ORDER) == [0]
    assert sent(plan, FILL) == [300], "fills of one socket keep their order"
    assert sent(plan, FILL, now_ns=START_NS + 301 * MS) == [0]


def test_delayed_fill_may_be_overtaken_by_a_fill_when_reordering_is_asked(plan: FaultPlan) -> None:
    plan.add(FaultSpec(kind="delay", frame="fill", delay_ms=300, reorder=True), START_NS)
    assert (sent(plan, FILL), sent(plan, FILL)) == ([300], [0])


def test_delayed_market_data_holds_up_all_market_data_of_its_socket(plan: FaultPlan) -> None:
    plan.add(FaultSpec(kind="delay", frame="book", delay_ms=100), START_NS)
    assert sent(plan, BOOK) == [100]
    assert sent(plan, b'{"topic":"publicTrade.BTCUSDT"}') == [100]
    assert sent(plan, BOOK, conn=Conn(2)) == [0]


def test_probability_is_drawn_by_the_seed() -> None:
    def run(seed: int) -> list[int]:
        plan = FaultPlan(seed)
        plan.add(FaultSpec(kind="drop", frame="fill", probability=0.25, count=0), START_NS)
        return [len(sent(plan, FILL)) for _ in range(400)]

    first, again, other = run(5), run(5), run(6)
    assert first == again != other
    assert 60 <= first.count(0) <= 140


def test_fault_is_limited_to_its_venue_and_channel(plan: FaultPlan) -> None:
    plan.add(FaultSpec(kind="drop", venue="bybit", channel="private", count=0), START_NS)
    assert sent(plan, FILL) == []
    assert sent(plan, FILL, conn=Conn(1, channel="trade")) == [0]
    assert sent(plan, b'{"e":"depthUpdate"}', conn=Conn(1, venue="binance")) == [0]


# --- connections ----------------------------------------------------------------------------------------------------


def test_ordered_disconnect_hits_all_it_names_at_once(plan: FaultPlan) -> None:
    plan.add(FaultSpec(kind="disconnect", channel="public", close_code=1008), START_NS)
    conns = [Conn(1, channel="public"), Conn(2), Conn(3, venue="binance", channel="public")]
    acts = plan.on_timer(START_NS, conns)
    assert [(act.kind, act.conn_id, act.close_code) for act in acts] == [
        ("disconnect", 1, 1008),
        ("disconnect", 3, 1008),
    ]
    assert plan.on_timer(START_NS + SECOND, conns) == []


def test_disconnect_waits_for_somebody_to_disconnect(plan: FaultPlan) -> None:
    plan.add(FaultSpec(kind="disconnect"), START_NS)
    assert plan.on_timer(START_NS, []) == []
    assert plan.next_due_ns() > START_NS
    assert len(plan.on_timer(START_NS + SECOND, [Conn(1)])) == 1


def test_scheduled_disconnects_come_at_their_rate_one_at_a_time(plan: FaultPlan) -> None:
    plan.add(FaultSpec(kind="disconnect", rate_per_s=2.0, count=0), START_NS)
    conns = [Conn(1), Conn(2), Conn(3)]
    acts = [act for ms in range(0, 100_000, 10) for act in plan.on_timer(START_NS + ms * MS, conns)]
    assert 150 <= len(acts) <= 250
    assert {act.conn_id for act in acts} == {1, 2, 3}


def test_periodic_stall_says_when_it_ends(plan: FaultPlan) -> None:
    plan.add(FaultSpec(kind="stall", every_s=10, for_ms=2000, count=2), START_NS)
    times = []
    for second in range(60):
        now_ns = START_NS + second * SECOND
        times += [(second, act.until_ns - now_ns) for act in plan.on_timer(now_ns, [Conn(1)])]
    assert times == [(10, 2000 * MS), (20, 2000 * MS)]


# --- requests and states --------------------------------------------------------------------------------------------


def test_request_fault_is_armed_at_its_venue(plan: FaultPlan) -> None:
    plan.add(FaultSpec(kind="reject", venue="bybit", code=110003), START_NS)
    plan.on_timer(START_NS, [])
    assert plan.venues["binance"].hooks.take("place") is None
    fault = plan.venues["bybit"].hooks.take("place")
    assert fault is not None and (fault.kind, fault.code) == (FaultKind.REJECT, 110003)
    assert plan.venues["bybit"].hooks.take("place") is None


def test_skew_and_squeeze_begin_and_end(plan: FaultPlan) -> None:
    limits = plan.venues["bybit"].limits
    assert isinstance(limits, Limits)
    plan.add(FaultSpec(kind="skew", venue="bybit", value=-2500, for_ms=1000), START_NS)
    plan.add(FaultSpec(kind="squeeze", venue="bybit", value=0.2, for_ms=1000), START_NS)
    plan.on_timer(START_NS, [])
    assert plan.venues["bybit"].hooks.clock_skew_ns == -2500 * MS
    assert limits.squeeze == 0.2
    plan.on_timer(START_NS + 999 * MS, [])
    assert limits.squeeze == 0.2
    plan.on_timer(START_NS + 1000 * MS, [])
    assert plan.venues["bybit"].hooks.clock_skew_ns == 0
    assert (limits.squeeze, limits.pardoned) == (1.0, 1)


def test_overload_lasts_its_time(plan: FaultPlan) -> None:
    plan.add(FaultSpec(kind="overload", venue="bybit", for_ms=500), START_NS)
    plan.on_timer(START_NS, [])
    assert plan.venues["bybit"].hooks.is_overloaded
    plan.on_timer(START_NS + 500 * MS, [])
    assert not plan.venues["bybit"].hooks.is_overloaded


def test_clear_ends_states_and_disarms_requests(plan: FaultPlan) -> None:
    plan.add(FaultSpec(kind="query_lag", value=400), START_NS)
    plan.add(FaultSpec(kind="unknown_done"), START_NS)
    plan.add(FaultSpec(kind="drop", frame="fill", count=0), START_NS)
    plan.on_timer(START_NS, [])
    hooks = plan.venues["bybit"].hooks
    assert hooks.query_lag_ns == 400 * MS
    plan.clear(START_NS)
    assert hooks.query_lag_ns == 0
    assert hooks.take("place") is None
    assert not plan.touches_frames
    assert plan.rows() == []


def test_one_fault_of_several_can_be_cleared(plan: FaultPlan) -> None:
    first = plan.add(FaultSpec(kind="drop", frame="fill", count=0), START_NS)
    plan.add(FaultSpec(kind="drop", frame="order", count=0), START_NS)
    assert plan.clear(START_NS, first) == 1
    assert (sent(plan, FILL), sent(plan, ORDER)) == ([0], [])


@pytest.mark.parametrize(
    "spec",
    [
        FaultSpec(kind="nonsense"),
        FaultSpec(kind="drop", frame="nonsense"),
        FaultSpec(kind="drop", probability=1.5),
        FaultSpec(kind="delay", delay_ms=-1),
    ],
)
def test_spec_that_says_nothing_sensible_is_refused_by_name(plan: FaultPlan, spec: FaultSpec) -> None:
    with pytest.raises(ValueError, match="must"):
        plan.add(spec, START_NS)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_complete(plan: FaultPlan, name: str) -> None:
    specs = preset(name)
    assert specs and all(spec.kind in KINDS for spec in specs)
    plan.add_presets([name], START_NS)
    assert len(plan.rows()) == len(specs)


def test_schedule_is_the_seeds() -> None:
    def run(seed: int) -> list[tuple[int, int]]:
        plan = FaultPlan(seed)
        plan.add_presets(["disconnects", "stalls"], START_NS)
        acts = []
        for ms in range(0, 120_000, 20):
            acts += [(ms, act.conn_id) for act in plan.on_timer(START_NS + ms * MS, [Conn(1), Conn(2)])]
        return acts

    assert run(3) == run(3) != run(4)
    assert all(before[0] <= after[0] for before, after in pairwise(run(3)))
