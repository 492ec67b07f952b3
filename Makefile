# Everything runs from .venv, which each target makes on first use from the hashed lock files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test tools lint types imports docs bench peers simulate mutations lock clean

export PATH := $(abspath $(BIN)):$(PATH)
# Wherever it is set, every process that the tests start would compile all of healthd anew.
unexport PYTHONDONTWRITEBYTECODE

# Not compiled here, one module after the other: most of them are never imported, and those that are, are compiled then.
$(READY): requirements/dev.lock pyproject.toml
	@if [ -L $(VENV) ]; then echo "$(VENV) is a link: what it leads to would be emptied. Remove the link first." >&2; exit 1; fi
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --require-hashes --requirement requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY)  ## play the story; by hand, or `make demo ARGS=--once` without a person
	$(BIN)/healthd demo $(ARGS)

test: $(READY)  ## everything CI runs
	.ci/test $(BIN) $(ARGS)

tools: $(READY)
	.ci/tools $(BIN)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

docs: $(READY)  ## the pages that are made from the source
	$(BIN)/python docs/generate.py

simulate: $(READY)  ## a year of ten thousand accounts, for each seed: `make simulate ARGS="--seeds 1-50 --jobs 2"`
	$(BIN)/python -m tests.simulation.simulate $(ARGS)

mutations: $(READY)  ## break each promise on purpose; some of them: `make mutations ARGS="lease"`
	$(BIN)/python -m tests.mutations.apply $(ARGS)

bench: $(READY) peers  ## every figure beside its peers; to see whether all runs: `make bench ARGS=--quick`
	$(BIN)/python bench/report.py $(ARGS)

peers: $(READY)
	.ci/peers $(BIN)

lock:  ## refresh the pins; needs uv on the PATH
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --upgrade \
	  --custom-compile-command "make lock" --output-file requirements/run.lock --extra postgres pyproject.toml
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --upgrade \
	  --custom-compile-command "make lock" --output-file requirements/dev.lock --group dev pyproject.toml
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --upgrade \
	  --custom-compile-command "make lock" --output-file requirements/build.lock --group build
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --upgrade \
	  --custom-compile-command "make lock" --output-file requirements/audit.lock --group audit

clean:
	rm -rf $(VENV) dist
