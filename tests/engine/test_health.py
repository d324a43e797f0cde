"""Health of one venue: what takes it down, what degrades it, and for how long."""

from __future__ import annotations

import pytest

from engine.health import DEGRADED_FOR_NS, VenueHealth
from engine.types import ConnState, HealthState, Venue

NOW = 1_000_000_000_000


@pytest.fixture
def health() -> VenueHealth:
    made = VenueHealth(Venue.BYBIT)
    made.is_gate_open = True
    return made


def test_closed_gate_is_down_whatever_else_is_well() -> None:
    assert VenueHealth(Venue.BYBIT).state(NOW) is HealthState.DOWN


def test_open_gate_is_up(health: VenueHealth) -> None:
    health.on_channel(1, ConnState.UP, NOW)
    assert health.state(NOW) is HealthState.UP


@pytest.mark.parametrize("state", [ConnState.DOWN, ConnState.CONNECTING])
def test_lost_channel_degrades_for_a_while(health: VenueHealth, state: ConnState) -> None:
    health.on_channel(1, state, NOW)
    assert health.state(NOW + DEGRADED_FOR_NS - 1) is HealthState.DEGRADED
    assert health.state(NOW + DEGRADED_FOR_NS) is HealthState.UP


def test_unknown_outcome_degrades_and_is_counted(health: VenueHealth) -> None:
    health.on_outcome_unknown(NOW)
    assert (health.state(NOW), health.unknown_count) == (HealthState.DEGRADED, 1)


@pytest.mark.parametrize("kind", ["banned", "maintenance"])
def test_ban_and_maintenance_take_it_down_until_their_time(health: VenueHealth, kind: str) -> None:
    health.on_notice(kind, NOW + 10, NOW)
    assert health.state(NOW + 9) is HealthState.DOWN
    assert health.state(NOW + 10) is HealthState.UP


def test_ban_of_unknown_length_takes_it_down_for_the_usual_time(health: VenueHealth) -> None:
    health.on_notice("banned", 0, NOW)
    assert health.state(NOW + DEGRADED_FOR_NS - 1) is HealthState.DOWN
    assert health.state(NOW + DEGRADED_FOR_NS) is HealthState.UP


def test_restored_ends_a_ban(health: VenueHealth) -> None:
    health.on_notice("banned", NOW + 10**12, NOW)
    health.on_notice("restored", 0, NOW)
    assert health.state(NOW) is HealthState.UP


def test_shorter_notice_does_not_shorten_a_longer_one(health: VenueHealth) -> None:
    late = NOW + 10 * DEGRADED_FOR_NS
    health.on_notice("rate_limited", late, NOW)
    health.on_notice("shutdown", 0, NOW)
    assert health.state(late - 1) is HealthState.DEGRADED
    assert health.state(late) is HealthState.UP
