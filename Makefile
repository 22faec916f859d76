PYTHON ?= python3
BIN := .venv/bin
# Every version comes from the lock, those that packages are built with too.
LOCKED := PIP_CONSTRAINT=$(CURDIR)/constraints.txt PIP_BUILD_CONSTRAINT=$(CURDIR)/constraints.txt
PIP := -m pip install --quiet --disable-pip-version-check
TORCH := $(shell grep '^torch==' constraints.txt)
# Tests that meet other libraries: transformers, datasets, lm-eval, nltk, typer, rich, pyarrow, pandas, aiohttp, matplotlib.
LIBRARIES := tests/test_imports.py tests/cli tests/lmeval tests/models tests/results tests/comparison tests/export \
	tests/tasks/test_corpora.py tests/tasks/test_prompts.py tests/tasks/test_recall.py tests/tasks/test_ruler.py

# A worker for each processor, with one thread each (tests/conftest.py); a worker takes up to 2 GB of memory.
PARALLEL := --numprocesses logical --maxprocesses 8 --dist worksteal

.PHONY: install run test test-all test-faults soak fuzz test-newest test-oldest lock lint bench clean reproduce-nano

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(LOCKED) $(BIN)/python $(PIP) -e '.[dev]'
	touch $@

run: install
	$(BIN)/atlas-bench run babilong
	$(BIN)/atlas-bench run babilong:qa1 --len 10M

test: install
	$(BIN)/python -m pytest $(PARALLEL)

test-all: install
	$(BIN)/python -m pytest $(PARALLEL) -m 'not faults'

test-faults: install
	$(BIN)/python -m pytest -m faults tests/faults

# Ten thousand cells under kills, full disks, lost shards and clock steps; TMPDIR names another disk.
soak: install
	$(BIN)/python -u -m tests.faults.soak --cells 10K --seed 0

# Every parser on ten million inputs, in an hour or two; what breaks one is kept in tests/fuzz/found and tested from then on.
fuzz: install
	$(LOCKED) $(BIN)/python $(PIP) -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz --cases 10M

# The same with the newest release of everything, and with the oldest that pyproject.toml allows; torch stays as locked.
test-newest:
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python $(PIP) --upgrade --upgrade-strategy eager -e '.[dev]' $(TORCH)
	.venv-newest/bin/python -m pytest $(PARALLEL) -m 'not faults' $(LIBRARIES)

test-oldest: install
	$(BIN)/python $(PIP) uv
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --all-extras --no-header --python .venv-oldest/bin/python \
		pyproject.toml --output-file .venv-oldest/constraints.txt
	PIP_CONSTRAINT=$(CURDIR)/.venv-oldest/constraints.txt .venv-oldest/bin/python $(PIP) -e '.[dev]'
	.venv-oldest/bin/python -m pytest $(PARALLEL) -m 'not faults' $(LIBRARIES)

# Writes constraints.txt anew: the newest release of every dependency, direct and indirect, for Python 3.11 and later.
lock:
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) uv
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade \
		pyproject.toml --output-file constraints.txt

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python -m benchmarks.stream
	$(BIN)/python -m benchmarks.kernels

clean:
	rm -rf .venv .venv-newest .venv-oldest build dist *.egg-info

# The embedded models for qa1 to qa5, from nothing; BOOKS is the folder of novels that docs/long-memory.md names. All memories
# go on from one backbone, with the same lessons and budget. Stopped, the same command goes on.
# On one core the backbone takes about an hour and a half, each memory 20 to 45 minutes; the last two were not timed.
NANO := nano
TRAIN = OMP_NUM_THREADS=1 $(BIN)/atlas-bench train --task babilong:qa1,babilong:qa2,babilong:qa3,babilong:qa4,babilong:qa5 \
	--background generated --background $(BOOKS) --hold-out pride_and_prejudice --threads 1
MEMORIES := gated-deltanet omeganet titans atlas
# Those that may be a matrix or an MLP are a matrix here, as the other two are.
MEMORY_titans := titans:map=matrix
MEMORY_atlas := atlas:map=matrix

reproduce-nano: $(MEMORIES:%=$(NANO)/%-nano/card.json) $(NANO)/swa-nano/card.json $(NANO)/transformer-nano/card.json

$(NANO)/backbone/card.json: | install
	$(TRAIN) --memory gated-deltanet --layers 4 --screen 8 --seed 1 --tokens 16M --out $(@D)

$(NANO)/%-nano/card.json: $(NANO)/backbone/card.json
	$(TRAIN) --memory $(or $(MEMORY_$*),$*) --layers 4 --screen 8 --seed 2 --init $(NANO)/backbone --tokens 6M --out $(@D)

$(NANO)/swa-nano/card.json: | install
	$(TRAIN) --memory none --layers 6 --seed 1 --tokens 24M --out $(@D)

$(NANO)/transformer-nano/card.json: | install
	$(TRAIN) --memory none --layers 6 --attention-window 0 --seed 1 --tokens 24M --out $(@D)
