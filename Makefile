# Everything from a clean clone: `make run` trains the quickstart, `make test` checks the code.
# Needs only Python 3.11 to 3.13 with venv and pip; everything else goes into .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs-installed
SEED   ?= 0
# Processes that test side by side, each with its own Ray.
TESTERS ?= 2
CONFIG ?= tune_configs/quickstart.yaml

.PHONY: run test test-long lint bench docs clean help
.DEFAULT_GOAL := help

help:  ## show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

run: $(STAMP)  ## train one agent on the environments of CONFIG, with the seed SEED
	$(BIN)/multienv train $(CONFIG) --seed $(SEED)

# Files in the order of their names: those with many tests first would leave the long ones to one process.
PYTEST = $(BIN)/python -m pytest -q -n $(TESTERS) --dist loadfile --no-loadscope-reorder --durations 30

test: lint  ## ruff, mypy, unit tests and tests with Ray
	$(PYTEST) tests/unit
	$(PYTEST) -m "not long" tests/ray

test-long: $(STAMP)  ## the tests that take long: kill loops, clusters of several nodes, learning
	$(PYTEST) tests/long
	$(PYTEST) -m long tests/ray

lint: $(STAMP)  ## ruff and mypy only
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP)  ## the speed benchmarks (nothing else should run); tables go to results/bench
	mkdir -p results/bench
	$(BIN)/python benchmarks/network.py --threads 1 --output results/bench/network.md
	$(BIN)/python benchmarks/packed.py --threads 1 --output results/bench/packed.md
	$(BIN)/python benchmarks/combiners.py --threads 1 --output results/bench/combiners.md
	$(BIN)/python benchmarks/sampling.py --threads 1 --repeats 5 --seconds 1 --output results/bench/sampling.md
	$(BIN)/python benchmarks/sample_ahead.py --output results/bench/sample_ahead.md
	$(BIN)/python benchmarks/driver_memory.py --output results/bench/driver_memory.md
	$(BIN)/python benchmarks/cluster.py --output results/bench/cluster.md
	$(BIN)/python benchmarks/online_ppo.py --threads 1 --repeats 5 --seconds 3 --output results/bench/online_ppo.md
	$(BIN)/python benchmarks/iql.py --repeats 5 --output results/bench/iql.md
	$(BIN)/python benchmarks/sac.py --repeats 5 --output results/bench/sac.md
	$(BIN)/python benchmarks/compiled.py --threads 1 --output results/bench/compiled.md

docs: $(DOCS_STAMP)  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:  ## remove the virtual environment and the tools' caches (results stay)
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# One pip call: only together do the pins of Ray, PyTorch, Gymnasium and MuJoCo resolve to versions that fit.
# The stamp is renewed when the dependencies change, so a second `make` installs nothing.
$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else \
		"Python 3.11, 3.12 or 3.13 is needed, this is %d.%d; say make PYTHON=python3.12" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@
