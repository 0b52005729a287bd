# Every verb uses the Python of the active virtual environment.
PYTHON ?= python
SUITE ?= multi_source

.PHONY: install test lint types bench table

install:
	$(PYTHON) -m pip install -e '.[dev]'

test:
	$(PYTHON) -m pytest -n auto

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

bench:
	$(PYTHON) -m avloc bench --suite $(SUITE)

table:
	$(PYTHON) -m avloc table --suite $(SUITE)
