"""Binance's front of the local exchange: spot and USD-M, REST, WebSocket API, market streams, user data."""

from tools.exchange.binance.front import BinanceFront

__all__ = ["BinanceFront"]
