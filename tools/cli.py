"""The command `tickwright`: one parser, one verb a module, one table of exit codes.

Data goes to stdout, everything else to stderr. Exit codes: 0 ok, 1 a difference or problem was found, 64 usage,
65 journal corrupt or newer, 69 venue unreachable, 73 a second engine, 77 key permissions, 78 configuration, 130 ^C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import NoReturn

from engine.errors import (
    ConfigError,
    CredentialError,
    EngineError,
    JournalError,
    JournalHeld,
    VenueUnreachable,
)

EXIT_OK = 0
EXIT_FOUND = 1
EXIT_USAGE = 64
EXIT_DATA = 65
EXIT_UNREACHABLE = 69
EXIT_HELD = 73
EXIT_PERMISSION = 77
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130

EXIT_OF: list[tuple[type[EngineError], int]] = [
    (ConfigError, EXIT_CONFIG),
    (CredentialError, EXIT_PERMISSION),
    (JournalHeld, EXIT_HELD),
    (JournalError, EXIT_DATA),
    (VenueUnreachable, EXIT_UNREACHABLE),
]

VERBS = {
    "run": "tools.run",
    "check": "tools.check",
    "exchange": "tools.exchange.server",
    "replay": "tools.replay",
    "journal": "tools.journal",
    "book": "tools.book",
    "latency": "tools.latency",
    "top": "tools.top",
    "control": "tools.control",
    "version": "tools.version",
}


class Parser(argparse.ArgumentParser):
    """Usage errors end with sysexits' 64 and one line."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message} (see {self.prog} --help)\n")
        raise SystemExit(EXIT_USAGE)


def build_parser(verbs: list[str]) -> Parser:
    parser = Parser(
        prog="tickwright",
        description="Trade one portfolio across several crypto exchanges: one process, one journal.",
        epilog="example: tickwright run --config config/demo.toml --demo --for 60",
    )
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for verb in verbs:
        importlib.import_module(VERBS[verb]).add_parser(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    # Only the module of the verb at hand is imported: `tickwright book` starts no engine.
    named = [verb for verb in argv[:1] if verb in VERBS]
    args = build_parser(named or list(VERBS)).parse_args(argv)
    try:
        return int(importlib.import_module(VERBS[args.verb]).run(args))
    except EngineError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"tickwright {args.verb}: {line}\n")
        return next((code for kind, code in EXIT_OF if isinstance(error, kind)), EXIT_FOUND)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
