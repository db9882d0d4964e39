# Every target is a thin name for a command or a script in scripts/.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
FUZZTIME ?= 10s
export FUZZTIME

.PHONY: help
help: ## Show this help.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Start the server from source.
	CGO_ENABLED=0 go run ./cmd/grahak serve

.PHONY: build
build: ## Build the one binary, as it is released, into .bin/.
	CGO_ENABLED=0 go build -trimpath -o .bin/grahak ./cmd/grahak

.PHONY: test
test: ## Run every test; checks for what they need and installs it where it may.
	@scripts/test

.PHONY: test-long
test-long: ## Run every test and the soaks, which take long.
	@scripts/test long

.PHONY: lint
lint: ## Check format, vet, go.mod and the chosen linters.
	@scripts/lint

.PHONY: fmt
fmt: ## Format the Go code.
	@scripts/tools
	.bin/golangci-lint fmt

.PHONY: bench
bench: ## Compare with an empty net/http handler (10 minutes); see bench/README.md.
	go run ./bench

.PHONY: pgo
pgo: ## Profile the server anew for the compiler (2 minutes), which reads cmd/grahak/default.pgo.
	go run ./bench -pgo -seconds 15

.PHONY: bench-growth
bench-growth: ## Compare 10 thousand with 10 million customers (25 minutes, 8 GB of disk); see bench/README.md.
	go run ./bench -growth

.PHONY: bench-peers
bench-peers: ## Compare with PocketBase and stripe-mock (6 minutes); see bench/README.md.
	go run ./bench -peers

.PHONY: bench-overload
bench-overload: ## Offer five times as much as can be done (1 minute); see bench/README.md.
	go run ./bench -overload

.PHONY: bench-mixed
bench-mixed: ## Offer a mixed load for a quarter of an hour; see bench/README.md.
	go run ./bench -mixed

.PHONY: bench-dashboard
bench-dashboard: ## Measure the dashboard's pages beside a million customers (4 minutes); see bench/README.md.
	go run ./bench -dashboard

.PHONY: bench-postgres
bench-postgres: ## Compare with pgbench on PostgreSQL (12 minutes); see bench/README.md.
	go run ./bench -postgres

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZTIME (10s).
	@scripts/fuzz

.PHONY: screenshots
screenshots: ## Make the pictures of the dashboard in docs/images anew.
	@scripts/screenshots

.PHONY: clean
clean: ## Remove what was built, the tools included.
	rm -rf .bin build bench/out test/clients/node_modules test/dashboard/node_modules
