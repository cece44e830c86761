# On a fresh machine, `make demo` and `make test` work without further set-up.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
# Tests spend most of their time waiting for servers, so use two workers per core.
TEST_WORKERS ?= $(shell cores=$$(nproc); echo $$(( cores > 4 ? 8 : 2 * cores )))

# uv from PATH, or installed into .uv: Debian's Python refuses `pip install` outside a venv.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := .venv/bin/
INSTALLED := .venv/.installed

export UV_PYTHON_DOWNLOADS := never
# Behind a proxy that inspects TLS, its certificate is among the system's or in a file: uv then trusts these too.
ifneq ($(SSL_CERT_FILE)$(REQUESTS_CA_BUNDLE)$(CURL_CA_BUNDLE)$(PIP_CERT),)
export UV_SYSTEM_CERTS ?= 1
export UV_NATIVE_TLS ?= 1
export SSL_CERT_FILE ?= $(firstword $(REQUESTS_CA_BUNDLE) $(CURL_CA_BUNDLE) $(PIP_CERT))
endif
# Compile bytecode at installation, so that processes start faster.
export UV_COMPILE_BYTECODE := 1

.PHONY: help
help: ## list all targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.PHONY: install
install: $(INSTALLED) ## create the environment in .venv from uv.lock

$(INSTALLED): pyproject.toml uv.lock | $(UV)
	@$(UV) sync --quiet --frozen --all-extras --python $(PYTHON) || { echo "If this failed on a certificate, a proxy \
	inspects TLS: set SSL_CERT_FILE to a file with its certificate, or UV_SYSTEM_CERTS=1 if the system trusts it."; exit 1; }
	@touch $@

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "ragsvc needs Python 3.11 or newer; $(PYTHON) is older"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) lacks venv: install the package python3-venv (apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet uv

.PHONY: demo
demo: $(INSTALLED) ## start the whole stack, ingest four documents, ask two questions, delete a document, stop
	$(RUN)ragsvc demo

.PHONY: dev
dev: $(INSTALLED) ## run the whole service on this machine until Ctrl-C
	$(RUN)ragsvc dev

.PHONY: test
test: $(INSTALLED) ## run the tests against real servers, with branch coverage
	$(RUN)pytest -n $(TEST_WORKERS) --dist loadgroup -m "not chaos and not bench" --cov --cov-report=term $(ARGS)

.PHONY: test-chaos
test-chaos: $(INSTALLED) ## run the long versions of the fault and load tests
	$(RUN)pytest -m chaos $(ARGS)

.PHONY: bench
bench: $(INSTALLED) ## run the benchmarks, also against other systems, and write one table
	$(RUN)pytest -m bench $(ARGS)

# Reads .bench/results.md, which `make bench` writes.
.PHONY: bench-report
bench-report: $(INSTALLED) ## write docs/benchmarks.md and its plots from the last `make bench`
	$(UV) sync --quiet --frozen --all-extras --group eval --inexact --python $(PYTHON)
	$(RUN)python -m tests.bench.report $(ARGS)

.PHONY: eval
eval: $(INSTALLED) ## evaluate search on questions with known answers: recall, MRR and nDCG by mode
	$(UV) sync --quiet --frozen --all-extras --group eval --inexact --python $(PYTHON)
	$(RUN)python -m tests.eval $(ARGS)

.PHONY: check
check: lint types test ## run everything that CI runs

.PHONY: lint
lint: $(INSTALLED) ## run ruff, and check formatting and import layers
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)lint-imports

.PHONY: types
types: $(INSTALLED) ## run mypy --strict
	$(RUN)mypy

.PHONY: fmt
fmt: $(INSTALLED) ## format, and fix what ruff can fix
	$(RUN)ruff check --fix .
	$(RUN)ruff format .

.PHONY: docs
docs: $(INSTALLED) ## regenerate docs/configuration.md from the settings
	$(RUN)python -m ragsvc.settings.documentation

.PHONY: migrate
migrate: $(INSTALLED) ## apply pending migrations to the database at DATABASE_URL
	$(RUN)ragsvc migrate

.PHONY: migration
migration: ## create a migration file: make migration NAME=add_something
	@test -n "$(NAME)" || { echo "make migration NAME=verb_noun"; exit 2; }
	@last=$$(ls sql | tail -1 | cut -c1-4); next=$$(printf '%04d' $$((10#$$last + 1))); \
		touch sql/$${next}_$(NAME).sql && echo sql/$${next}_$(NAME).sql

# make replay QUEUE=ingestion [ID=…|ALL=1|CODE=…|WORKSPACE=…|SINCE=…] [CONFIRM=1] [DRY_RUN=1] [RATE=10] [LIMIT=…]
.PHONY: replay
replay: $(INSTALLED) ## replay dead letters: make replay QUEUE=ingestion ID=…
	@test -n "$(QUEUE)" || { echo "make replay QUEUE=ingestion|deletion [ID=…|ALL=1|CODE=…|WORKSPACE=…|SINCE=…] [CONFIRM=1]"; exit 2; }
	$(RUN)ragsvc dlq replay $(QUEUE) $(foreach id,$(ID),--id $(id)) $(if $(ALL),--all) $(if $(CODE),--code $(CODE)) \
		$(if $(WORKSPACE),--workspace $(WORKSPACE)) $(if $(SINCE),--since $(SINCE)) $(if $(CONFIRM),--yes) \
		$(if $(filter 1,$(DRY_RUN)),--dry-run) $(if $(RATE),--rate $(RATE)) $(if $(LIMIT),--limit $(LIMIT))

.PHONY: serve
serve: $(INSTALLED) ## run the API
	$(RUN)ragsvc serve

.PHONY: worker-ingestion
worker-ingestion: $(INSTALLED) ## run an ingestion worker
	$(RUN)arq ragsvc.workers.IngestionSettings

.PHONY: worker-deletion
worker-deletion: $(INSTALLED) ## run a deletion worker
	$(RUN)arq ragsvc.workers.DeletionSettings

.PHONY: build
build: $(INSTALLED) ## build the wheel and the sdist in dist/
	$(UV) build

.PHONY: clean
clean: ## remove the environment, caches and build output
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* dist
