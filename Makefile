# demo  what MotionGear does, end to end, on made-up disks      (DEMO_ARGS)
# test  all tests, fast                                         (PYTEST_ARGS)
# check the linters, then all tests with the coverage gate      (PYTEST_ARGS)
# bench what it costs beside what people use today              (BENCH_ARGS, BENCH_DIR)
# chaos a migration by seeds, killed and troubled on its way    (CHAOS_ARGS)
# screenshots  pictures of every screen of the console       (SCREENS)
# fuzz  all parsers of foreign bytes, with a fuzzer             (FUZZ_RUNS, FUZZ_TARGETS)
# man   write the manual page anew, from the verbs themselves
# errors write the page of errors anew, from the program
# locale find what is said in the sources, bring the catalogues up to date
# lock  pin anew what requirements/*.in ask for                 (LOCK_ARGS=--upgrade)
# clean remove what these made

PYTHON ?= /usr/bin/python3
BIN := .venv/bin
SCREENS ?= build/screens
PIP := $(BIN)/pip install -qq --disable-pip-version-check
# A test file stays in one process: what it shares is made once.
SIDE_BY_SIDE := --numprocesses auto --dist loadfile

.PHONY: demo test check screenshots chaos fuzz bench errors man locale lock clean prepare-run prepare-test prepare-bench
.NOTPARALLEL:

demo: .venv/project
	$(BIN)/motiongear demo $(DEMO_ARGS)

test: prepare-test .venv/project .venv/dev
	$(BIN)/pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

check: prepare-test .venv/project .venv/dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/vulture
	$(BIN)/deptry appliance
	$(BIN)/bandit --quiet --ini setup.cfg --recursive appliance
	$(BIN)/codespell
	$(BIN)/pytest --cov --cov-report= $(SIDE_BY_SIDE) $(PYTEST_ARGS)
	$(BIN)/coverage report --include='appliance/seal/*' --fail-under=100
	$(BIN)/coverage report --omit='appliance/seal/*' --fail-under=90

# Stories of the console, with a picture of every screen they see.
screenshots: prepare-test .venv/project .venv/dev
	MOTIONGEAR_PICTURES=$(SCREENS) $(BIN)/pytest $(SIDE_BY_SIDE) tests/test_console_journey.py \
	  tests/test_console_following.py tests/test_console_shipment.py \
	  tests/test_console_screens.py tests/test_console_demo.py
	@ls $(SCREENS)

bench: prepare-bench .venv/project
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

chaos: prepare-test .venv/project .venv/dev
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

fuzz: prepare-test .venv/project .venv/dev
	$(BIN)/python -m tests.fuzz $(FUZZ_TARGETS)

man: .venv/project
	$(BIN)/python -m tools.man_page >docs/man/motiongear.1

errors: .venv/project
	$(BIN)/python -m tools.errors_page >docs/errors.md

locale: .venv/project .venv/dev
	$(BIN)/python -m tools.locale

lock: .venv/dev
	for part in build runtime dev; do \
	  $(BIN)/uv pip compile --no-config --quiet --universal --python-version 3.11 \
	    --generate-hashes --custom-compile-command 'make lock' $(LOCK_ARGS) \
	    --output-file requirements/$$part.txt requirements/$$part.in || exit; \
	done

clean:
	rm -rf .venv build motiongear.egg-info .coverage .coverage.* .hypothesis
	rm -rf .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

prepare-run:
	@sh tools/prepare-debian run

prepare-test:
	@sh tools/prepare-debian test

prepare-bench:
	@sh tools/prepare-debian bench

# The environment, in the order in which its parts change: each file is written when its part is in.

.venv/runtime: requirements/build.txt requirements/runtime.txt | prepare-run
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(PIP) --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	touch $@

.venv/project: .venv/runtime setup.cfg pyproject.toml
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

.venv/dev: .venv/runtime requirements/dev.txt
	$(PIP) --require-hashes -r requirements/dev.txt
	touch $@
