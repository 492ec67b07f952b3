# Everything runs from .venv, which each target makes on first use from the hashed lock files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint types imports check bench lock clean

$(READY): requirements/dev.lock pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY)  ## play the story; by hand, or `make demo ARGS=--once` without a person
	$(BIN)/healthd demo $(ARGS)

test: $(READY) lint types imports  ## everything CI runs
	$(BIN)/python -m pytest --numprocesses auto $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python bench/webhooks.py
	$(BIN)/python bench/sweep.py

lock:  ## refresh the pins; needs uv on the PATH
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --upgrade \
	  --custom-compile-command "make lock" --output-file requirements/run.lock pyproject.toml
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --upgrade \
	  --custom-compile-command "make lock" --output-file requirements/dev.lock --group dev pyproject.toml
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --upgrade \
	  --custom-compile-command "make lock" --output-file requirements/build.lock --group build

clean:
	rm -rf $(VENV) dist
