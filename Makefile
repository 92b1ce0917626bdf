# Everything runs in virtual environments made here, so the machine's own Python stays untouched.

# Any of these will do if it is Python 3.11 or later; `make demo PYTHON=/path/to/python` names another.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell \
	$(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))

DEMO := .venv
TEST := .venv-test
TENSORS := .venv-tensors
DEV := .venv-dev
DOCS := .venv-docs
BENCH_ENV := .venv-bench
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start many processes, and each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-thorough test-tensors check docs bench clean python

help:
	@echo "make demo   all metrics on photographs, anomaly detectors side by side ($(DEMO))"
	@echo "make test   run the everyday tests with coverage          (environment: $(TEST))"
	@echo "make test-tensors  test arrays of PyTorch and JAX         (environment: $(TENSORS))"
	@echo "make test-thorough  all tests, and up to 300 examples of a property (environment: $(TENSORS))"
	@echo "make check  format, lint, types, import rules             (environment: $(DEV))"
	@echo "make docs   build the documentation in build/docs         (environment: $(DOCS))"
	@echo "make bench  measure imsim against other libraries, 20 min (environment: $(BENCH_ENV))"
	@echo "make clean  remove the environments and everything built"

demo: $(DEMO)/installed
	$(DEMO)/bin/python examples/compare_photographs.py
	$(DEMO)/bin/python examples/anomaly_detection.py -o build/anomaly_report

test: $(TEST)/installed
	$(TEST)/bin/python -m pytest -n auto --cov --cov-report=term-missing --cov-fail-under=95

test-thorough: $(TENSORS)/installed
	$(TENSORS)/bin/python -m pytest -n auto --thorough

test-tensors: $(TENSORS)/installed
	$(TENSORS)/bin/python -m pytest -n auto tests/tensors

check: $(DEV)/installed
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/ruff check .
	$(DEV)/bin/mypy
	$(DEV)/bin/python -m pytest -q tests/test_import_arrows.py

# Warnings are errors, and so is a reference that leads nowhere (-n). Nothing is fetched.
docs: $(DOCS)/installed
	rm -rf docs/generated build/docs
	$(DOCS)/bin/python -m sphinx -W --keep-going -n -q -d build/doctrees docs build/docs
	@echo "open build/docs/index.html"

# BENCH="--quick" takes few rounds and writes nothing outside build/. SUITE="" runs the whole suite of
# pytest-benchmark, which takes half an hour; by default it runs one size.
SUITE ?= -k 512-batch1-
bench: $(BENCH_ENV)/installed
	-$(MAKE) --no-print-directory $(BENCH_ENV)-ism/installed
	$(BENCH_ENV)/bin/python -m pytest -q benchmarks/test_agreement.py benchmarks/test_parity.py
	-$(if $(BENCH),,$(BENCH_ENV)/bin/python -m benchmarks.parity)
	-$(if $(BENCH),,$(BENCH_ENV)/bin/python -m benchmarks.parity_tensors)
	$(BENCH_ENV)/bin/python -m benchmarks.report $(BENCH)
	mkdir -p build
	$(BENCH_ENV)/bin/python -m pytest -q benchmarks/test_metrics.py $(SUITE) --benchmark-sort=name \
		--benchmark-columns=min,median,iqr,rounds --benchmark-json=build/benchmark.json

clean:
	rm -rf $(DEMO) $(TEST) $(TENSORS) $(DEV) $(DOCS) $(BENCH_ENV) $(BENCH_ENV)-ism build dist docs/generated docs/auto_examples .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage imsim-report
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(DEMO)/installed: EXTRA := [network]
$(TEST)/installed: EXTRA := [test]
$(DEV)/installed: EXTRA := [dev]
$(DOCS)/installed: EXTRA := [docs]

# The stamp is written last: an interrupted installation starts again from nothing.
$(DEMO)/installed $(TEST)/installed $(DEV)/installed $(DOCS)/installed: pyproject.toml | python
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --editable '.$(EXTRA)'
	@touch $@

$(BENCH_ENV)/installed: pyproject.toml benchmarks/requirements.txt | python
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --editable '.[anomaly]' -r benchmarks/requirements.txt
	$(@D)/bin/python -m pip install --quiet --no-deps piq==0.8.0
	@touch $@

# PyTorch is installed first, and alone: its release decides what the rest may bring along.
$(TENSORS)/installed: pyproject.toml tests/tensors/requirements.txt | python
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet -r tests/tensors/requirements.txt
	$(@D)/bin/python -m pip install --quiet --editable '.[test]'
	@touch $@

# A peer that needs NumPy 1 and Python 3.11; without it the rest is measured all the same.
ISM_PYTHON ?= python3.11
$(BENCH_ENV)-ism/installed: benchmarks/requirements-ism.txt
	rm -rf $(@D)
	$(ISM_PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet -r benchmarks/requirements-ism.txt
	$(@D)/bin/python -m pip install --quiet --no-deps image-similarity-measures==0.3.6 phasepack==1.5
	@touch $@

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "imsim needs Python 3.11 or later; '$(PYTHON)' is not one." >&2; \
		echo "Install it, or name it: make demo PYTHON=/path/to/python3.12" >&2; exit 1; }
