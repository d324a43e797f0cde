"""Errors of the world, by what to do about them. Our own bugs are assertions; hot outcomes are negative integers."""

from __future__ import annotations

from enum import Enum


class Category(Enum):
    RETRY = "retry"
    RECONCILE = "reconcile"
    HALT = "halt"


class EngineError(Exception):
    """Something outside went wrong. The message says what, where, value, limit, and what happens next."""

    category = Category.HALT


class ConfigError(EngineError):
    """The configuration is not usable. `problems` holds one line each: file, key, value, limit."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class CredentialError(EngineError):
    """A key is missing, readable by others, of the wrong environment, or may do more than trade."""


class VenueUnreachable(EngineError):
    category = Category.RETRY


class JournalError(EngineError):
    """The journal is corrupt, newer than this program, or cannot be written."""


class JournalHeld(EngineError):
    """Another engine holds the journal."""


class DecodeError(EngineError):
    """A venue's message was not understood."""

    category = Category.RECONCILE
