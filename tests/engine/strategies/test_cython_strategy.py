"""A strategy written in Cython: cimports the base class and the book, and trades like any other."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
SOURCE = """
from ext.book cimport Book
from ext.strategy cimport Strategy


cdef class Taker(Strategy):
    cdef readonly int seen
    cdef readonly object last

    cpdef object on_book(self, object update):
        cdef Book book = update.book
        self.seen += 1
        if book.is_valid and not self.last:
            from engine.types import Side, TimeInForce
            self.last = self.context.place(update.instrument, Side.BUY, book.best_ask_px, 10, TimeInForce.IOC)
"""


def test_cython_strategy_places_orders(tmp_path: Path, desk: Any) -> None:
    (tmp_path / "taker.pyx").write_text(SOURCE)
    (tmp_path / "setup.py").write_text(
        textwrap.dedent(f"""
        from Cython.Build import cythonize
        from setuptools import Extension, setup
        setup(ext_modules=cythonize(
            [Extension("taker", ["taker.pyx"], include_dirs=["{ROOT}/ext"], extra_compile_args=["-O0", "-w"])],
            language_level=3, include_path=["{ROOT}"], quiet=True))
        """)
    )
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    spec = importlib.util.spec_from_file_location("taker", next(tmp_path.glob("taker*.so")))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from engine.core import Context

    taker = module.Taker(Context(desk.core, 0), {})
    desk.core.strategies.append(taker)
    desk.core.listeners[0].append(taker)
    desk.quote(0, 640_000, 640_001)
    assert taker.seen == 1
    assert desk.core.state.orders[taker.last].px_ticks == 640_001
