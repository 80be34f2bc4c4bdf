# Two commands on a fresh machine that has Python 3.11 or newer and make: `make demo`, `make test`.
# Each makes a virtual environment of its own here (.venv), installs, and runs.
#
#   PYTHON  the interpreter to make the environment with (default: the first 3.11+ on PATH)
#   ARGS    passed on: make demo ARGS="--seconds 60", make test ARGS="tests/unit -k probe"

VENV := .venv
PY   := $(VENV)/bin/python
ARGS ?=

NEWER  := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c '$(NEWER)' 2>/dev/null && echo $$p && break; done)

# An environment whose interpreter went away with an upgrade of the system is made anew.
BROKEN := $(shell $(PY) -c '' 2>/dev/null || echo broken)

FAILED := 'Installing failed, see above. It needs PyPI, or a mirror of it named by PIP_INDEX_URL.'

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# What `make chaos` runs; each seed is a run of its own.
SEEDS     ?= 1
TASKS     ?= 4000
KILLS     ?= 20
TRANSPORT ?= balanced-redis

.PHONY: help demo test lint chaos bench-overhead bench-handover bench-latency bench-tick bench-scenarios bench-peers bench-forecasts bench-twin bench-cold bench-energy clean broken

help:
	@echo 'make demo    watch a fleet of Celery workers balance itself, disturbed, for about two minutes'
	@echo 'make test    run the tests'
	@echo 'make lint    linter, types and the contracts between packages'
	@echo 'make chaos   kill, freeze and cut off workers, beat and Redis under load; count what was lost or'
	@echo '             ended twice. SEEDS="1 2 3" TASKS=4000 KILLS=20 TRANSPORT=balanced-redis|redis'
	@echo 'make bench-overhead   throughput over plain Celery, results stored and ignored'
	@echo 'make bench-handover   how long each kind of move takes, from the decision to the target'
	@echo 'make bench-latency    idle dispatch at each priority, beside the stock transport'
	@echo 'make bench-tick       time a tick over up to ten thousand workers and a million queued tasks'
	@echo 'make bench-scenarios  every scenario by every strategy in virtual time, beside the bounds'
	@echo 'make bench-peers      the same jobs on real processes: plain Celery, Dask, Ray, ours (25 minutes)'
	@echo 'make bench-forecasts  what forecasters err on loads of the twin, and what they cost a tick'
	@echo 'make bench-twin       the twin beside real workers on the same small workload'
	@echo 'make bench-cold       what it costs to know no run times beforehand, in virtual time'
	@echo 'make bench-energy     what waiting for frugal hardware saves and costs, beside what nobody can beat'
	@echo 'make clean   remove what these commands made, the environment too'
	@echo 'make help    this list; variables: PYTHON=python3.12, ARGS="…"'

demo: $(VENV)/.demo
	@$(PY) -m celery -A workers.demo_app balancer demo $(ARGS)

# The whole takes two processes, a file in one of them; a part takes what ARGS say.
test: $(VENV)/.dev
	@$(PY) -m pytest $(or $(ARGS),--numprocesses 2 --dist loadfile)

lint: $(VENV)/.dev
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports

chaos: $(VENV)/.dev
	@$(PY) -m tests.chaos --seeds $(SEEDS) --tasks $(TASKS) --kills $(KILLS) --transport $(TRANSPORT) $(ARGS)

bench-overhead: $(VENV)/.dev
	@$(PY) -m tests.bench.overhead $(ARGS)

bench-handover: $(VENV)/.dev
	@$(PY) -m tests.bench.handover $(ARGS)

bench-latency: $(VENV)/.dev
	@$(PY) -m tests.bench.latency $(ARGS)

bench-tick: $(VENV)/.dev
	@$(PY) -m tests.bench.tick $(ARGS)

bench-scenarios: $(VENV)/.dev
	@$(PY) -m tests.bench.scenarios $(ARGS)

bench-peers: $(VENV)/.peers
	@$(PY) -m tests.bench.peers $(ARGS)

bench-forecasts: $(VENV)/.dev
	@$(PY) -m tests.bench.forecasts $(ARGS)

bench-twin: $(VENV)/.dev
	@$(PY) -m tests.bench.twin $(ARGS)

bench-cold: $(VENV)/.dev
	@$(PY) -m tests.bench.cold $(ARGS)

bench-energy: $(VENV)/.dev
	@$(PY) -m tests.bench.energy $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis demo-out dist build
	find balancer workers probes tests -name __pycache__ -type d -exec rm -rf {} +

$(VENV)/.made: $(BROKEN)
	@if [ -z "$(PYTHON)" ]; then \
		echo 'There is no Python 3.11 or newer on PATH.'; \
		echo 'Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python)'; \
		echo 'or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12'; exit 1; fi >&2
	@if ! $(PYTHON) -c '' 2>/dev/null; then \
		echo 'PYTHON=$(PYTHON) cannot be run.'; exit 1; fi >&2
	@if ! $(PYTHON) -c '$(NEWER)'; then \
		echo "PYTHON=$(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 or newer is needed."; exit 1; fi >&2
	@if ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "$(PYTHON) cannot make virtual environments: its modules venv or ensurepip are missing."; \
		echo 'Debian, Ubuntu: apt install python3-venv'; exit 1; fi >&2
	@if $(PY) -m pip --version >/dev/null 2>&1 && $(PY) -c '$(NEWER)'; then \
		echo 'Using the virtual environment $(VENV) that is there'; else \
		echo 'Making the virtual environment $(VENV) with $(PYTHON)'; $(PYTHON) -m venv --clear $(VENV); fi
	@touch $@

$(VENV)/.demo: pyproject.toml $(VENV)/.made
	@echo 'Installing what the demo needs into $(VENV) (once; about a minute)'
	@$(PY) -m pip install --quiet --editable '.[demo]' || { echo $(FAILED) >&2; exit 1; }
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.made
	@echo 'Installing what the tests need into $(VENV) (once; about a minute)'
	@$(PY) -m pip install --quiet --editable '.[dev]' || { echo $(FAILED) >&2; exit 1; }
	@touch $(VENV)/.demo $@

$(VENV)/.peers: pyproject.toml $(VENV)/.dev
	@echo 'Installing the systems that are compared into $(VENV) (once; about a minute)'
	@$(PY) -m pip install --quiet --editable '.[dev,peers]' || \
		echo 'Dask and Ray could not be installed: they are left out'
	@touch $@
