# Everything that is done with this repository. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint kafka kafka-stop up down lock bench faults faults-removed

BIN := .venv/bin
KAFKA := scripts/kafka.py

help:  ## List what there is
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

setup: .venv/.dev  ## Make .venv with everything for development

demo: .venv/.runtime  ## See LLM work flow through Kafka, with nothing else installed
	@$(BIN)/millrace demo

test: .venv/.dev  ## Run every test, on the embedded broker and a real Kafka
	@scripts/test

check: lint  ## Lint, format, types, import rules, unit tests: what pre-commit runs
	$(BIN)/python -m pytest -q tests/unit

lint: .venv/.dev  ## The same without the tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

kafka: .venv/.dev  ## Start an Apache Kafka on this machine, without Docker
	@$(BIN)/python $(KAFKA) start

kafka-stop:  ## Stop it; its data stays
	@$(BIN)/python $(KAFKA) stop

up:  ## Start Kafka, ClickHouse and the pipeline with Docker
	docker compose up --build --detach --wait

down:  ## Stop them; their data stays
	docker compose down

bench: .venv/.dev  ## Measure against peers in the same run
	$(BIN)/python -m bench.throughput
	$(BIN)/python -m bench.in_flight
	$(BIN)/python -m bench.neighbours

faults: .venv/.dev  ## Inject N faults drawn from SEED, then bad input; a report at the end
	MILLRACE_FUZZ_STREAMS=10000 MILLRACE_FAULTS_SEED=$(or $(SEED),1) \
		$(BIN)/python -m pytest -q tests/faults/test_fuzzed_streams.py
	PYTHONPATH=tests/faults:tests/fixtures $(BIN)/python -m harness \
		--rounds $(or $(N),60) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only '$(ONLY)')

faults-removed: .venv/.dev  ## Take each fix out of a copy of the code, and see its tests fail
	PYTHONPATH=tests/faults:tests/fixtures $(BIN)/python -m harness.without_fixes --only '$(ONLY)'

lock: .venv/.dev  ## Resolve the dependencies anew
	$(BIN)/uv pip compile pyproject.toml $(LOCK) --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml $(LOCK) --all-extras --output-file requirements-dev.lock

LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock" --quiet --upgrade

# Stamps: done again only when what they were made from changed. Development has the rest in it.
.venv/.runtime: requirements.lock pyproject.toml scripts/install
	@scripts/install requirements.lock
	@touch $@

.venv/.dev: requirements-dev.lock pyproject.toml scripts/install
	@scripts/install requirements-dev.lock
	@touch .venv/.runtime $@
