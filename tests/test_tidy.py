"""The house rules as tests: who may import whom, a pure core, stated exceptions, short functions, tidy words."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ext", "engine", "connectors", "tools")
SHELL = {"loop", "loop_wire", "hot_process", "http", "control", "notify", "metrics"} | {
    "journal", "journal_read", "journal_verify"
}  # fmt: skip
IMPURE = {"asyncio", "time", "datetime", "random", "uuid", "socket", "os", "threading", "lmdb", "uvloop", "secrets"}
VOCABULARY = {"types", "instrument", "events", "actions", "venue", "errors", "ids"}
STRATEGY_VIEW = {"strategy", "types", "instrument", "events", "actions", "legs", "strategies"}
MAX_FUNCTION_LINES = 70

# Functions longer than the limit. This list may only shrink.
LONG_FUNCTIONS: dict[str, int] = {}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def imports_of(path: Path) -> list[str]:
    """Dotted names that a module imports at run time or for types; relative imports are not used here."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append(node.module or "")
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def ours(name: str) -> bool:
    return name.split(".")[0] in PACKAGES


def test_engine_imports_only_itself_and_ext() -> None:
    for path in python_files("engine"):
        for name in imports_of(path):
            assert not ours(name) or name.split(".")[0] in ("engine", "ext"), f"{path} imports {name}"


def test_connectors_import_only_the_vocabulary_and_ext() -> None:
    for path in python_files("connectors"):
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] == "engine":
                assert len(parts) > 1 and parts[1] in VOCABULARY, f"{path} imports {name}"
            assert parts[0] != "tools", f"{path} imports {name}"


def test_no_venue_imports_another() -> None:
    for folder in (ROOT / "connectors").iterdir():
        for path in folder.rglob("*.py") if folder.is_dir() else ():
            for name in imports_of(path):
                parts = name.split(".")
                if parts[0] == "connectors" and len(parts) > 1 and (ROOT / "connectors" / parts[1]).is_dir():
                    assert parts[1] == folder.name, f"{path} imports {name}"


def test_strategies_see_no_journal_and_no_connector() -> None:
    for path in python_files("engine/strategies"):
        for name in imports_of(path):
            parts = name.split(".")
            assert parts[0] not in ("connectors", "tools"), f"{path} imports {name}"
            if parts[0] == "engine" and len(parts) > 1:
                assert parts[1] in STRATEGY_VIEW, f"{path} imports {name}"


def test_core_and_connectors_are_pure() -> None:
    for path in python_files("engine", "connectors"):
        if path.parent.name == "engine" and path.stem in SHELL:
            continue
        for name in imports_of(path):
            assert name.split(".")[0] not in IMPURE, f"{path} imports {name}"


def test_core_iterates_no_set() -> None:
    """An order that reaches an action comes from lists and dicts; a loop over a set display is the mistake to make."""
    for path in python_files("engine", "connectors"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.For):
                is_set = isinstance(node.iter, ast.Set | ast.SetComp) or (
                    isinstance(node.iter, ast.Call) and getattr(node.iter.func, "id", "") in ("set", "frozenset")
                )
                assert not is_set, f"{path}:{node.lineno} iterates a set"


def test_functions_fit_on_a_screen() -> None:
    found: dict[str, int] = {}
    for path in python_files("engine", "connectors", "tools", "bench"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    found[f"{path.relative_to(ROOT)}:{node.name}"] = lines
    new = {name: lines for name, lines in found.items() if lines > LONG_FUNCTIONS.get(name, 0)}
    assert not new, f"longer than {MAX_FUNCTION_LINES} lines: {new}"
    assert set(LONG_FUNCTIONS) <= set(found), "a listed function is short now: take it off the list"


def test_cython_signatures_state_their_exceptions() -> None:
    """An unstated nogil signature takes the interpreter lock back on each call (33 ns instead of 0)."""
    pattern = re.compile(r"^\s*(cdef|cpdef)\s+(?!class|struct|enum|extern|packed|union)[^=:#]*\)\s*(nogil)?\s*:?\s*$")
    for path in sorted((ROOT / "ext").glob("*.p[yx]*")):
        if path.suffix not in (".pyx", ".pxd"):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.split("#")[0].rstrip()
            if pattern.match(code) and "noexcept" not in code and "except" not in code:
                returns_object = re.match(
                    r"^\s*(cdef|cpdef)\s+(inline\s+)?(object|bytes|str|list|tuple|dict|[A-Z]\w*)\b", code
                )
                assert returns_object, f"{path.name}:{number}: no noexcept/except stated: {line.strip()}"


def test_every_extension_has_a_stub() -> None:
    for path in (ROOT / "ext").glob("*.pyx"):
        assert path.with_suffix(".pyi").is_file(), f"{path.name} has no .pyi"


def test_connectors_have_the_same_file_names() -> None:
    wanted = {"__init__.py", "endpoints.py", "auth.py", "symbols.py", "market.py", "trading.py", "account.py",
              "errors.py", "connector.py", "README.md"}  # fmt: skip
    for folder in (ROOT / "connectors").iterdir():
        if folder.is_dir() and (folder / "__init__.py").is_file():
            names = {path.name for path in folder.iterdir() if path.is_file()}
            assert wanted <= names, f"{folder.name} lacks {sorted(wanted - names)}"


def test_no_package_marker_below_tests() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_names_belong_to_us_alone() -> None:
    """The generic top-level names must not be given by another distribution as well."""
    owners = importlib.metadata.packages_distributions()
    for package in (*PACKAGES, "bench"):
        assert set(owners.get(package, ["tickwright"])) <= {"tickwright"}, f"{package}: {owners[package]}"


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error"])
def test_nothing_is_left_for_later(word: str) -> None:
    for path in tracked_files():
        if path.suffix in (".py", ".pyx", ".pxd", ".pyi", ".sh") and path != Path(__file__):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                assert not re.search(rf"\b{word}\b(?!\(#\d+\))", line), f"{path}:{number}: {line.strip()}"


def test_prose_speaks_of_the_project_only() -> None:
    machine_path = "/wo" + "rk/"
    for path in tracked_files():
        if path.suffix in (".py", ".pyx", ".pxd", ".pyi", ".md", ".toml", ".sh", ".h", "") and path != Path(__file__):
            try:
                text = path.read_text()
            except UnicodeDecodeError:
                continue
            assert machine_path not in text, f"{path} names a path of one machine"


def test_no_code_switches_certificate_checks_off() -> None:
    for path in tracked_files():
        if path.suffix == ".py" and path != Path(__file__):
            text = path.read_text()
            assert "CERT_NONE" not in text and "check_hostname = False" not in text, path


def test_generated_c_is_not_tracked() -> None:
    assert not [path for path in tracked_files() if path.suffix in (".c", ".so")]
