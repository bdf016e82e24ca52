# The few things one does with a checkout. Needs Python 3.11 or newer and make; everything else goes to .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Live tests whose subject are connections, which are Twisted's own where uvloop is not installed.
ON_EITHER := health_live http_live kill_live memory_live tcp_live tls_live websocket_live

.DEFAULT_GOAL := help
.PHONY: help run test fuzz lint format bench clean
.DELETE_ON_ERROR:

help: ## this list
	@echo "stickyproxy: make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 12

run: $(VENV)/with-run ## install into .venv and start the demo; the URLs are printed
	@$(BIN)/twistd -n --pidfile= stickyproxy --demo

test: $(VENV)/with-test ## the whole test suite (ARGS="tests/sansio -k cookie" for a part)
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else
	@$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --ignore=tests/live
	@echo "With real programs"
	@$(BIN)/python -m pytest tests/live
	@echo "Again without uvloop: what goes through the connections of a real twistd"
	@PYTHONPATH=$(CURDIR)/tests/no_uvloop $(BIN)/python -m pytest --numprocesses=auto --dist=loadfile $(ON_EITHER:%=tests/live/test_%.py)
endif

fuzz: $(VENV)/with-test $(VENV)/with-fuzz ## any bytes for every parser, 60 s each (ARGS="10 --target requests", or --help)
	@$(BIN)/python tests/fuzz/fuzz_run.py $(ARGS)

lint: $(VENV)/with-test $(VENV)/with-lint ## ruff, mypy and the floors of the house
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/with-lint ## lay the code out as lint wants it
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

bench: $(VENV)/with-test ## measure beside nginx and HAProxy, where they are installed (ARGS="--help")
	@$(BIN)/python -m bench $(ARGS)

clean: ## remove .venv and all that was made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .fuzz _trial_temp*
	find stickyproxy twisted tests bench docs -name __pycache__ -prune -exec rm -rf {} +
	find stickyproxy twisted -name dropin.cache -delete

# Installed again when what is declared changes. A plain editable install would hide the twistd plug-in, therefore "compat".
$(VENV)/with-%: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stickyproxy needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=/path/to/python")'
	@test -x $(BIN)/pip || { echo "Making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing into $(VENV): stickyproxy$(if $(filter-out run,$*), and what $* needs)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 5 \
		--config-settings editable_mode=compat --editable '.$(if $(filter-out run,$*),[$*])'
	@touch $@
