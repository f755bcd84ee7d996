# Two commands do all the set-up on a machine with Python 3.11 or newer and make: `make conformance` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
REPORT ?= conformance-report
PYTEST := $(BIN)/python -m pytest
# An editable install compiles them, once for all environments: the module lies in backends/.
NATIVE := setup.py $(wildcard backends/_native/*.[ch])

.PHONY: selftest help setup test conformance conformance-isolated bench bench-check lint format wheel clean

help:
	@echo "make conformance   check every loss on every backend and write $(REPORT)/index.html"
	@echo "make conformance-isolated   the same with torch and Paddle in environments of their own"
	@echo "make selftest      plant defects in the losses and show that the suite sees each"
	@echo "make test          run the tests"
	@echo "make bench         measure every loss against other libraries; renews docs/benchmarks.md (BENCH=--quick: half an hour)"
	@echo "make bench-check   the regression gate: two minutes, ratios to other libraries in the same rounds"
	@echo "make lint          ruff, the C compiler's warnings, and mypy --strict against the installed package"
	@echo "make format        let ruff format and fix"
	@echo "make wheel         build the wheel and use it outside the checkout"

setup: $(STAMP)

$(STAMP): constraints.txt pyproject.toml $(NATIVE)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "UniLossSeg needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[torch,paddle,dev]'
	touch $@

# torch and Paddle in one process can crash each other: each gets a process of its own. What checks values runs once more without
# the compiled loops. Triton is imported with its compiler or its interpreter: kernels for a GPU have a process of their own too.
FALLBACK := $(addprefix tests/test_,golden.py reference.py properties.py operations.py)
test: setup
	$(BIN)/unilossseg capabilities --check
	$(PYTEST) tests --ignore=tests/torch --ignore=tests/paddle
	UNILOSSSEG_LOOPS=numpy $(PYTEST) $(FALLBACK)
	$(PYTEST) tests/torch
	TRITON_INTERPRET=1 $(PYTEST) tests/torch/kernels
	$(PYTEST) tests/paddle

conformance: setup
	$(BIN)/unilossseg conformance run --out $(REPORT)
	@echo "The report lies in $(abspath $(REPORT))/index.html"

# Each framework in an environment that lacks the other, both with the command line (record, replay, compare); the run itself
# lives in torch's. Remade when the versions change.
conformance-isolated: .venv-torch/.installed .venv-paddle/.installed
	! .venv-torch/bin/python -c 'import paddle' 2>/dev/null
	! .venv-paddle/bin/python -c 'import torch' 2>/dev/null
	.venv-torch/bin/unilossseg conformance run --out $(REPORT) \
		--worker torch=.venv-torch/bin/python --worker paddle=.venv-paddle/bin/python
	@echo "The report lies in $(abspath $(REPORT))/index.html"

.venv-torch/.installed: EXTRAS = torch,report
.venv-torch/.installed: FURTHER = array-api-strict
.venv-paddle/.installed: EXTRAS = paddle,report
.venv-torch/.installed .venv-paddle/.installed: constraints.txt pyproject.toml $(NATIVE)
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[$(EXTRAS)]' $(FURTHER)
	touch $@

# Does the suite see? Plants defects in the losses, one by one.
selftest: setup
	$(BIN)/unilossseg conformance selftest

# Each framework with its peers in an environment of its own; this process imports neither. Remade when the versions change.
BENCH_ENVS := .venv-bench-torch/.installed .venv-bench-paddle/.installed
BENCH ?=
bench: setup $(BENCH_ENVS)
	$(BIN)/python -m benchmarks run $(BENCH)

# Not part of `make test`: it measures time.
bench-check: setup $(BENCH_ENVS)
	$(BIN)/python -m benchmarks check

.venv-bench-torch/.installed: EXTRAS = torch
.venv-bench-torch/.installed: PEERS = segmentation-models-pytorch monai kornia kornia_rs
.venv-bench-paddle/.installed: EXTRAS = paddle
.venv-bench-paddle/.installed: PEERS = paddleseg
.venv-bench-paddle/.installed: FURTHER = scipy
$(BENCH_ENVS): constraints.txt benchmarks/constraints.txt pyproject.toml $(NATIVE)
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[$(EXTRAS)]' $(FURTHER)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint benchmarks/constraints.txt --no-deps $(PEERS)
	touch $@

# mypy resolves the two mapped folders in an installed package only: it looks at a fresh copy, never at a stale one.
CHECK_C = $(CC) -std=c11 -Wall -Wextra -Wshadow -Wconversion -Wno-unused-parameter -Werror -fsyntax-only -DPy_LIMITED_API=0x030B0000
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	! command -v $(CC) > /dev/null || $(CHECK_C) -isystem $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))') backends/_native/module.c
	rm -rf build/lint build/lib* && $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target build/lint .
	cp -r benchmarks build/lint/
	cd build/lint && MYPYPATH=. $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml -p unilossseg -p benchmarks

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: setup
	rm -rf build/lib* build/bdist* dist
	$(BIN)/python -m build --wheel --outdir dist .
	sh tests/wheel/check.sh $(BIN)/python dist

clean:
	rm -rf build dist $(REPORT) conformance-repeat .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
