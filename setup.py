"""Build the Cython extensions of `ext/`.

One extension a module. `EXT_CHECKED=1` builds the checked variant (bounds, wraparound and overflow checks, C
asserts, -O0) for the test suite; `EXT_PROFILE=release` optimises (-O2, the default is the quick development
profile); `NATIVE=1` adds -march=native, never for wheels; `--annotate` writes the annotated HTML below build/;
`EXT_ONLY=book,ring` builds just those modules.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent
CHECKED = os.environ.get("EXT_CHECKED") == "1"
RELEASE = os.environ.get("EXT_PROFILE", "dev") == "release"
NATIVE = os.environ.get("NATIVE") == "1"
ANNOTATE = "--annotate" in sys.argv
if ANNOTATE:
    sys.argv.remove("--annotate")
ONLY = {name for name in os.environ.get("EXT_ONLY", "").split(",") if name}
JOBS = int(os.environ.get("EXT_JOBS", os.cpu_count() or 1))

if shutil.which("ccache") and "CC" not in os.environ:
    os.environ["CC"] = "ccache gcc"

DIRECTIVES = {
    "language_level": 3,
    "binding": False,
    "auto_pickle": False,
    "embedsignature": False,
    "boundscheck": CHECKED,
    "wraparound": CHECKED,
    "initializedcheck": CHECKED,
    "nonecheck": CHECKED,
    "cdivision": not CHECKED,
    "overflowcheck": CHECKED,
}


def compile_args() -> list[str]:
    if CHECKED:
        return ["-O0", "-g", "-UNDEBUG"]
    args = ["-O2", "-g0"] if RELEASE else ["-O1", "-g0"]
    args += ["-DCYTHON_WITHOUT_ASSERTIONS=1", "-fno-plt", "-fno-semantic-interposition"]
    return args + (["-march=native"] if NATIVE else [])


def extensions() -> list[Extension]:
    headers = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "ext").rglob("*.h"))
    return [
        Extension(
            f"ext.{path.stem}",
            [str(path.relative_to(ROOT))],
            include_dirs=["ext"],
            depends=headers,
            extra_compile_args=[
                "-std=gnu11",
                "-Wno-unused",
                "-Wno-unreachable-code",
                "-Wno-sign-compare",
                *compile_args(),
            ],
        )
        for path in sorted((ROOT / "ext").glob("*.pyx"))
        if not ONLY or path.stem in ONLY
    ]


def cythonized() -> list[Extension]:
    from Cython.Build import cythonize
    from Cython.Compiler import Options

    Options.fast_fail = True
    return cythonize(
        extensions(),
        compiler_directives=DIRECTIVES,
        build_dir="build/cython-checked" if CHECKED else "build/cython",
        annotate=ANNOTATE,
        emit_linenums=False,
        nthreads=0 if len(ONLY) == 1 else JOBS,
        quiet=True,
    )


if __name__ == "__main__":
    setup(
        packages=[
            "ext",
            "engine",
            "engine.strategies",
            "connectors",
            "connectors.binance",
            "connectors.bybit",
            "tools",
            "tools.exchange",
            "tools.exchange.binance",
            "tools.exchange.bybit",
        ],
        package_dir={"": "."},
        package_data={"ext": ["*.pyi", "*.pxd", "*.h", "py.typed"]},
        ext_modules=cythonized(),
    )
