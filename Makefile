# Everything runs in .venv, made on first use by any Python >= 3.11.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := test
.PHONY: demo test lint compare soak notebooks docs clean newest test-clients test-npm

demo: $(VENV)/.demo-installed
	$(BIN)/tiered-cache demo

test: $(VENV)/.test-installed
	$(PYTEST) -m ""

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict tests/house/typed_usage.py
	$(BIN)/pyright --pythonpath $(BIN)/python

soak: $(VENV)/.test-installed
	TIERED_CACHE_SOAK=full $(PYTEST) -m ""

# Ours beside other caches: some 15 minutes of timing on a quiet machine, half as long with QUICK=1.
# DATA=folder of labelled questions (<name>.jsonl.gz, rows {"t": question, "c": class}) adds who
# answers what how wrongly, which takes longer than all the rest.
# Results: benchmarks/RESULTS.md, docs/figures. What changed: benchmarks/compare_results.py.
compare: $(VENV)/.test-installed
	$(BIN)/python benchmarks/environments.py
ifdef DATA
	OMP_NUM_THREADS=1 PYTHONPATH=.:benchmarks $(BIN)/python benchmarks/quality.py --data "$(DATA)" $(if $(QUICK),--quick)
endif
	PYTHONPATH=.:benchmarks $(BIN)/python benchmarks/identity.py
	$(BIN)/python benchmarks/run.py $(if $(QUICK),--quick)

notebooks: $(VENV)/.test-installed
	OMP_NUM_THREADS=1 $(BIN)/python notebooks/execute.py

# The default tests with the newest releases that pip finds, in an environment of their own.
newest:
	$(PYTHON) -m venv --clear .newest
	.newest/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[all,dev]'
	OMP_NUM_THREADS=1 .newest/bin/python -m pytest -p no:cacheprovider

# Clients that CI does not install, against the service: frameworks in an environment of their own,
# and npm's packages, which need node and npm.
CLIENTS := .clients
test-clients: $(VENV)/.test-installed
	$(BIN)/python -m venv $(CLIENTS)/python
	$(CLIENTS)/python/bin/python -m pip install --quiet --disable-pip-version-check \
		openai-agents 'pydantic-ai-slim[openai,anthropic]' langchain-openai langchain-anthropic \
		haystack-ai dspy litellm
	$(BIN)/python -m tests.service.clients.run \
		$(CLIENTS)/python/bin/python tests/service/clients/frameworks.py
	$(BIN)/python -m tests.service.clients.run \
		$(CLIENTS)/python/bin/python tests/service/clients/pages.py docs/frameworks.md

test-npm: $(VENV)/.test-installed
	mkdir -p $(CLIENTS)/npm
	cp tests/service/clients/npm.mjs $(CLIENTS)/npm/
	cd $(CLIENTS)/npm && npm install --silent --no-audit --no-fund openai @anthropic-ai/sdk
	$(BIN)/python -m tests.service.clients.run node $(CLIENTS)/npm/npm.mjs

# The documentation as a site, in site/.
docs: $(VENV)/.test-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python >= 3.11 is needed: make PYTHON=/path/to/it"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --constraint constraints.txt --editable '.[offline,langchain,cli]'
	@touch $@

$(VENV)/.test-installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --constraint constraints.txt --editable '.[all,dev]'
	@touch $@ $(VENV)/.demo-installed

clean:
	rm -rf $(VENV) .newest $(CLIENTS) .bench-envs dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
