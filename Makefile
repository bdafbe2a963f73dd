# SPDX-License-Identifier: GPL-3.0-or-later
# Every target first installs what it needs: system packages (as root) and a virtual environment in .venv.

.DEFAULT_GOAL := help
.PHONY: help setup setup-demo setup-test demo test unit contract integration faults check check-licences format bench chaos check-alerts check-image \
	check-deploy constraints audit docs sbom dist clean

PYTEST_ARGS ?=
RUN := .venv/bin/python scripts/in_own_tmpdir.py
# Two more than the number of cores, because many tests wait for processes that they started.
PROCESSES ?= $(shell expr $$(nproc) + 2)
PYTEST := $(RUN) .venv/bin/python -m pytest --numprocesses=$(PROCESSES) --maxprocesses=6 --dist=worksteal

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

setup: ## install what is missing: system packages (as root), Python packages into .venv
	@scripts/setup

setup-demo:
	@scripts/setup demo

setup-test:
	@scripts/setup test

demo: setup-demo ## watch builds become releases and bundles of a catalog, with a private broker, Koji and registries
	@$(RUN) .venv/bin/omps-worker demo

test: setup-test ## run all tests
	@$(PYTEST) $(PYTEST_ARGS) tests

unit: setup-test ## run the tests without sockets and processes, in less than a minute
	@$(PYTEST) $(PYTEST_ARGS) tests/unit

contract integration faults: setup-test ## run the tests against the real parts
	@$(PYTEST) $(PYTEST_ARGS) tests/$@

check: setup ## run ruff and mypy, and check the licences of the run-time dependencies
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict omps_worker benchmarks
	.venv/bin/mypy --config-file tests/mypy.ini tests scripts
	.venv/bin/python -m scripts.licences

check-licences: setup ## check that the licences of all libraries are compatible with GPL-3.0-or-later
	@.venv/bin/python -m scripts.licences

format: setup ## format the code with ruff
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: setup-test ## run the benchmarks against plain operator-courier and plain pika (BENCH_ARGS for options)
	@$(RUN) .venv/bin/python -m benchmarks $(BENCH_ARGS)

chaos: setup-test ## run workers through a long storm of kills and faults (CHAOS_ARGS for options; `test` has a short one)
	@$(RUN) .venv/bin/python -m tests.chaos $(CHAOS_ARGS)

check-alerts: ## check the alert rules with promtool, and that each fires when it should
	@scripts/check-alerts

check-image: ## build the container image with buildah and test it (as root, on Debian)
	@scripts/check-image

constraints: setup ## pin the newest versions of everything (needs Python 3.10 to 3.13)
	@$(RUN) .venv/bin/python -m scripts.constraints

audit: setup ## look up security advisories about the image's packages (needs the network; AUDIT_ARGS for pip-audit)
	@$(RUN) .venv/bin/python -m scripts.audit $(AUDIT_ARGS)

docs: setup ## build a searchable website of all pages in dist/docs
	@$(RUN) .venv/bin/python -m scripts.website

sbom: setup ## write the bill of materials, as CycloneDX JSON, to dist
	@$(RUN) .venv/bin/python -m scripts.sbom dist/omps-worker.cdx.json

dist: setup ## build sdist and wheel in dist, reproducibly
	@$(RUN) .venv/bin/python -m scripts.dist dist

check-deploy: setup ## check deploy/ with the Kubernetes schemas, systemd, RabbitMQ and the image (IMAGE=no skips the image)
	@scripts/check-deploy

clean: ## remove everything that make created
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find omps_worker tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
