from __future__ import annotations

import subprocess
import sys

from connectors.registry import CONNECTORS
from engine.types import Venue


def test_registry_gives_the_connector_of_each_venue() -> None:
    assert list(CONNECTORS) == [Venue.BINANCE, Venue.BYBIT]
    assert CONNECTORS[Venue.BINANCE].__name__ == "BinanceConnector"


def test_connector_is_not_imported_before_it_is_asked_for() -> None:
    code = "import sys, connectors.registry; print(any('binance' in name for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
