# Two commands are all a newcomer needs: `make test` and `make demo`. Both set up what they need.
#
#   .venv            the source tree (editable): lint, types, the tests interpreted
#   .venv-compiled   the wheel, compiled by mypyc: the tests compiled, the demo, the benchmarks

PYTHON ?= python3
# CI builds at this level too: a cold build takes about 3.3 CPU minutes, at -O2 no less.
OPT_LEVEL ?= 3
JOBS ?= auto
PYTEST_ARGS ?=
PARITY_ARGS ?=
PIP_QUIET ?= --quiet --disable-pip-version-check

DEV := .venv
FAST := .venv-compiled
SOURCES := $(shell find src -name '*.py' 2>/dev/null)
PATHS := src tests setup.py build_backend.py $(wildcard benchmarks) $(wildcard examples)

# What is tested is this Makefile's choice, not that of the shell it is called from.
unexport AFINET_PURE PYTHONPATH
.DELETE_ON_ERROR:
.PHONY: all help test lint types layers test-pure test-compiled test-builds parity wire wire-slow demo bench bench-wire wheel clean distclean

all: help

help:
	@sed -n '1,5p' Makefile
	@echo 'targets: test lint test-pure test-compiled test-builds wire parity demo bench bench-wire wheel clean'

$(DEV)/.done: pyproject.toml
	@echo '== setting up $(DEV)'
	@test -x $(DEV)/bin/python || $(PYTHON) -m venv $(DEV)
	@$(DEV)/bin/pip install $(PIP_QUIET) --upgrade 'pip>=23.2'
	@$(DEV)/bin/pip install $(PIP_QUIET) -e '.[dev]'
	@touch $@

# The wheel is made in the development environment, where mypyc is; what was compiled before and has not changed
# is not compiled again. Falling back to pure Python is an error here.
dist/.done: $(DEV)/.done $(SOURCES) pyproject.toml setup.py build_backend.py
	@echo '== building the wheel (mypyc, -O$(OPT_LEVEL)): a few minutes the first time'
	@rm -rf dist && mkdir -p dist
	@mkdir -p build
	@AFINET_REQUIRE_COMPILED=1 AFINET_OPT_LEVEL=$(OPT_LEVEL) $(DEV)/bin/pip wheel $(PIP_QUIET) . --no-deps \
		--no-build-isolation -w dist > build/wheel.log 2>&1 || { tail -n 60 build/wheel.log; exit 1; }
	@ls -1 dist
	@touch $@

$(FAST)/.done: dist/.done
	@echo '== installing the wheel in $(FAST)'
	@test -x $(FAST)/bin/python || $(PYTHON) -m venv $(FAST)
	@wheel=$$(ls dist/*.whl); $(FAST)/bin/pip install $(PIP_QUIET) "$$wheel[test]" && \
		$(FAST)/bin/pip install $(PIP_QUIET) --force-reinstall --no-deps "$$wheel"
	@$(FAST)/bin/afinet --version
	@touch $@

wheel: dist/.done

lint: $(DEV)/.done
	@echo '== ruff'
	@$(DEV)/bin/ruff check $(PATHS)
	@echo '== mypy --strict'
	@$(DEV)/bin/mypy
	@echo '== layers'
	@AFINET_PURE=1 $(DEV)/bin/pytest -q tests/test_layers.py

# pytest's output goes through tee so that .ci/run can repeat its closing line.
define run_pytest
@mkdir -p build
@echo '== pytest, $(1)'
@set -o pipefail; $(2) -n $(JOBS) -m 'not build and not wire' $(PYTEST_ARGS) 2>&1 | tee build/pytest-$(1).log
endef

test-pure: SHELL := /bin/bash
test-pure: $(DEV)/.done
	$(call run_pytest,interpreted,AFINET_PURE=1 AFINET_EXPECT=pure $(DEV)/bin/pytest)

test-compiled: SHELL := /bin/bash
test-compiled: $(FAST)/.done
	$(call run_pytest,compiled,env -u AFINET_PURE AFINET_EXPECT=compiled $(FAST)/bin/pytest)

test-builds: SHELL := /bin/bash
test-builds: $(FAST)/.done
	@echo '== pytest, the builds themselves'
	@set -o pipefail; AFINET_WHEEL=$$(ls dist/*.whl) $(DEV)/bin/pytest -m build tests/test_builds.py \
		2>&1 | tee build/pytest-builds.log

test:
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test-pure
	@$(MAKE) --no-print-directory test-compiled
	@$(MAKE) --no-print-directory test-builds
	@echo '== all passed'
	@for log in interpreted compiled builds; do printf '%-12s %s\n' $$log "$$(tail -n 1 build/pytest-$$log.log)"; done

# Real time and the running kernel as peer: as root, where there is /dev/net/tun; elsewhere the tests skip, and say so. One after the
# other. Everything compiled; interpreted, what the driver of devices and descriptors does.
WIRE_ARGS ?=
wire: SHELL := /bin/bash
wire: $(FAST)/.done $(DEV)/.done
	@mkdir -p build
	@echo '== pytest, compiled, the kernel as peer'
	@set -o pipefail; AFINET_EXPECT=compiled $(FAST)/bin/pytest -m 'wire and not slow' tests/runner tests/wire_real $(WIRE_ARGS) \
		2>&1 | tee build/pytest-wire.log
	@echo '== pytest, interpreted, the kernel as peer'
	@set -o pipefail; AFINET_PURE=1 AFINET_EXPECT=pure $(DEV)/bin/pytest -m 'wire and not slow' tests/runner \
		tests/wire_real/test_capture.py $(WIRE_ARGS) 2>&1 | tee build/pytest-wire-pure.log

# 100 MB each way through 10 ms and 1 % loss: minutes each.
wire-slow: $(FAST)/.done
	@$(FAST)/bin/pytest -s -m 'wire and slow' tests/wire_real

# The running kernel answers the same questions beside us: root, Linux 6.18.
parity: $(DEV)/.done
	@AFINET_PURE=1 $(DEV)/bin/python -m tests.parity $(PARITY_ARGS)

demo: $(FAST)/.done
	@$(FAST)/bin/afinet run examples/quickstart.py

bench: $(FAST)/.done
	@$(FAST)/bin/python -m benchmarks

# As root: network namespaces, TUN devices, and the kernel's own TCP beside afinet's. Options: BENCH_ARGS='--seconds 5 --only "bulk in"'
BENCH_ARGS ?=
bench-wire: $(FAST)/.done
	@$(FAST)/bin/python -m benchmarks wire $(BENCH_ARGS)

clean:
	rm -rf build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -not -path './.venv*' -exec rm -rf {} +

distclean: clean
	rm -rf $(DEV) $(FAST)
