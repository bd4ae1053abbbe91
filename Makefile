# Runyard's commands. `make help` lists them; `make demo` is the place to start.

SHELL := /bin/sh
.DEFAULT_GOAL := help

stage ?= local
PYTHON := .venv/bin/python
# Where a uv of our own goes when the machine has none.
OWN_UV := $(CURDIR)/.runyard/tools/uv
UV := $(or $(shell command -v uv 2>/dev/null),$(OWN_UV)/bin/uv)
ifeq ($(UV),$(OWN_UV)/bin/uv)
# Its Python is known to be the right one, which spares a download.
export UV_PYTHON := $(OWN_UV)/bin/python
export PATH := $(OWN_UV)/bin:$(PATH)
endif
export UV
export TASK
# The CDK libraries warn about these Node.js majors on every command; 20 is what this project is tested with.
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION := 18,20

.PHONY: help install security up down status logs mail reset deploy demo audit-verify ledger-verify aggregate doctor check test synth bench fmt openapi layers

help: ## List the commands.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | awk -F'|' '{printf "  make %-13s %s\n", $$1, $$2}'

# --- what must be installed ------------------------------------------------------------------------------------------

install: .venv/.installed node_modules/.installed ## Install what the commands below need (they do it by themselves).

.venv/.installed: pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen
	@touch $@

node_modules/.installed: package.json package-lock.json | tools
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Only made when uv is not on the PATH.
$(OWN_UV)/bin/uv:
	@python=; for name in python3.13 python3 python $$HOME/.pyenv/versions/3.13.*/bin/python; do \
		if command -v $$name >/dev/null 2>&1 && $$name -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null; \
		then python=$$name; break; fi; done; \
	if [ -z "$$python" ]; then \
		echo "Neither uv nor Python 3.13 was found. Either will do:" >&2; \
		echo "  uv (it fetches Python by itself):  curl -LsSf https://astral.sh/uv/install.sh | sh" >&2; \
		echo "  Python 3.13:                       https://www.python.org/downloads/" >&2; \
		exit 1; \
	fi; \
	echo "uv was not found: installing it in .runyard/tools, for this folder only"; \
	"$$python" -m venv $(OWN_UV) && $(OWN_UV)/bin/python -m pip install --quiet --disable-pip-version-check uv

.PHONY: tools
tools:
	@if ! command -v node >/dev/null 2>&1; then \
		echo "Node.js was not found. Get version 20 or later from https://nodejs.org or your package manager." >&2; exit 1; fi; \
	if [ "$$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then \
		echo "Node.js $$(node --version) is too old. Get version 20 or later from https://nodejs.org or your package manager." >&2; exit 1; fi; \
	if ! command -v npm >/dev/null 2>&1; then \
		echo "npm was not found. It comes with Node.js: https://nodejs.org" >&2; exit 1; fi

# --- the home on this machine ----------------------------------------------------------------------------------------

up: install ## Start what is not running and deploy what has changed.
	@$(PYTHON) -m local up

down: install ## Stop every part; its state is kept.
	@$(PYTHON) -m local down

status: install ## Show how every part is.
	@$(PYTHON) -m local status

logs: install ## Show the logs' last lines (part=<name> or part=functions, follow=1 to go on).
	@$(PYTHON) -m local logs $(part) $(if $(follow),--follow)

mail: install ## Show the mail that the home has sent (follow=1 to go on).
	@$(PYTHON) -m local mail $(if $(follow),--follow)

reset: install ## Delete all the home remembers (yes=1 does not ask).
	@$(PYTHON) -m local reset $(if $(yes),--yes)

demo: install ## Do the main job, live (TASK="..." gives the agent your own task).
	@$(PYTHON) -m local demo

audit-verify: install ## Check every org's audit trail for events edited or removed.
	@$(PYTHON) -m local audit-verify

ledger-verify: install ## Prove every org's credit ledger, entry by entry.
	@$(PYTHON) -m local ledger-verify

aggregate: install ## Add up days of usage (since=2026-11-01 until=2026-11-30 org=org_… for a range or one org).
	@$(PYTHON) -m local aggregate $(if $(since),--since $(since)) $(if $(until),--until $(until)) $(if $(org),--org $(org))

doctor: install ## Check that this machine has what the home needs.
	@$(PYTHON) -m local doctor

ifeq ($(stage),local)
deploy: install ## Deploy to the home after a change; stage=<name> deploys to AWS.
	@$(PYTHON) -m local deploy
else
deploy: install
	$(PYTHON) -m layers.build --platform aws
	node_modules/.bin/cdk deploy --all -c stage=$(stage)
endif

# --- development -----------------------------------------------------------------------------------------------------

check: install ## Format, lint, types, architecture, generated documents.
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy .
	.venv/bin/lint-imports
	$(PYTHON) -m docs.generate --check

fmt: install ## Format, and fix what can be fixed.
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

# Three workers, for half of the time a test waits: what shares a home or a synthesised app stays together
# (tests/scheduling.py).
test: check layers ## check, then every test: make test only="-k words" runs some of them.
	@$(PYTHON) -m tests.contract.clients.install
	$(PYTHON) -m pytest -n 3 --dist loadscope $(if $(only),$(only),--cov --cov-report=term:skip-covered)

security: install ## Try every route and every table as somebody who may not.
	@$(PYTHON) -m tests.security

synth: install ## Synthesise the stacks of a stage (stage=prod); needs no credentials.
	@$(PYTHON) -m infra_cdk.synth --stage $(stage)

openapi: install ## Write docs/openapi.json and the list of errors from the code.
	@$(PYTHON) -m docs.generate

layers: install ## Build the Lambda layers for this machine.
	@$(PYTHON) -m layers.build --platform local

bench: install ## Measure, and write bench/results/*.json.
	@$(PYTHON) -m bench
