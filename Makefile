PYTHON ?= python3
BIN := .venv/bin

.PHONY: install run test lint bench clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

run: install
	$(BIN)/atlas-bench run babilong
	$(BIN)/atlas-bench run babilong:qa1 --len 10M

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: install
	$(BIN)/python -m benchmarks.stream
	$(BIN)/python -m benchmarks.kernels

clean:
	rm -rf .venv build dist *.egg-info
