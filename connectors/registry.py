"""Which connector serves which venue. A connector is imported when it is first asked for, and not before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Final

from engine.types import Venue
from engine.venue import ExchangeConnector

_WHERE: Final[dict[Venue, tuple[str, str]]] = {
    Venue.BINANCE: ("connectors.binance.connector", "BinanceConnector"),
    Venue.BYBIT: ("connectors.bybit.connector", "BybitConnector"),
}


class _Connectors(Mapping[Venue, type[ExchangeConnector]]):
    def __getitem__(self, venue: Venue) -> type[ExchangeConnector]:
        module, name = _WHERE[venue]
        connector = getattr(import_module(module), name)
        assert isinstance(connector, type) and issubclass(connector, ExchangeConnector), f"{module}.{name}"
        return connector

    def __iter__(self) -> Iterator[Venue]:
        return iter(_WHERE)

    def __len__(self) -> int:
        return len(_WHERE)


CONNECTORS: Final[Mapping[Venue, type[ExchangeConnector]]] = _Connectors()
