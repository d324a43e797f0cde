"""Stamps between a frame and its order. The interface only: the clock is read in ext.stats, never here."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Protocol


class Stage(IntEnum):
    """In order; each names the work that ends with it."""

    DECODED = 0
    DECIDED = 1
    RISK = 2
    SIGNED = 3
    WRITTEN = 4


STAGE_NAMES: Final = [stage.name.lower() for stage in Stage]


class Stages(Protocol):
    """Face of ext.stats.StageClock."""

    def begin(self, recv_ts_ns: int, /) -> None: ...
    def mark(self, stage: int, /) -> None: ...
    def commit(self, venue: int, /) -> None: ...


class NullStages:
    """Stamps nothing: in replay no clock may be read."""

    def begin(self, recv_ts_ns: int, /) -> None:
        pass

    def mark(self, stage: int, /) -> None:
        pass

    def commit(self, venue: int, /) -> None:
        pass
