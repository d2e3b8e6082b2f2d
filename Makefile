# Every target does all set-up that it needs, in a virtual environment of the project's own.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help install demo test lint chart bench debian clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## make .venv with rqueue in it

demo: $(VENV)/.installed ## show the main job; ARGS=--once ends by itself
	@$(BIN)/rqueue demo $(ARGS)

test: $(VENV)/.developing .venv-checkov/.installed debian lint ## every test ring, lint, types and import contracts; ARGS go to pytest
	$(BIN)/pytest $(ARGS)

lint: $(VENV)/.developing ## ruff, mypy, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>&1 | tail -n 12; exit $${PIPESTATUS[0]}

chart: $(VENV)/.developing ## write the values into the chart's README
	$(BIN)/python helm/readme.py

bench: $(VENV)/.benching debian ## how fast it is here, beside others; half an hour, ARGS=--quick for a minute
	$(BIN)/python -m bench $(ARGS)

clean: ## remove what the other targets made
	rm -rf $(VENV) .venv-checkov build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

SHELL := bash

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rqueue needs Python 3.11 or newer; set PYTHON=…"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: setup.cfg pyproject.toml rqueue/__init__.py | $(VENV)/bin/python
	@echo "setting up $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	@echo "adding what the tests need"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/.benching: $(VENV)/.installed
	@echo "adding what the benchmark needs"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

# It asks for many packages in versions of its own. Where it cannot be had, the scan of the chart is left out and says so.
.venv-checkov/.installed: | $(VENV)/bin/python
	@echo "adding checkov in .venv-checkov"
	@$(BIN)/python -m venv .venv-checkov && .venv-checkov/bin/pip install --quiet --disable-pip-version-check 'checkov >=3.3,<4' \
	&& touch $@ || { rm -rf .venv-checkov; echo "could not: what needs it is left out"; }

# What Debian has for the tests and the benchmark. Where it cannot be installed, what needs it is left out and says so.
DEBIAN := redis-server:redis-server redis-benchmark:redis-tools wrk:wrk promtool:prometheus

debian:
	@missing=; for pair in $(DEBIAN); do command -v "$${pair%%:*}" >/dev/null || missing="$$missing $${pair#*:}"; done; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "installing Debian's$$missing"; \
		(apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing) >/dev/null 2>&1 \
		|| echo "could not: what needs them is left out"; \
	fi
