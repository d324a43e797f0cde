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
