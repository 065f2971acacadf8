# The two commands of the README, and what a developer needs beside them. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help run test soak fuzz worker setup lint format examples bench

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1 - \2/p' Makefile

run: ## search a recording for a weak drifting signal, on all cores of this machine
	cargo run --release --locked --bin offpeak -- run examples/signal-search/job.toml

test: setup ## every check, on real RabbitMQ and PostgreSQL, which it installs and starts itself
	@scripts/test.sh

# How long the soak goes on, and from which seed its order follows.
MINUTES ?= 30
SEED ?= 1

soak: setup ## faults in random order on a running grid for MINUTES=30, SEED=1; prints the table of docs/reliability.md
	cargo build --workspace --all-targets --locked
	cargo test --workspace --locked --test chaos -- --minutes $(MINUTES) --seed $(SEED)

fuzz: ## feed damaged messages, job files, modules and guests to the grid; CASES=1000000 says how many (minutes each million)
	OFFPEAK_FUZZ_CASES=$(or $(CASES),1000000) cargo test --workspace --locked --test fuzz

worker: ## build offpeak-worker and offpeak-aggregator without the compiler, and check that it is not in them
	cargo build --release --locked -p offpeak --no-default-features --bins
	@! grep -l cranelift_codegen $${CARGO_TARGET_DIR:-target}/release/offpeak-worker $${CARGO_TARGET_DIR:-target}/release/offpeak-aggregator

setup: ## install what the tests need and this machine lacks
	@scripts/setup.sh

lint: ## clippy and formatting, as the tests check them
	@cargo fmt --all --check
	@scripts/lint.sh

format: ## format all Rust code
	@cargo fmt --all
	@cd examples && cargo fmt --all

examples: ## rebuild the committed .wasm of the example apps, byte for byte
	@examples/build.sh

bench: ## rates and latencies of a grid in one process
	cargo run --release --locked --bin offpeak -- bench
