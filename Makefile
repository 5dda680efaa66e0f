# On a fresh Debian with Python >= 3.11 and make: `make demo`, `make test`. Everything else: `make help`.
# Another Python beside it: make test PYTHON=python3.12 VENV=.venv-3.12

PYTHON ?= python3
VENV ?= .venv
# One more than processors: a test that waits for a server leaves its own idle.
PYTEST_ARGS ?= -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --dist loadscope

BIN := $(VENV)/bin
UV := $(BIN)/uv
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)
MEMBERS := $(patsubst %/pyproject.toml,./%,$(wildcard plugins/*/pyproject.toml))
PACKAGES := forecastcore $(wildcard plugins/*/forecastcore_*) $(if $(wildcard flows/*.py),flows)

# Stamps: a second `make` does nothing until a lock or a pyproject.toml changes.
BASE := $(VENV)/.made-by-$(subst /,-,$(PYTHON))
BROWSER := tests/support/browser/node_modules/.package-lock.json
AZURITE := tests/support/azurite/node_modules/.package-lock.json
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev

# uv writes into $(VENV) whatever environment the shell has activated, and never fetches a Python of its own.
export VIRTUAL_ENV := $(abspath $(VENV))
export UV_PYTHON_DOWNLOADS := never
# What is imported is compiled once, whatever the shell says: without, every command compiles for five seconds.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SYNC := $(UV) pip sync --quiet --python $(BIN)/python --require-hashes
EDITABLE := $(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --no-index \
	--editable . $(addprefix --editable ,$(MEMBERS))
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --annotation-style line $(if $(UPGRADE),--upgrade) \
	$(addprefix --no-emit-package ,forecastcore $(notdir $(MEMBERS)))

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev azurite java browser demo up down test test-alone test-slow bench docs types lint format lock clean reliability sbom

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: $(RUNTIME) ## make .venv with what runs forecastcore; the command is .venv/bin/forecastcore

setup-dev: $(DEV) ## add what tests and checks need

azurite: $(AZURITE) ## the emulator of Azure Storage that tests talk to, in tests/support/azurite (needs npm)

java: ## the Java that the tests on Spark run in (Debian: installed where there is none)
	@scripts/java.sh

browser: $(BROWSER) ## the Chromium that the tests on pages look with, and axe (Debian: installed where there is none)
	@scripts/browser.sh

demo: $(RUNTIME) ## write demo-project/, retrain and predict on real data
	@$(BIN)/forecastcore demo demo-project

up: $(RUNTIME) ## Prefect's server and worker, the deployments, and MLflow's pages, on 127.0.0.1
	@$(BIN)/python scripts/services.py up

down: $(RUNTIME) ## end just what `make up` started
	@$(BIN)/python scripts/services.py down

test: $(DEV) $(AZURITE) java ## all tests that are not slow; the wheels are built and tried too
	@$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-alone: $(DEV) $(AZURITE) java ## the tests of `make test` where nothing but loopback can be reached (Linux)
	@$(BIN)/python scripts/alone.py $(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-slow: $(DEV) $(AZURITE) java browser ## the tests that take minutes, and the laws on many more examples
	@$(BIN)/python -m pytest -m "slow or hypothesis" --hypothesis-profile=thorough $(PYTEST_ARGS)

bench: $(DEV) ## one table of how fast it is beside the bare libraries; FULL=1 for all sizes (hours), DATA=DIR for how good
	@$(BIN)/python bench/table.py $(if $(FULL),--full)
	@$(if $(DATA),$(BIN)/python bench/accuracy.py --data $(DATA))

reliability: $(DEV) $(AZURITE) java browser ## run the tests behind docs/reliability.md, and write their figures there (an hour)
	@$(BIN)/python -m pytest --row 0 $(PYTEST_ARGS) --junitxml=.reliability.xml; \
		$(BIN)/python scripts/reliability.py .reliability.xml

docs: $(DEV) ## the documentation's pages, in site/; a dead link fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --clean
	@echo "the pages are in site/index.html"

sbom: $(DEV) ## a bill of materials of what is installed to run (CycloneDX), in dist/sbom.cdx.json
	@$(BIN)/python scripts/sbom.py

types: $(DEV) ## how much of the public interface a type checker knows, from the built wheel
	@$(BIN)/python scripts/typed.py

lint: $(DEV) ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --strict --no-error-summary $(PACKAGES)
	@said=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$said"; exit 1; }

format: $(DEV) ## ruff's formatter and its safe fixes
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

lock: | $(BASE) ## write requirements/ anew from the pyproject.toml files (UPGRADE=1: newest versions)
	@$(COMPILE) $(PROJECTS) --extra all --group pyproject.toml:build --output-file requirements/runtime.txt
	@$(COMPILE) $(PROJECTS) --extra all --extra spark --group pyproject.toml:dev --constraint requirements/runtime.txt \
		--output-file requirements/dev.txt
	@echo uv | $(COMPILE) - --no-annotate --constraint requirements/runtime.txt --output-file requirements/uv.txt

clean: ## remove the environment, caches and the demo
	@rm -rf $(VENV) demo-project dist build site .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(AZURITE) $(BROWSER): %/node_modules/.package-lock.json: %/package-lock.json
	@command -v npm >/dev/null || { echo "the tests on Azure storage and on pages need Node.js and npm: apt-get install nodejs npm" >&2; exit 1; }
	@cd $* && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(BASE):
	@scripts/venv.sh $(VENV) $(PYTHON)
	@touch $@

$(RUNTIME): requirements/runtime.txt $(PROJECTS) | $(BASE)
	@$(SYNC) requirements/runtime.txt
	@$(EDITABLE)
	@touch $@

$(DEV): $(RUNTIME) requirements/dev.txt
	@$(SYNC) requirements/dev.txt
	@$(EDITABLE)
	@touch $@
