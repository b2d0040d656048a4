# Every target makes what it needs: a clone and Python 3.11 or newer are enough.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test lint format types layers tutorials wheel constraints help

VENV := .venv
BIN := $(VENV)/bin
# A command that exists may still not run (pyenv's shims), so each is tried.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
  $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$name && break; done)
# Processes are what uses the cores, so each of the tests runs on one thread, and keeps what it compiled for the others.
test: export OMP_NUM_THREADS := 1
unexport PYTHONDONTWRITEBYTECODE
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist worksteal

help:
	@echo "make demo | test | lint | format | types | layers | tutorials | wheel | constraints"

demo: $(VENV)/.core
	$(BIN)/xtrimogene demo

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.test
	$(BIN)/lint-imports --no-logo

tutorials: $(VENV)/.dev
	$(BIN)/python .ci/tutorials --write

wheel: $(VENV)/.dev
	$(BIN)/python .ci/wheel_check

# Triton is left out: each build of torch asks for its own.
constraints: $(VENV)/.dev
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^triton==' | sed 's/^\(torch==[^+]*\)+.*/\1/' > constraints.txt

# One stamp for each set of dependencies.
$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.core: EXTRA :=
$(VENV)/.test: EXTRA := [test]
$(VENV)/.dev: EXTRA := [dev]
$(VENV)/.core $(VENV)/.test $(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.$(EXTRA)'
	touch $@
