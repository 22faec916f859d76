PYTHON ?= python3
BIN := .venv/bin

.PHONY: install run test test-faults lint bench clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

run: install
	$(BIN)/atlas-bench run babilong:qa1 --len 10M --model atlas-nano --samples 2 --out runs

test: install
	$(BIN)/python -m pytest

test-faults: install
	$(BIN)/python -m pytest -m faults tests/faults

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: install
	$(BIN)/python -m benchmarks.stream
	$(BIN)/python -m benchmarks.kernels

clean:
	rm -rf .venv build dist *.egg-info
