"""`tickwright control`: an operator's word to a running engine, over its UNIX socket. Every command is journaled."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from engine.control import COMMANDS, send_command

SOCKET_NAME = "control.sock"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "control", help="command a running engine", epilog="example: tickwright control var/demo kill --reason drill"
    )
    parser.add_argument("folder", type=Path, help="state folder of the engine (engine.state_dir)")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--reason", default="", help="written into the journal")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    answer = send_command(args.folder / SOCKET_NAME, args.command, {"reason": args.reason} if args.reason else None)
    if args.json:
        print(json.dumps(answer))
    else:
        for key, value in answer.items():
            print(f"{key:18} {value}")
    return 0
