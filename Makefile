# make demo: the whole pipeline on this machine. make test: the suite. make check: lint, types, layers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-long check format bench aws-smoke clean
.DEFAULT_GOAL := demo

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

# An editable install, so that a pulled change is in force without another one.
$(VENV)/.run: pyproject.toml constraints.txt $(VENV)/.made
	$(BIN)/pip install --quiet -c constraints.txt -e '.[local]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/pip install --quiet -c constraints.txt --group dev
	@touch $@

demo: $(VENV)/.run
	$(BIN)/stockpipe demo

test: $(VENV)/.dev
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# The same, and what takes long: every recorded file through the pipeline, ten kills, leases that end.
test-long: $(VENV)/.dev
	STOCKPIPE_LONG=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/processor.py
	PYTHONPATH=tests $(BIN)/python benchmarks/pipeline.py
	PYTHONPATH=tests $(BIN)/python benchmarks/spike.py
	PYTHONPATH=tests $(BIN)/python benchmarks/naive.py
	$(BIN)/python benchmarks/provision.py
	$(BIN)/python benchmarks/stream.py

# Never in CI: a throwaway stack in a real account. It says what it costs, and asks.
aws-smoke: $(VENV)/.dev
	$(BIN)/python tests/aws/smoke.py $(CONFIRM)

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
