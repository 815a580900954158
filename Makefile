# Two commands do everything on a fresh machine: `make demo` and `make test`. Both set up .venv by themselves.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-web check docs examples cases claims peers clean

demo: .venv/ready
	$(BIN)/linernotes demo -o demo-out

test: .venv/ready
	$(BIN)/pytest

# The desk in a real browser: Debian's chromium, or CHROMIUM=PATH. Says so and skips where there is none.
test-web: .venv/web
	$(BIN)/pytest -m web tests/web

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for scripts in "dev/*.py" dev/cases dev/peers; do $(BIN)/mypy --config-file dev/mypy.ini $$scripts || exit 1; done
	$(BIN)/lint-imports

# The documentation as a site in site/; a broken link or anchor fails (with --quiet none would).
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

examples: .venv/ready
	$(BIN)/pytest -m examples

# Every small awkward input of ../shared/cases (or of MAKER), and whether it comes out right.
cases: .venv/ready
	$(BIN)/python dev/cases $(MAKER)

# A small form of every command in README's table of figures, so that none rots.
claims: .venv/peers
	dev/claims.sh

# Scores, time and memory beside kronfluence, dattri and captum.
peers: .venv/peers
	OMP_NUM_THREADS=1 $(BIN)/python dev/peers

# kronfluence names torchvision and never imports it.
.venv/peers: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[peers]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps kronfluence
	touch $@

.venv/web: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[web]'
	touch $@

.venv/docs: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

# Torch goes first and by itself: with it in place nothing pulls another build.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "linernotes needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv demo-out site
