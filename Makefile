# Verbs: run test bench lint build checked clean help. Each is a line that anyone can read.
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: help run test bench lint build checked install clean

help:  ## show the verbs
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(STAMP): pyproject.toml tools/bootstrap.sh
	@sh tools/bootstrap.sh $(VENV)
	@touch $@

build: $(STAMP)  ## build the fast extensions in place
	@mkdir -p build && flock build/.lock $(PY) setup.py -q build_ext --inplace

checked: $(STAMP)  ## build the checked extensions into build/checked
	@mkdir -p build/checked/ext && cp ext/*.py ext/*.pyi ext/*.pxd build/checked/ext/
	@EXT_CHECKED=1 flock build/.lock.checked $(PY) setup.py -q build_ext --build-lib build/checked --build-temp build/temp-checked

RUN_FOR ?= 60

run: build  ## trade on the local exchange for a minute, then replay what was recorded
	@$(PY) -m tools.cli run --demo --config config/demo.toml --for $(RUN_FOR)

test: build checked  ## all tests, on the fast and on the checked build
	@$(PY) -m pytest -q -m "not slow" tests
	@PYTHONPATH=build/checked:. $(PY) -P -m pytest -q -m "not slow" tests

bench: $(STAMP)  ## measure against peers in one run and print ratios
	@mkdir -p build && EXT_PROFILE=release flock build/.lock $(PY) setup.py -q build_ext --inplace --force
	@EXT_PROFILE=release $(PY) -m bench.run

lint: export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
lint: $(STAMP)  ## ruff, cython-lint, mypy, stubtest
	@ruff check . && ruff format --check . && cython-lint ext && mypy
	@$(PY) -m mypy.stubtest --allowlist tests/stubtest_allowlist.txt $$(ls ext/*.pyx | sed 's|/|.|;s|\.pyx||')

install: ## as root: virtual environment, program and unit below /opt/tickwright and /etc
	@sh systemd/install.sh

clean:  ## remove what was built
	rm -rf build var .mypy_cache .ruff_cache .hypothesis ext/*.so
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
