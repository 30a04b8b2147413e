# The two commands of the README are `make demo` and `make test`; the rest is what they are made of.
# Everything built for use lands in $(DIST): the command line and the node agent beside it.

SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
TRIPLE := x86_64-unknown-linux-gnu
DIST := $(TARGET)/dist
DEMO ?= blueprints/examples/local.yaml

.PHONY: demo test bench build agent setup setup-test check lint clean-demo

demo: setup build
	$(DIST)/castrum apply $(DEMO) --yes
	tests/workload.sh $(DIST)/castrum $(DEMO)

clean-demo:
	$(DIST)/castrum destroy $(DEMO) --yes

test: setup-test build lint
	cargo test --workspace

bench: build
	cargo run --release --package castrum-tests --bin bench

build: agent
	cargo build --release --package castrum
	install -D $(TARGET)/release/castrum $(DIST)/castrum

# One static file that runs on any distribution of the architecture.
agent:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --package castrum-agent --profile agent --target $(TRIPLE)
	install -D $(TARGET)/$(TRIPLE)/agent/castrum-agent $(DIST)/castrum-agent

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings

setup:
	@tests/packages.sh build demo

setup-test:
	@tests/packages.sh build demo test
	@tests/aws/peer.sh $(TARGET)/moto-venv
