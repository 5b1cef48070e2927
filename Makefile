# Everything a developer or CI does with Weir. `make help` lists the targets.
#
# All is built in the release profile, so that dependencies are compiled once for running, testing and measuring.
# Tools that `scripts/setup` brings are kept in $(CACHE); with CI set, what cargo builds goes there, too.

CACHE := $(or $(WEIR_CACHE),$(HOME)/.cache/weir)
ifdef CI
export CARGO_TARGET_DIR ?= $(CACHE)/target
export WEIR_GUEST_TARGET_DIR ?= $(CACHE)/guest-target
endif
export WEIR_GUEST_TARGET_DIR ?= $(CURDIR)/target/guest
export PATH := $(CACHE)/tools/bin:$(PATH)

WEIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/release/weir
WIT := $(wildcard wit/*.wit)

# A guest's component lies beside its sources.
BENCH_GUEST := tests/bench/guest/guest.wasm
RUST_GUESTS := examples/nexmark/nexmark.wasm examples/flights/flights.wasm examples/mixed/revenue/revenue.wasm \
	tests/guests/hostile/hostile.wasm tests/guests/operators/operators.wasm tests/guests/picky/picky.wasm
OTHER_GUESTS := examples/mixed/map/map.wasm examples/mixed/filter/filter.wasm tests/guests/c/guest.wasm tests/guests/c/wasi.wasm \
	tests/guests/go/guest.wasm tests/guests/python/guest.wasm tests/guests/js/guest.wasm

# Guests are no members of the host's workspace: they are compiled for WebAssembly.
GUEST_WORKSPACES := examples tests/guests/hostile tests/guests/operators tests/guests/picky tests/bench/guest
# The examples are also compiled for this machine: their unit tests need no host.
EXAMPLES := --manifest-path examples/Cargo.toml --target-dir $(WEIR_GUEST_TARGET_DIR)/native
# What answers WASI's first preview by its second; it comes with the JavaScript guest's tools.
WASI_ADAPTER := $(CACHE)/npm/node_modules/@bytecodealliance/jco/lib/wasi_snapshot_preview1.reactor.wasm

.PHONY: help demo test bench bench-tools guests fmt lint clean weir setup-demo setup-test
.DELETE_ON_ERROR:

help: ## what there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: setup-demo examples/flights/flights.wasm ## one streaming job, from a CSV file to a table on the terminal
	$(WEIR) run examples/flights/job.toml

# Together with the tests, `weir` has the features that it has beside them, and its crates are compiled once.
TEST_TARGETS := --bin weir --test it
# Many tests wait for processes, disks and timers: twice as many as there are cores keep these busy.
TEST_THREADS := $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
test: WEIR_TARGETS := $(TEST_TARGETS)
test: setup-test guests ## all tests
	cargo test --release --doc -p weir
	cargo test --release $(EXAMPLES)
	cargo nextest run --release --workspace --test-threads $(TEST_THREADS)

bench: setup-demo bench-tools examples/nexmark/nexmark.wasm $(BENCH_GUEST) ## speed and memory; beside Apache Flink by ARGS="--flink DIR"
	tests/bench/run --weir $(WEIR) $(ARGS)

guests: $(RUST_GUESTS) $(OTHER_GUESTS) ## the components of examples and tests

fmt: ## formats all Rust code
	cargo fmt --all
	for guest in $(GUEST_WORKSPACES); do cargo fmt --all --manifest-path $$guest/Cargo.toml || exit 1; done

lint: ## what CI checks before it tests
	cargo fmt --all --check
	for guest in $(GUEST_WORKSPACES); do cargo fmt --all --check --manifest-path $$guest/Cargo.toml || exit 1; done
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo clippy --release --workspace --all-targets $(EXAMPLES) -- -D warnings

clean: ## removes what was built here; the tools in the cache stay
	rm -rf target $(RUST_GUESTS) $(OTHER_GUESTS) $(BENCH_GUEST)

setup-demo:
	@scripts/setup demo

setup-test:
	@scripts/setup test

# Of the whole workspace, not `-p weir-cli`: so dependencies have the same features as in the tests, and are compiled once.
WEIR_TARGETS := --bin weir
weir:
	cargo build --release --workspace $(WEIR_TARGETS)

# What the benchmark runs besides `weir`; with all features, as there.
bench-tools: weir
	cargo build --release --workspace --bin weir-bench --example nexmark_bench --example boundary

# Cargo knows when a guest in Rust is out of date; so `weir build` is always asked.
$(RUST_GUESTS) $(BENCH_GUEST): weir
	$(WEIR) build --manifest-path $(@D)/Cargo.toml -o $@

# What makes components of Python and JavaScript, for the world that guests implement.
COMPONENTIZE_PY := $(CACHE)/venv/bin/componentize-py --wit-path wit --world job componentize
JCO := $(CACHE)/npm/node_modules/.bin/jco componentize --wit wit --world-name job --bundle

# These two answer WASI by stubs of their own.
examples/mixed/map/map.wasm: examples/mixed/map/euros.py examples/mixed/map/weir_batch.py $(WIT)
	$(COMPONENTIZE_PY) --stub-wasi --python-path $(@D) euros --output $@

examples/mixed/filter/filter.wasm: examples/mixed/filter/filter.js examples/mixed/filter/weir-batch.js $(WIT)
	$(JCO) $< --disable all --out $@

# And these two import it. JavaScript also has HTTP for `fetch` and for its events, which Weir does not offer.
tests/guests/python/guest.wasm: $(wildcard tests/guests/python/*.py) examples/mixed/map/weir_batch.py $(WIT)
	$(COMPONENTIZE_PY) --python-path $(@D) --python-path examples/mixed/map guest --output $@

tests/guests/js/guest.wasm: tests/guests/js/guest.js tests/guests/js/world.js examples/mixed/filter/weir-batch.js $(WIT)
	$(JCO) $< --disable http fetch-event --out $@

tests/guests/c/guest.wasm: tests/guests/c/build tests/guests/c/guest.c tests/guests/c/preview1.wat $(WIT)
	$< $@

tests/guests/c/wasi.wasm: tests/guests/c/build tests/guests/c/guest.c tests/guests/c/world.c $(WIT)
	$< $@ $(WASI_ADAPTER)

tests/guests/go/guest.wasm: tests/guests/go/build $(wildcard tests/guests/go/*/*.go) tests/guests/go/go.mod tests/guests/go/go.sum $(WIT)
	$< $@ $(WASI_ADAPTER)
