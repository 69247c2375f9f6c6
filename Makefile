# memspike: every command a contributor needs, one line each; `make` prints them.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test test-long check format bench bench-peers clean
PEERS := .venv-peers

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## Make .venv with memspike and everything the tests need

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install ## Walk the whole line on the embedded digits, about a minute once installed; ends by naming the report
	$(BIN)/memspike run

test: install ## Run the tests, about six minutes on two cores
	$(BIN)/pytest

test-long: install ## Run the long tests: LeNet on MNIST, the whole line, about a quarter of an hour
	$(BIN)/pytest -m long -n 0

check: install ## Check style, types and the import contract
	$(BIN)/ruff check src tests experiments benchmarks
	$(BIN)/ruff format --check src tests experiments benchmarks
	$(BIN)/pyright
	$(BIN)/lint-imports

format: install ## Write the code in the project's format
	$(BIN)/ruff check --fix src tests experiments benchmarks
	$(BIN)/ruff format src tests experiments benchmarks

bench: install ## Measure against fp32 torch, and against the peers that are installed: one table, benchmarks/results/*.csv, by vector units; half an hour
	MEMSPIKE_PEERS=$${MEMSPIKE_PEERS:-$(PEERS)/bin/python} $(BIN)/python benchmarks/bench.py

bench-peers: ## Install what memspike is measured against into an environment of its own (.venv-peers)
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check --requirement benchmarks/peers/requirements.txt

clean: ## Remove the virtual environment and caches
	rm -rf .venv .venv-peers .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
