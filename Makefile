SHELL := /bin/bash

# How many times each benchmark is run, and for how long each fuzz target is.
COUNT    ?= 5
FUZZTIME ?= 30s
# Which benchmarks are run.
BENCH    ?= .

BIN           := $(CURDIR)/bin
GOLANGCI_LINT := v2.15.0
BENCHSTAT     := v0.0.0-20260908200009-22c9c6c9d4da
BENCHED       := . ./store_sqlite ./store_postgres ./meter
# Installs what a machine lacks, over a network that may falter.
APT           := apt-get -o Acquire::Retries=5
# Modules of their own: what imports SDK clients, which no host has to know of.
NESTED        := $(patsubst ./%/go.mod,%,$(shell find . -mindepth 2 -name go.mod))

.DEFAULT_GOAL := help
.PHONY: help check test bench fuzz lint tools gcc postgres

help: ## print what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

check: lint ## all that has to hold before a commit: format, modules, vet, lint, race tests
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	go mod tidy -diff
	go vet ./...
	set -e; for module in $(NESTED); do (cd $$module && go mod tidy -diff && go vet ./...); done
	$(MAKE) test

test: gcc postgres ## all tests under the race detector, in random order
	CGO_ENABLED=1 go test -race -shuffle=on -timeout=30m ./...
	set -e; for module in $(NESTED); do (cd $$module && CGO_ENABLED=1 go test -race -shuffle=on -timeout=15m ./...); done

bench: ## all benchmarks COUNT times; compared with the file OLD where that is given
	@mkdir -p $(BIN)
	set -o pipefail; go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) -timeout=60m $(BENCHED) | tee $(BIN)/bench.txt
	@if test -x $(BIN)/benchstat; then $(BIN)/benchstat $(OLD) $(BIN)/bench.txt; else echo "make tools installs benchstat, which sums this up"; fi

fuzz: ## each fuzz target for FUZZTIME
	@set -e; for package in $$(go list ./...); do \
		tests=$$(go test -list '^Fuzz' $$package); \
		for target in $$(grep '^Fuzz' <<<"$$tests"); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

lint: $(BIN)/golangci-lint ## golangci-lint with the list in .golangci.yml
	$(BIN)/golangci-lint run --timeout=30m
	set -e; for module in $(NESTED); do (cd $$module && $(BIN)/golangci-lint run --timeout=30m); done

tools: $(BIN)/golangci-lint $(BIN)/benchstat ## install golangci-lint and benchstat into ./bin

$(BIN)/golangci-lint:
	GOBIN=$(BIN) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT)

$(BIN)/benchstat:
	GOBIN=$(BIN) go install golang.org/x/perf/cmd/benchstat@$(BENCHSTAT)

gcc: ## see to a C compiler, which the race detector needs
	@command -v "$$(go env CC)" >/dev/null || { \
		if command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
			$(APT) update -qq && DEBIAN_FRONTEND=noninteractive $(APT) install -y -qq gcc libc6-dev </dev/null; \
		else echo "the race detector needs a C compiler: install gcc" >&2; exit 1; fi; }

postgres: ## see to a PostgreSQL server and PgBouncer, which the tests of store_postgres start
	@{ test -n "$$USAGE_POSTGRES_DSN" || command -v pg_ctl || ls /usr/lib/postgresql/*/bin/pg_ctl; } >/dev/null 2>&1 \
		&& { command -v pgbouncer || test -x /usr/sbin/pgbouncer; } >/dev/null || { \
		if command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
			$(APT) update -qq && DEBIAN_FRONTEND=noninteractive $(APT) install -y -qq postgresql pgbouncer </dev/null; \
		else echo "the tests of store_postgres need a server and PgBouncer: install postgresql and pgbouncer" >&2; exit 1; fi; }
