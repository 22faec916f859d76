PYTHON ?= python3
BIN := .venv/bin

.PHONY: install run test lint bench clean reproduce-nano

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

run: install
	$(BIN)/atlas-bench run babilong:qa1 --len 10M --model atlas-nano --samples 2 --out runs

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

# The embedded models for qa1 to qa5, from nothing; BOOKS is the folder of novels that docs/results.md names. All memories
# go on from one backbone, with the same lessons in the same order, for as many tokens. Stopped, the same command goes on.
NANO := nano
TRAIN = OMP_NUM_THREADS=1 $(BIN)/atlas-bench train --task babilong:qa1,babilong:qa2,babilong:qa3,babilong:qa4,babilong:qa5 \
	--background generated --background $(BOOKS) --hold-out pride_and_prejudice --threads 1
MEMORIES := gated-deltanet omeganet titans atlas

reproduce-nano: $(MEMORIES:%=$(NANO)/%-nano/card.json) $(NANO)/swa-nano/card.json $(NANO)/transformer-nano/card.json

$(NANO)/backbone/card.json: | install
	$(TRAIN) --memory gated-deltanet --layers 4 --screen 8 --seed 1 --tokens 16M --out $(@D)

$(NANO)/%-nano/card.json: $(NANO)/backbone/card.json
	$(TRAIN) --memory $* --layers 4 --screen 8 --seed 2 --init $(NANO)/backbone --tokens 8M --out $(@D)

$(NANO)/swa-nano/card.json: | install
	$(TRAIN) --memory none --layers 6 --seed 1 --tokens 24M --out $(@D)

$(NANO)/transformer-nano/card.json: | install
	$(TRAIN) --memory none --layers 6 --attention-window 0 --seed 1 --tokens 24M --out $(@D)
