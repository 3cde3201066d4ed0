# make demo | test | check | bench | chaos | clean. See README.md.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell tools/find_python)
VENV := .venv
BIN := $(VENV)/bin

help: ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The virtual environment is made again when the pins change. pip resolves nothing: every version is in the file.
$(VENV)/.installed: requirements.txt
	@$(call make_venv,$<)
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt
	@$(call make_venv,$<)
	@touch $@ $(VENV)/.installed

define make_venv
tools/make_venv "$(PYTHON)" $(VENV) $(1)
endef

.PHONY: help test-models models manifests setup demo test check bench bench-control bench-long pages chaos chaos-long clean readme artifacts requirements

setup: $(VENV)/.installed ## everything that demo and up need: Python packages, Triton, Weaviate, pictures
	@$(BIN)/python main.py setup

demo: $(VENV)/.installed ## real pictures from a stream through Triton into Weaviate and a search that finds them
	@exec $(BIN)/python main.py demo

test: $(VENV)/.installed-dev ## all tests, on real servers, in two processes; ARGS="-n 0 tests/web"
	@$(BIN)/python main.py setup
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-models: $(VENV)/.installed-dev ## the production models' code with tiny weights; installs torch (4.7 GB) once
	@$(BIN)/python -m tests.models.environment
	@$(BIN)/python -m pytest -n 0 -m models tests/models $(ARGS)

check: $(VENV)/.installed-dev ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/import_rules.py

bench: $(VENV)/.installed-dev ## measure; see docs/performance.md; ARGS="--quick light"
	@$(BIN)/python main.py setup
	@$(BIN)/python -m benchmarks $(ARGS)

bench-control: $(VENV)/.installed-dev ## measure backfill, add, export, forget and back-up; half an hour
	@$(BIN)/python main.py setup
	@$(BIN)/python -m benchmarks --control $(ARGS)

bench-long: $(VENV)/.installed-dev ## measure what takes long: how cost grows, a backlog of a million; ARGS="--most 100000"
	@$(BIN)/python main.py setup
	@$(BIN)/python -m benchmarks --long $(ARGS); status=$$?; $(BIN)/python -m benchmarks.plots; exit $$status

chaos: $(VENV)/.installed-dev ## break every part under load and prove that nothing is lost; see docs/reliability.md
	@$(BIN)/python main.py setup
	@$(BIN)/python -m tests.chaos $(ARGS)

chaos-long: $(VENV)/.installed-dev ## the same for the drains of 100,000 jobs, with and without churn
	@$(BIN)/python main.py setup
	@$(BIN)/python -m tests.chaos --long $(ARGS)

readme: $(VENV)/.installed ## write the README's table of settings again
	@$(BIN)/python -m tools.readme

pages: $(VENV)/.installed-dev ## run the sessions of the docs and write what they show again; ARGS="-k forget"
	@$(BIN)/python -m pytest -n 0 tests/e2e/test_pages.py --write-pages $(ARGS)

artifacts: $(VENV)/.installed ## write Prometheus' and Grafana's files again
	@$(BIN)/python -m metrics.artifacts

manifests: $(VENV)/.installed ## write the Kubernetes manifests again
	@$(BIN)/python -m tools.manifests

models: $(VENV)/.installed ## write the production models' config.pbtxt again
	@cd triton && ../$(BIN)/python -m weavloader_models configs

requirements: ## pin everything that pyproject.toml's own pins bring along (needs uv)
	uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate \
		--extra stack --extra replay --extra evaluate pyproject.toml -o requirements.txt
	uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate \
		--all-extras pyproject.toml -o requirements-dev.txt

clean: ## remove what was made here (not the user's cache folder, not a store)
	rm -rf $(VENV) .weavloader-demo .mypy_cache .ruff_cache .pytest_cache build
	find . -name __pycache__ -prune -exec rm -rf {} +
