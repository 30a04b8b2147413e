# The two commands of the README are `make demo` and `make test`; the rest is what they are made of.
# Everything built for use lands in $(DIST): the command line and the node agent beside it.

SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
TRIPLE := x86_64-unknown-linux-gnu
DIST := $(TARGET)/dist
DEMO ?= blueprints/examples/local.yaml

.PHONY: demo test test-aws bench build build-aws agent setup setup-test check lint lint-aws clean-demo
# One after the other: the dependencies of `providers/aws` take one compiler of 7 to 8 GiB.
.NOTPARALLEL:

demo: setup build
	$(DIST)/castrum apply $(DEMO) --yes
	tests/workload.sh $(DIST)/castrum $(DEMO)

clean-demo:
	$(DIST)/castrum destroy $(DEMO) --yes

test: setup-test build lint test-aws
	cargo test --workspace --exclude castrum-provider-aws --no-fail-fast

# Built apart from all else, and in one profile for everything: program, lints and tests use the same build of the SDK.
AWS := castrum-provider-aws

build-aws:
	cargo build --package $(AWS)
	install -D --strip $(TARGET)/debug/$(AWS) $(DIST)/$(AWS)

test-aws: build-aws
	cargo test --package $(AWS)

bench: build
	cargo run --release --package castrum-tests --bin bench

build: agent
	cargo build --release --package castrum
	install -D $(TARGET)/release/castrum $(DIST)/castrum

# One static file that runs on any distribution of the architecture.
agent:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --package castrum-agent --profile agent --target $(TRIPLE)
	install -D $(TARGET)/$(TRIPLE)/agent/castrum-agent $(DIST)/castrum-agent

lint: build-aws lint-aws
	cargo fmt --all --check
	cargo clippy --workspace --exclude $(AWS) --all-targets -- --deny warnings

# `cargo clippy` would compile the SDK a second time, to check it only. Here clippy looks on while the tests are built.
lint-aws:
	RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS="--no-deps$(ARG)--deny$(ARG)warnings$(ARG)" \
		cargo test --no-run --package $(AWS)

ARG := __CLIPPY_HACKERY__

setup:
	@tests/packages.sh build demo

setup-test:
	@tests/packages.sh build demo test
	@tests/aws/peer.sh $(TARGET)/moto-venv
