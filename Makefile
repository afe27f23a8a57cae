# What the README's commands run. Each makes its own virtual environment in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint bench bench-compare clean

demo: $(INSTALLED)
	$(BIN)/python -m models.demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -e ".[dev,bench]"
	$(BIN)/python -m pytest bench --benchmark-json=build/bench.json
	$(BIN)/python bench/report.py build/bench.json

bench-compare: $(INSTALLED)
	$(BIN)/python bench/compare.py $(BASE)

$(INSTALLED): pyproject.toml CMakeLists.txt $(wildcard fastrdm/cpp/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fastrdm needs Python 3.11 or later; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	$(BIN)/fastrdm kernels
	@touch $@

clean:
	rm -rf $(VENV) build demo-out
