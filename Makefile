# SPDX-License-Identifier: GPL-3.0-or-later
# Every target makes what it needs first: system packages (as root) and a virtual environment in .venv.

.DEFAULT_GOAL := help
.PHONY: help setup setup-demo setup-test demo test unit contract integration faults check check-licences format bench chaos check-alerts check-image \
	check-deploy constraints audit docs sbom dist clean

PYTEST_ARGS ?=
RUN := .venv/bin/python scripts/in_own_tmpdir.py
# Two more than there are cores: many tests wait for processes that they started.
PROCESSES ?= $(shell expr $$(nproc) + 2)
PYTEST := $(RUN) .venv/bin/python -m pytest --numprocesses=$(PROCESSES) --maxprocesses=6 --dist=worksteal

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

setup: ## install what is missing: system packages (as root), Python packages into .venv
	@scripts/setup

setup-demo:
	@scripts/setup demo

setup-test:
	@scripts/setup test

demo: setup-demo ## watch builds become releases, on a broker, a Koji and a registry of your own
	@$(RUN) .venv/bin/omps-worker demo

test: setup-test ## all tests
	@$(PYTEST) $(PYTEST_ARGS) tests

unit: setup-test ## tests without sockets and processes, in seconds
	@$(PYTEST) $(PYTEST_ARGS) tests/unit

contract integration faults: setup-test ## tests against the real parts
	@$(PYTEST) $(PYTEST_ARGS) tests/$@

check: setup ## ruff, mypy, and the licences of what is needed at run time
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict omps_worker benchmarks
	.venv/bin/mypy --config-file tests/mypy.ini tests scripts
	.venv/bin/python -m scripts.licences

check-licences: setup ## do all libraries go with GPL-3.0-or-later?
	@.venv/bin/python -m scripts.licences

format: setup ## let ruff put the code into shape
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: setup-test ## measure against plain operator-courier and plain pika (BENCH_ARGS for options)
	@$(RUN) .venv/bin/python -m benchmarks $(BENCH_ARGS)

chaos: setup-test ## a long storm of kills and faults (CHAOS_ARGS for options; the short form is in test)
	@$(RUN) .venv/bin/python -m tests.chaos $(CHAOS_ARGS)

check-alerts: ## check the alert rules with promtool, and that each fires when it should
	@scripts/check-alerts

check-image: ## build the container image with buildah and try it (as root, on Debian)
	@scripts/check-image

constraints: setup ## pin the newest versions of everything (needs Python 3.10 to 3.13)
	@$(RUN) .venv/bin/python -m scripts.constraints

audit: setup ## are there advisories about what the image is made of? (asks the network; AUDIT_ARGS are pip-audit's)
	@$(RUN) .venv/bin/python -m scripts.audit $(AUDIT_ARGS)

docs: setup ## a searchable website of all pages, into dist/docs
	@$(RUN) .venv/bin/python -m scripts.website

sbom: setup ## the bill of materials, in CycloneDX's JSON, into dist
	@$(RUN) .venv/bin/python -m scripts.sbom dist/omps-worker.cdx.json

dist: setup ## sdist and wheel into dist, the same bytes every time
	@$(RUN) .venv/bin/python -m scripts.dist dist

check-deploy: setup ## hold deploy/ against Kubernetes's schemas, systemd, RabbitMQ and the image (IMAGE=no: without it)
	@scripts/check-deploy

clean: ## remove everything that make made
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find omps_worker tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
