# The whole of building and trying Warbler. Start with `make help`.

.DEFAULT_GOAL := help
.PHONY: help demo test bench build clean ready ready-to-test
.NOTPARALLEL:

SEEDS ?= 0..300
ARGS ?=
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)

help: ## this list
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
	@echo
	@echo "Missing system packages (a C++ compiler, libclang) are named, and installed after asking (without asking as root"
	@echo "or with CI=true). RocksDB takes about 15 minutes on two cores the first time, the rest some ten; it is then kept in"
	@echo "the cache folder of the user for all later builds."

demo: build ## three regions on this machine: one is killed, returns, and all converge (ARGS="--keep" leaves them up)
	@$(TARGET_DIR)/release/warbler demo $(ARGS)

test: ready-to-test ## format, clippy with warnings denied, all tests, and simulator seeds, each twice (SEEDS=0..300)
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked --workspace
	@# Built by the line above, with the features of the whole workspace; `cargo run` would build all of it again.
	$(TARGET_DIR)/debug/simulate --twice --seeds $(SEEDS)

bench: ready ## the benches, each beside its ceiling, and a table of the ratios (ARGS filters by name)
	cargo bench --locked --package warbler-benches -- $(ARGS)
	@cargo run --quiet --locked --release --package warbler-benches --bin ratios

build: ready ## the program, as target/release/warbler
	cargo build --locked --release --package warbler-cli

clean: ## remove what was built here (RocksDB stays in the cache)
	cargo clean

ready:
	@build/packages
	@build/toolchain
	@build/rocksdb

ready-to-test: ready
	@build/toolchain fmt clippy
