# The only entry point for developers and CI (.ci/run calls `make test`).
#   make PYTHON=python3.13 ...   another interpreter for .venv

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
export PYTHON
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
VENV := .venv
PY := $(VENV)/bin/python
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)
SOURCES := $(shell find rust python -type f \( -name '*.rs' -o -name '*.toml' -o -name '*.py' -o -name '*.pyi' -o -name py.typed \)) \
           Cargo.toml pyproject.toml $(wildcard Cargo.lock) $(shell find wheel-data -type f)

.PHONY: help
help: ## lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

.PHONY: tools
tools: ## installs the programs that tests and demo need, if missing
	@scripts/install-tools.sh

$(VENV)/.dev: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed ('$(PYTHON)' is not here)" >&2; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check 'pip>=25.1'
	$(PY) -m pip install -q --disable-pip-version-check --group dev
	touch $@

# The wheel that users get: release profile, installed, not linked to the sources. Here it ends the process if
# a thread drops a Python object without the GIL (docs/design/async-io.md, F5).
$(VENV)/.installed: $(VENV)/.dev $(SOURCES)
	@command -v cargo >/dev/null || { echo "Rust is needed: https://rustup.rs installs it" >&2; exit 1; }
	rm -rf target/wheels
	RUSTFLAGS="--cfg pyo3_disable_reference_pool" VIRTUAL_ENV=$(CURDIR)/$(VENV) \
	  $(VENV)/bin/maturin build --release --interpreter $(PY) --out target/wheels
	$(PY) -m pip install -q --disable-pip-version-check --force-reinstall --no-deps target/wheels/fvd-*.whl
	touch $@

.PHONY: build
build: $(VENV)/.installed ## builds the package, installs it into .venv
	@$(VENV)/bin/fvd --version

.PHONY: demo
demo: tools build ## the main use on a real disk, explained step by step
	@scripts/demo.sh

.PHONY: test
test: ## everything: tools, build, lints, Rust tests, demo, Python tests
	@MAKE="$(MAKE)" scripts/test.sh

.PHONY: lint lint-rust lint-python lint-words crates stubs
lint: lint-words lint-rust lint-python stubs crates ## all lints; changes nothing
lint-words: $(VENV)/.dev
	$(VENV)/bin/typos
lint-rust:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
lint-python: $(VENV)/.dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy --strict
crates:
	@$(PYTHON) scripts/check_crates.py
stubs: $(VENV)/.installed
	MYPYPATH=python $(PY) -m mypy.stubtest --mypy-config-file pyproject.toml fvd._fvd

.PHONY: generated
generated: $(VENV)/.installed ## makes completions, man pages and JSON schemas again, which are kept with the sources
	$(PY) -m scripts.generated
	$(PY) -m scripts.schemas

.PHONY: format
format: $(VENV)/.dev ## formats the sources in place
	cargo fmt --all
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

.PHONY: test-rust test-doc test-python
test-rust: ## Rust tests (with cargo nextest if it is installed)
ifeq ($(NEXTEST),yes)
	cargo nextest run --workspace
else
	cargo test --workspace --exclude fvd-py --all-targets
endif
test-doc:
	cargo test --workspace --doc
test-python: $(VENV)/.installed ## Python tests; ARGS='-k corpus' goes to pytest
	$(PY) -m pytest $(ARGS)

.PHONY: test-mutations
test-mutations: ## checks that the simulator finds deliberate faults of the engine; MUTATION=NAME selects one
	$(if $(MUTATION),FVD_MUTATION=$(MUTATION)) cargo test --workspace --features fvd-sim/mutations --test faulty_engine -- --nocapture

.PHONY: crash fuzz sim loom bench bench-nbd bench-postmark bench-boot bench-boots
crash: ## power cuts at every I/O boundary, FVD_CRASH_IMAGES (15000) of them, and 5000 of new seeds; SEED=N replays one run
	$(if $(SEED),FVD_CRASH_SEED=$(SEED)) cargo test --workspace --test crash -- --nocapture
fuzz: ## a million mutated headers, journals, images, qcow2 bases, NBD streams and sessions, in release mode; SEED=N replays
	FVD_FUZZ_ITERATIONS=$${FVD_FUZZ_ITERATIONS:-1000000} $(if $(SEED),FVD_FUZZ_SEED=$(SEED)) \
		cargo test --workspace --release --test fuzz -- --nocapture
# Uses the test profile: optimised, with assertions and overflow checks. New seeds each time.
sim: ## whole sessions of the engine for SECONDS (600) or SESSIONS=N; SEED=N replays one run with a trace
	$(if $(SEED),FVD_SIM_SEED=$(SEED),FVD_SIM_START=$${FVD_SIM_START:-$$((RANDOM * 32768 + RANDOM))}) \
		$(if $(SESSIONS),FVD_SIM_SESSIONS=$(SESSIONS),FVD_SIM_SECONDS=$(or $(SECONDS),600)) \
		cargo test --workspace --test sim -- --nocapture sim_sessions
loom: ## the lock-free protocols of the engine in every interleaving of their threads
	cargo test -p fvd-loom
bench: tools build ## compares speed with qemu-img and os.pread; ARGS='convert open' selects
	$(PY) -m benches.compare $(ARGS)
bench-nbd: tools build ## compares fvd serve with qemu-nbd and nbdkit; ARGS='--only randread32' selects
	$(PY) -m benches.nbd $(ARGS)
# Needs root, and what is only measured here: apt-get install postmark libnbd-bin fuse3
bench-postmark: build ## PostMark on overlays served by fvd serve and qemu-nbd; ARGS='--rounds 7 --cache none'
	$(PY) -m benches.nbd.postmark $(ARGS)
# Needs root, and what is only measured here: apt-get install debootstrap qemu-system-x86
bench-boot: build ## boots of a Debian machine whose base is far away; ARGS='--delay 30 --only fvd,qcow2'
	$(PY) -m benches.nbd.boot $(ARGS)
# Needs root, and what is only measured here: apt-get install debootstrap qemu-system-x86 qemu-block-extra
bench-boots: tools build ## the same with a base on a web server that is far away; ARGS='--rate 100 --only "fvd;local"'
	$(PY) -m benches.boot $(ARGS)

.PHONY: docs msrv advisories wheel
docs: $(VENV)/.installed ## the site with guide, commands and reference, in target/site; a broken link is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps -p fvd -p fvd-nbd
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet
	cp -r target/doc target/site/rust
msrv: ## builds with the oldest supported Rust (rustup fetches it)
	rustup toolchain install --profile minimal $(MSRV)
	cargo +$(MSRV) check --workspace
advisories: ## finds crates with known vulnerabilities; fetches cargo-deny and its database
	cargo install --locked cargo-deny
	cargo deny check
wheel: ## the wheel, in target/wheels
	$(PYTHON) -m pip install -q 'maturin>=1.16,<2'
	$(PYTHON) -m maturin build --release --interpreter $(PYTHON) --out target/wheels

.PHONY: clean
clean: ## removes everything that make has created
	rm -rf target $(VENV) demo-disks benches/results .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
