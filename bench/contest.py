"""One row of the benchmark table: our way and its peers, timed in turn, judged by the median.

Every contestant gives back one figure a call (ns, us, or events a second). Taking turns makes a slow phase of the
machine meet all of them; the ratio of one run counts, not the absolute figure.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

OURS = "ours"
Timed = Callable[[], float]


@dataclass
class Row:
    """`must` and `aim` are limits of our figure in `unit`; None where there is none. `limit_of` names the peer whose
    ratio is judged instead of the figure itself."""

    name: str
    unit: str
    contestants: dict[str, Timed]
    must: float | None = None
    aim: float | None = None
    is_rate: bool = False  # more is better
    judged_peer: str = ""  # must and aim are ratios to this contestant
    turns: int = 0  # 0: as many as the run says
    note: str = ""
    taken: dict[str, list[float]] = field(default_factory=dict)

    def take_turn(self) -> None:
        for name, timed in self.contestants.items():
            self.taken.setdefault(name, []).append(timed())

    def figure(self, name: str = OURS) -> float:
        return statistics.median(self.taken[name])

    def best(self, name: str = OURS) -> float:
        return max(self.taken[name]) if self.is_rate else min(self.taken[name])

    def ratio(self, peer: str) -> float:
        """How many times better we are than the peer; below 1 we are worse."""
        ours, theirs = self.figure(), self.figure(peer)
        return ours / theirs if self.is_rate else theirs / ours

    @property
    def judged(self) -> float:
        return self.figure() / self.figure(self.judged_peer) if self.judged_peer else self.figure()

    @property
    def reached(self) -> str:
        if self.must is None and self.aim is None:
            return ""
        for word, limit in (("aim", self.aim), ("must", self.must)):
            if limit is not None and (self.judged >= limit if self.is_rate else self.judged <= limit):
                return word
        return "NO"

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name, "unit": self.unit, "must": self.must, "aim": self.aim, "reached": self.reached,
            "judged_against": self.judged_peer, "judged": self.judged, "note": self.note,
            "figures": {name: {"p50": self.figure(name), "best": self.best(name), "turns": len(found)}
                        for name, found in self.taken.items()},
        }  # fmt: skip


def run_rows(rows: Sequence[Row], turns: int) -> None:
    """All rows in turn, `turns` times; the first turn warms up and is dropped where there are more."""
    for number in range(turns + 1):
        start = time.monotonic()
        for row in rows:
            wanted = row.turns or turns
            if number <= wanted:
                row.take_turn()
                if number == 1 and wanted > 1:
                    row.taken = {name: found[-1:] for name, found in row.taken.items()}
        print(f"turn {number} of {turns}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)


def number(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def limit_text(row: Row, limit: float | None) -> str:
    return "" if limit is None else f"{number(limit)}{'x' if row.judged_peer else ''}"


HEAD = ("what", "ours", "unit", "peer in the same run", "ratio", "must", "aim", "reached")
WIDTHS = (42, 9, 9, 34, 8, 8, 8, 7)


def lines(rows: Sequence[Row]) -> list[str]:
    """The table; one line a row and peer."""
    found = [HEAD]
    for row in rows:
        peers = [name for name in row.taken if name != OURS] or [""]
        for at, peer in enumerate(peers):
            own = (row.name, number(row.figure()), row.unit) if at == 0 else ("", "", "")
            judged = (limit_text(row, row.must), limit_text(row, row.aim), row.reached) if at == 0 else ("", "", "")
            shown = f"{peer} {number(row.figure(peer))}" if peer else ""
            ratio = "" if not peer else f"{row.judged:.2f}x" if peer == row.judged_peer else f"{row.ratio(peer):.1f}x"
            found.append((*own, shown, ratio, *judged))
    return ["  ".join(text.ljust(width) for text, width in zip(line, WIDTHS, strict=True)).rstrip() for line in found]
