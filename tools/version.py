"""`tickwright version`: what runs, and how it was built."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

VERSION = "0.1.0"
PACKAGES = ("uvloop", "picows", "orjson", "lmdb", "msgspec")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("version", help="versions of the engine, its formats and its libraries")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def describe() -> dict[str, Any]:
    import ext
    from engine.blocks import FORMAT

    return {
        "tickwright": VERSION,
        "journal_format": FORMAT,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "extensions": "checked" if Path(ext.__file__).parent.parent.name == "checked" else "fast",
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def run(args: argparse.Namespace) -> int:
    found = describe()
    if args.json:
        print(json.dumps(found))
        return 0
    for key, value in found.items():
        if key != "packages":
            print(f"{key} {value}")
    print(" ".join(f"{name} {version}" for name, version in found["packages"].items()))
    return 0
