"""Bybit v5 front of the local exchange: spot and linear of a unified trading account."""
