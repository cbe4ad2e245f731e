# PYTHON=/path/to/python3.12 chooses the interpreter for a new .venv; any 3.11 or newer does.
# JOBS=1 runs the tests one after another. Many of them wait for real workers: so more at once than there are cores.
BIN := .venv/bin
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n > 8 ? 16 : 2 * n)))
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal
export PYTHON
# A machine that forbids byte code would compile this package in each process that tests start: hundreds of them.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
COVERED := stabilize_celery/engine/*,stabilize_celery/store/*,stabilize_celery/models/*
.PHONY: help setup demo test check conformance chaos coverage bench fmt unit integration simulate planted docs site lock

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv with everything for development (again: seconds)
	@.ci/setup

demo: ## audit a source tree on a real fleet of workers (DEMO_ARGS="--path DIR")
	@.ci/setup demo
	@$(BIN)/stabilize-celery demo $(DEMO_ARGS)

test: setup ## all tests but chaos, with a real Redis and real Celery workers (TEST_ARGS="-k name")
	$(PYTEST) $(TEST_ARGS)

check: setup ## lint, format, types and import contracts; needs no Redis
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

conformance: setup ## contracts of stores and transports, 100 schedules of each scenario (CONFORMANCE_SEEDS=1)
	CONFORMANCE_SEEDS=$${CONFORMANCE_SEEDS:-100} $(PYTEST) tests/conformance $(TEST_ARGS)

chaos: setup ## kill workers and Redis under load; takes minutes
	@test -d tests/chaos || { echo "make chaos: tests/chaos does not exist yet" >&2; exit 1; }
	$(BIN)/python -m pytest tests/chaos $(TEST_ARGS)

coverage: setup ## branch coverage of engine, store and model, 95 % at least; one process, takes minutes
	CONFORMANCE_SEEDS=1 $(BIN)/coverage run -m pytest -p no:xdist -p no:randomly --timeout 900 \
	  tests/unit/engine tests/unit/models tests/unit/store tests/unit/runtime tests/conformance/store tests/conformance/test_scenarios.py \
	  tests/simulation --ignore tests/simulation/test_fleet.py $(TEST_ARGS)
	$(BIN)/coverage report --skip-covered --fail-under 95 --include '$(COVERED)'

bench: setup ## measure beside other engines, write JSON, tables, charts (QUICK=1, BENCH_ARGS="...")
	@benchmarks/setup
	.venv-bench/bin/python -m benchmarks $(or $(BENCH_ARGS),compare $(if $(QUICK),--quick))

fmt: setup ## format the code and repair what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

unit: setup ## the fast tests: values in, values out
	$(PYTEST) tests/unit $(TEST_ARGS)

integration: setup ## the tests that need a real Redis and real Celery workers
	$(PYTEST) tests/integration $(TEST_ARGS)

simulate: setup ## runs of a simulated fleet in which everything fails (SEEDS=2000, FROM=0)
	$(BIN)/python -m tests.simulation.fleet --seeds $(or $(SEEDS),2000) --from $(or $(FROM),0)

planted: setup ## plant bugs in copies of the code: the simulated fleet must see each; takes minutes
	$(BIN)/python -m tests.simulation.planted $(PLANTED_ARGS)

site: setup ## build the documentation site into site/, strictly: no broken links
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

docs: setup ## check that the documentation is whole: links, decisions, examples
	$(BIN)/python -m pytest tests/unit/test_docs.py

lock: setup ## take the newest versions that pyproject.toml allows into the lock files
	$(BIN)/python -m pip install -q --upgrade --upgrade-strategy eager -e ".[dev]" hatchling editables
	@.ci/lock
