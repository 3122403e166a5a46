# `make` lists what there is. Both `make train` and `make test` set up first; a set-up that is ready takes no time.
#
#   make train ARGS="--task cheetah-run"     arguments go through ARGS
#   make test PROCESSES=8                    that many at a time; 0: in one process, where a debugger works
#   make setup DEVICE=cuda                   the build of torch; TORCH_INDEX_URL names another index, PYTHON an interpreter

ARGS ?=
RUNS ?= runs
PROCESSES ?= 2
PYTHON_IN_VENV := .venv/bin/python

# Idle OpenMP threads that spin make two threads nine times slower than one when another process wants a core.
export GOMP_SPINCOUNT ?= 0

.PHONY: help setup train check test test-long outside learn lint docs tensorboard

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/  make \1:/p' $(MAKEFILE_LIST)

setup:  ## build .venv from pyproject.toml and constraints.txt, install missing system libraries
	@scripts/setup.sh

train: setup  ## train an agent: configs/job.yaml, changed by ARGS
	@$(PYTHON_IN_VENV) train.py --config job $(ARGS)

check test test-long outside: export OMP_NUM_THREADS ?= 1

check: setup  ## the unit tests: those that start no programs and train no runs
	@$(PYTHON_IN_VENV) -m pytest -n $(PROCESSES) -m "not (programs or slow or long or outside)" $(ARGS)

test: setup  ## the tests, less those marked long
	@$(PYTHON_IN_VENV) -m pytest -n $(PROCESSES) -m "not long and not outside" $(ARGS)

test-long: setup  ## the tests marked long
	@$(PYTHON_IN_VENV) -m pytest -m long $(ARGS)

outside: setup  ## checks of gymnasium, Stable-Baselines3 and torchrl on our environments; dm_control's own tests on the pinned versions
	@scripts/setup.sh --extra outside
	@$(PYTHON_IN_VENV) -m pytest -m outside tests/outside $(ARGS)
	@MUJOCO_GL=$${MUJOCO_GL:-egl} $(PYTHON_IN_VENV) -m pytest -o python_files="*_test.py" -p no:cacheprovider --pyargs dm_control.suite

learn: setup  ## does every agent still learn? (benchmarks/learning.py)
	@$(PYTHON_IN_VENV) -m benchmarks.learning $(ARGS)

lint: setup  ## ruff, and the types by ty
	@$(PYTHON_IN_VENV) -m ruff check . && $(PYTHON_IN_VENV) -m ruff format --check --quiet . && $(PYTHON_IN_VENV) -m scripts.types

docs: setup  ## build the documentation into site/; warnings are errors
	@scripts/setup.sh --extra docs
	@NO_MKDOCS_2_WARNING=1 $(PYTHON_IN_VENV) -m mkdocs build --strict $(ARGS)

tensorboard: setup  ## watch the runs in RUNS (default: runs)
	@$(PYTHON_IN_VENV) -m tensorboard.main --logdir "$(RUNS)" $(ARGS)
