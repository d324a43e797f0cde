"""Binance: spot and USD-M futures in one connector. See README.md beside this file."""
