"""Bybit v5: spot and linear in one connector. See README.md beside this file."""
