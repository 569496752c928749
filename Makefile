# On a fresh machine with Python 3.11, make and a C++ compiler: `make demo`, `make test`. Both set up .venv first.
PYTHON ?= python3.11
BIN := .venv/bin
# bytecode is kept, whatever the shell says: without it every process compiles all modules again
export PYTHONDONTWRITEBYTECODE :=
# cmake and ninja of the machine, or those that .venv gets where it has none
export PATH := $(PATH):$(CURDIR)/$(BIN)
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(BIN)/pytest -n 2 --dist worksteal
BENCHMARKS := $(filter-out benchmarks/__init__.py benchmarks/harness.py benchmarks/digits_chains.py benchmarks/boundaries.py benchmarks/figures.py,$(wildcard benchmarks/*.py))
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

NATIVE := $(shell find native -type f)
CORE := cmake -G Ninja -S native -DHECOMPILE_TESTS=ON

.PHONY: demo demo-text test lint docs core-tests sanitize constant-time aarch64 quick coverage fhe slow long smoke bench wheel fuzz fuzz-networks venv nginx browser valgrind clean

demo: venv
	$(BIN)/python examples/demo.py

demo-text: venv
	$(BIN)/python examples/demo_text.py

test: lint docs core-tests sanitize constant-time aarch64 quick long smoke

venv: .venv/core

# torch first and pinned: a resolver that sees it installed does not look for another build.
# Concrete ML pins an old torch, so it goes in without its dependencies, after the companions it really needs.
.venv/ready: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip setuptools wheel
	$(PIP) torch numpy
	$(PIP) scikit-build-core nanobind
	for each in cmake ninja; do command -v $$each >/dev/null || $(PIP) $$each; done
	$(PIP) --no-build-isolation -e '.[all,test,concrete]'
	$(PIP) --no-deps concrete-ml brevitas dependencies unfoldNd
	touch $@

# the extension module again, after an edit of its sources: only what changed is compiled
.venv/core: .venv/ready $(NATIVE)
	$(PIP) --no-build-isolation --no-deps -e .
	touch $@

# for tests/deploy; unpacked, not installed, so that no service starts. No error where that fails: those tests are skipped then
nginx: venv
	@PATH="$$PATH:/usr/sbin:.venv/nginx/usr/sbin"; command -v nginx >/dev/null || { \
	mkdir -p .venv/nginx && cd .venv/nginx && { apt-get download nginx || { apt-get update && apt-get download nginx; }; } \
	&& dpkg -x nginx_*.deb .; } >/dev/null 2>&1 || true

# for tests of pages; no error where it may not be installed: those tests are skipped then
browser:
	@command -v chromium >/dev/null || { sudo=; test $$(id -u) = 0 || sudo="sudo -n"; \
	$$sudo apt-get install -y --no-install-recommends chromium || { $$sudo apt-get update && $$sudo apt-get install -y --no-install-recommends chromium; }; } \
	>/dev/null 2>&1 || true

# for constant-time: the program and its header
valgrind:
	@command -v valgrind >/dev/null && echo '#include <valgrind/memcheck.h>' | $${CXX:-c++} -E -x c++ - >/dev/null 2>&1 || { \
	mkdir -p .venv/valgrind && cd .venv/valgrind && { apt-get download valgrind || { apt-get update && apt-get download valgrind; }; } \
	&& dpkg -x valgrind_*.deb .; } >/dev/null 2>&1 || true

lint: build/native/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/typos
	$(BIN)/hadolint deploy/Dockerfile.server deploy/Dockerfile.client
	$(BIN)/python -m release.licences --check
	$(BIN)/python -m release.decisions --check
	! git rev-parse --git-dir >/dev/null 2>&1 || $(BIN)/python -m release.committed
	$(BIN)/clang-format --dry-run -Werror $(filter %.cpp %.h %.inl,$(NATIVE))
	$(BIN)/run-clang-tidy.py -quiet -j 2 -config-file native/.clang-tidy -clang-tidy-binary $(BIN)/clang-tidy -p build/native \
	'/native/(core|hooks|kernels|python|tests)/' >build/native/tidy.log 2>&1 || { cat build/native/tidy.log; false; }

# these pages as a site in build/docs; a warning, such as a link that leads nowhere, is an error
docs: venv
	$(BIN)/sphinx-build -q -E -W --keep-going -n -b html docs build/docs

# the core's own tests, and the module of test hooks, which is never installed
build/native/ready: .venv/core | valgrind
	$(CORE) -B build/native -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python -DCMAKE_PREFIX_PATH=$(CURDIR)/.venv/valgrind/usr >/dev/null
	cmake --build build/native
	touch $@

# each program goes through the kernels that this processor runs
core-tests: build/native/ready
	ctest --test-dir build/native --output-on-failure -j 2

# faults of memory and arithmetic that is not defined; fewer random cases, as each costs many times as much
sanitize: venv
	$(CORE) -B build/sanitize -DHECOMPILE_PYTHON=OFF -DHECOMPILE_SANITIZE=address,undefined >/dev/null
	cmake --build build/sanitize
	HECOMPILE_TEST_CASES=3 ctest --test-dir build/sanitize --output-on-failure -j 2

constant-time: build/native/ready
	native/tests/constant_time.sh build/native $(CURDIR)/.venv/valgrind

aarch64: venv
	native/tests/aarch64.sh build/aarch64 $(CURDIR)/.venv/aarch64

# a third process for those that wait for each other; only slow tests use Schemathesis, whose plugin takes seconds to import
quick: venv build/native/ready
	$(PYTEST) -n 3 -p no:schemathesis -m 'not fhe and not slow'

# how much of the library the quick suite runs: told in CONTRIBUTING.md
coverage: venv build/native/ready
	mkdir -p build/coverage
	$(PYTEST) -n 3 -p no:schemathesis -m 'not fhe and not slow' --cov --cov-report= --cov-report=json
	$(BIN)/python -m release.coverage build/coverage/report.json
	$(BIN)/python benchmarks/figures.py

fhe: venv build/native/ready
	$(PYTEST) -m 'fhe and not slow'

slow: venv build/native/ready nginx browser
	$(PYTEST) -m slow

# both at once: what they import and compile is needed by both
long: venv build/native/ready nginx browser
	$(PYTEST) -m 'fhe or slow'

smoke: venv
	printf '%s\n' $(BENCHMARKS) | $(ONE_THREAD) xargs -P 2 -I each $(BIN)/python each --smoke --json
	$(BIN)/python benchmarks/figures.py --smoke

bench: venv
	set -e; for each in $(filter-out benchmarks/sd_unet.py,$(BENCHMARKS)); do $(BIN)/python $$each --json | tail -1 > benchmarks/results/$$(basename $$each .py).json; done
	$(BIN)/python benchmarks/digits.py --backend ckks --json | tail -1 > benchmarks/results/digits_ckks.json
	$(BIN)/hecompile measure-machine -o build/machine.json
	$(BIN)/python benchmarks/sd_unet.py --machine build/machine.json --link 1000mbit/5ms --json | tail -1 > benchmarks/results/sd_unet.json
	$(BIN)/python benchmarks/sd_unet.py --machine build/machine.json --client-weights-mib 64 --json | tail -1 > benchmarks/results/sd_unet_optimised.json
	$(BIN)/python benchmarks/figures.py

# a manylinux wheel for each of CPython 3.11 to 3.13, tried in fresh environments without a compiler; logs and SBOMs beside them.
# RELEASE=--skip-missing if an interpreter may be missing. torch only where a build for the CPU is to be had
wheel: venv
	$(BIN)/python -m release --with-torch 3.11 $(RELEASE)

# damages everything that a client loads at random for ten minutes: only ProtocolError may follow, within bounded memory
fuzz: venv
	HECOMPILE_FUZZ_SECONDS=1000 $(PYTEST) tests/fuzz/test_artifacts.py tests/fuzz/test_documents.py --timeout 1200

# networks made at random, compiled and compared: 413 took 130 s on two cores
fuzz-networks: venv
	HECOMPILE_FUZZ_EXAMPLES=2000 $(PYTEST) -m slow tests/fuzz/test_networks.py --timeout 7200

clean:
	rm -rf .venv .compiled .artifacts out build dist *.egg-info
