# Everything here works from a fresh clone with Python 3.10 or newer and a package index.
#
#   make demo       an adversarial patch against the packaged model, on its integer engine
#   make test       lint, types, all tests, the wheel in an empty environment
#   make test-fast  the tests without the slow ones: the inner loop
#
# PYTHON=python3.12 chooses the interpreter; PIP_ARGS is handed to pip (on Linux a CPU-only index
# for torch saves gigabytes); REQUIRE=ort,trt turns skips for want of those into failures.

PYTHON ?= python3
PIP_ARGS ?=
REQUIRE ?= ort,torch
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := train,onnx,ort,openvino,litert,trt-rtx,report,loadgen,peers,docs,dev
DEMO := runs/demo
QADTR := QADTR_RUNS=$(DEMO) $(BIN)/qadtr-edge

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo quickstart test test-fast lint types install clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo 'Python 3.10 or newer is needed: make PYTHON=python3.12' >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	  || { echo 'This Python has no venv: on Debian, apt-get install python3-venv' >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

demo: $(READY)
	$(QADTR) export --engine ort
	$(QADTR) verify --engine ort
	$(QADTR) attack --engine ort
	$(QADTR) bench --engine ort
	$(QADTR) report

# The run that README quotes: the same on a quiet machine, from scratch, its evidence kept.
quickstart: $(READY)
	rm -rf runs/quickstart
	$(MAKE) demo DEMO=runs/quickstart
	cp runs/quickstart/*/report.md benchmarks/results/quickstart.md
	cp runs/quickstart/*/results.jsonl benchmarks/results/quickstart.jsonl

# Each of the two test processes keeps to one core.
test test-fast: export OMP_NUM_THREADS := 1

test: lint types
	QADTR_REQUIRE=$(REQUIRE) $(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: $(READY)
	$(BIN)/python -m pytest -q -m 'not slow' -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis $(DEMO)
