# Thin on purpose, and plain enough for GNU make 3.81 (macOS): the work is in scripts/.
PYTHON = python3
VENV_PYTHON = .venv/bin/python

.PHONY: help setup lab test check clean

help:
	@echo "make lab     set everything up and open the welcome notebook in JupyterLab"
	@echo "make test    set everything up and run the tests"
	@echo "make check   formatting, lint and types"
	@echo "make clean   remove what make made here (built wheels stay in the user's cache)"

setup:
	@$(PYTHON) scripts/setup.py

lab: setup
	@$(VENV_PYTHON) scripts/lab.py

test: setup
	@$(VENV_PYTHON) -m pytest

check: setup
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m mypy

clean:
	@rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
