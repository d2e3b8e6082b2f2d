# Every target does all set-up that it needs, in a virtual environment of the project's own.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help install demo demo-openstack test soak reliability lint chart docs bench policies lock audit sbom image debian clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## make .venv with rqueue in it

demo: $(VENV)/.installed ## show the main job; ARGS=--once ends by itself
	@$(BIN)/rqueue demo $(ARGS)

demo-openstack: $(VENV)/.developing .venv-placement/.installed ## show a pool that OpenStack's Placement fills; ARGS=--once ends by itself
	@$(BIN)/python -m tests.demo_openstack $(ARGS)

test: $(VENV)/.developing .venv-checkov/.installed .venv-keystone/.installed .venv-placement/.installed debian lint ## every test ring, lint, types and import contracts; ARGS go to pytest, such as -n0 for one process
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

soak: $(VENV)/.developing ## everything breaks under load for 20 minutes; ARGS=--seconds=60 for less, ARGS=--seed=N to repeat one
	$(BIN)/python -m tests.faults.soak $(ARGS)

reliability: $(VENV)/.developing debian ## break everything as often as docs/reliability.md says, and write its table; 45 minutes
	rm -f docs/reliability.jsonl
	$(BIN)/pytest tests/faults -m "not slow" --thorough --record docs/reliability.jsonl $(ARGS)
	$(BIN)/python -m tests.faults.soak --record docs/reliability.jsonl
	$(BIN)/python -m tests.faults.report

lint: $(VENV)/.developing ## ruff, mypy, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>&1 | tail -n 12; exit $${PIPESTATUS[0]}

chart: $(VENV)/.developing ## write what of the chart is made from elsewhere: its README, and the settings in its schema
	$(BIN)/python -m helm.readme

docs: $(VENV)/.documenting ## the documents as a site in build/site; fails where a link leads nowhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build $(ARGS)
	@echo "build/site/index.html"

bench: $(VENV)/.benching debian ## how fast it is here, beside others; half an hour, ARGS=--quick for a minute
	$(BIN)/python -m bench $(ARGS)

policies: $(VENV)/.benching ## what strict, backfill and fair make of the same 10,000 jobs: writes docs/policies.md; five minutes
	$(BIN)/python -m bench.policies $(ARGS)

lock: $(VENV)/.developing ## make the lock files anew from setup.cfg; ARGS=--upgrade takes newer releases
	$(LOCK) $(ARGS) --output-file requirements.lock setup.cfg
	$(LOCK) $(ARGS) --output-file requirements-extras.lock --constraint requirements.lock $(EXTRAS:%=--extra %) setup.cfg
	$(LOCK) $(ARGS) --output-file requirements-dev.lock --constraint requirements-extras.lock --extra dev setup.cfg
	sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' pyproject.toml | $(LOCK) $(ARGS) --output-file requirements-build.lock -

audit: $(VENV)/.developing ## whether a known vulnerability is in what is shipped; fails where nobody can be asked
	MUST_AUDIT=1 $(BIN)/pytest tests/supply/test_audit.py $(ARGS)

sbom: $(VENV)/.developing ## what is shipped, as CycloneDX, in dist/
	@rm -rf build/sbom && mkdir -p dist
	@$(BIN)/uv venv --quiet --python $(BIN)/python build/sbom
	@$(BIN)/uv pip install --quiet --python build/sbom --require-hashes --requirement requirements.lock
	@$(BIN)/uv pip install --quiet --python build/sbom --no-deps .
	$(BIN)/cyclonedx-py environment --no-validate --output-reproducible --of JSON --output-file dist/rqueue.cdx.json build/sbom/bin/python

image: ## build the image; ENGINE=podman builds it with that, ARGS go to it
	$(ENGINE) build --tag rqueue --build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(date -u +%FT%TZ) $(ARGS) .

clean: ## remove what the other targets made
	rm -rf $(VENV) .venv-checkov .venv-keystone .venv-placement build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

SHELL := bash
ENGINE ?= docker
# What the service can do with more packages than every installation has.
EXTRAS := kubernetes openstack traces
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make lock'
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rqueue needs Python 3.11 or newer; set PYTHON=…"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }

# First what is locked, then what setup.cfg asks for beyond it, which is nothing but between an edit and `make lock`.
$(VENV)/.installed: setup.cfg pyproject.toml requirements.lock rqueue/__init__.py | $(VENV)/bin/python
	@echo "setting up $(VENV)"
	@$(PIP) --require-hashes --requirement requirements.lock
	@$(PIP) --quiet --editable .
	@touch $@

$(VENV)/.developing: $(VENV)/.installed requirements-dev.lock
	@echo "adding what the tests need"
	@$(PIP) --require-hashes --requirement requirements-dev.lock
	@$(PIP) --quiet --editable '.[dev]'
	@touch $@

$(VENV)/.benching: $(VENV)/.installed
	@echo "adding what the benchmark needs"
	@$(PIP) --quiet --editable '.[bench]'
	@touch $@

$(VENV)/.documenting: $(VENV)/.installed
	@echo "adding what makes the site of the documents"
	@$(PIP) --quiet --editable '.[docs]'
	@touch $@

# It asks for many packages in versions of its own. Where it cannot be had, the scan of the chart is left out and says so.
.venv-checkov/.installed: | $(VENV)/.developing
	@echo "adding checkov in .venv-checkov"
	@$(BIN)/python -m venv .venv-checkov && $(BIN)/uv pip install --quiet --python .venv-checkov/bin/python 'checkov >=3.3,<4' \
	&& touch $@ || { rm -rf .venv-checkov; echo "could not: what needs it is left out"; }

# A real Keystone for the tests, 200 MB in half a minute. Where it cannot be had, what needs it is left out and says so.
.venv-keystone/.installed: | $(VENV)/.developing
	@echo "adding a Keystone in .venv-keystone"
	@$(BIN)/python -m venv .venv-keystone && $(BIN)/uv pip install --quiet --python .venv-keystone/bin/python 'keystone ==30.*' 'waitress ==3.*' \
	&& touch $@ || { rm -rf .venv-keystone; echo "could not: what needs it is left out"; }

# A real Placement for the tests and the demo, 130 MB in half a minute; with keystonemiddleware it asks a Keystone who calls.
.venv-placement/.installed: | $(VENV)/.developing
	@echo "adding a Placement in .venv-placement"
	@$(BIN)/python -m venv .venv-placement && $(BIN)/uv pip install --quiet --python .venv-placement/bin/python 'openstack-placement ==16.*' 'keystonemiddleware ==13.*' 'waitress ==3.*' \
	&& touch $@ || { rm -rf .venv-placement; echo "could not: what needs it is left out"; }

# What Debian has for the tests and the benchmark. Where it cannot be installed, what needs it is left out and says so.
DEBIAN := redis-server:redis-server redis-benchmark:redis-tools wrk:wrk strip:binutils promtool:prometheus faketime:faketime chromium:chromium

debian:
	@missing=; for pair in $(DEBIAN); do command -v "$${pair%%:*}" >/dev/null || missing="$$missing $${pair#*:}"; done; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "installing Debian's$$missing"; \
		(apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing) >/dev/null 2>&1 \
		|| echo "could not: what needs them is left out"; \
	fi
