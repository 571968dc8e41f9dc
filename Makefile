# Everything a person types: `make demo` and `make test` do all their own set-up, into .venv. `make help` lists the rest.

PYTHON ?= python3
PORT ?= 7860
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := visionkit tasks datamodules ui
# make's own job slots would mix the output of lint and tests.
.NOTPARALLEL:
.PHONY: help install demo test lint format mutation slow bench screenshots lock clean

help:
	@echo "make demo     set up and open the web demo on http://127.0.0.1:$(PORT) (PORT=... changes it)"
	@echo "make test     set up, lint, run the tests, $(JOBS) at a time (JOBS=... changes it)"
	@echo "make install  set up alone: .venv, from requirements.lock (PYTHON=... chooses the interpreter)"
	@echo "make lint     ruff, mypy, import-linter"
	@echo "make format   let ruff rewrite what it can"
	@echo "make slow     the tests that take minutes"
	@echo "make mutation  change the core a little, again and again: which change does no test notice?"
	@echo "make bench    the benchmarks"
	@echo "make screenshots  take the images of the demo in docs/images again (needs Debian's chromium)"
	@echo "make lock     resolve pyproject.toml again into requirements.lock"
	@echo "make clean    remove .venv and caches; runs and data stay"

install: $(STAMP)

# The stamp makes a second run free. Bytecode is compiled here, the project's own too: where PYTHONDONTWRITEBYTECODE is
# set, as in most containers, every command would otherwise compile all that it imports, 20 s of a processor. uv comes
# first, by pip and by its hash in the lock; then everything else by uv, since pip may take a torch for which no
# torchvision exists.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "visionkit needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1): make install PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q -j 0 $(PACKAGES)
	@touch $@

demo: install
	$(BIN)/visionkit serve --port $(PORT)

# Each worker begins with a part of the files in order; one that has nothing left takes tests from the other.
test: lint
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(JOBS) --dist worksteal --durations 10

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

mutation: install
	$(BIN)/python -m tests.mutation --jobs $(JOBS)

slow: install
	$(BIN)/python -m pytest -m slow

bench: install
	$(BIN)/python -m benchmarks

screenshots: install
	$(BIN)/python -m tests.ui.screenshots

# --universal: one file for every Python from 3.11 on and every system. It names no index, so any mirror may serve it.
lock: $(BIN)/uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev --no-annotate \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --upgrade \
	  pyproject.toml --output-file requirements.lock

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
