# Every target makes its own virtual environment; nothing else has to be installed by hand.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test check lint bench fuzz properties dev format clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/'

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps rigour==2.6.1
	@touch $@

demo: $(STAMP)  ## play one transfer and the five incidents on an embedded stack
	$(BIN)/zentra demo

dev: $(STAMP)  ## run everything on this machine: servers, gateway, worker, sandbox rail
	$(BIN)/zentra dev

test: $(STAMP)  ## run the whole test suite against real servers
	$(BIN)/python -m tests

check: lint  ## format, lint, types and the fast tests
	$(BIN)/python -m pytest -q -m 'not service and not slow'

lint: $(STAMP)  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP)  ## measure every row the runtime is held to, three rounds; fails where a bar is missed
	$(BIN)/zentra bench suite --rounds 3

fuzz: $(STAMP)  ## throw 100,000 malformed requests at a gateway, and ask it at random by its description
	$(BIN)/python -m zentra.bench.fuzzing --requests 100000
	$(BIN)/python -m tests.fuzzing.described --examples 100 --seconds 600

properties: $(STAMP)  ## 50,000 random operations each on the engine and the ledger, auditors behind every one
	$(BIN)/python -m tests.properties --operations 50000

format: $(STAMP)  ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
